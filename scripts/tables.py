"""Write the tables of the documents from the result files that lie beside them, or check that they still agree.

    python scripts/tables.py            # write
    python scripts/tables.py --check    # exit code 1 where a document says something else

A table stands between `<!-- scores of results/version9.json -->` and `<!-- end -->`; the file is the `summary.json`
that an evaluation leaves in its folder, or what the script writes that its kind of table is named after.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundle.errors import OptionError, explain_errors
from bundle.evaluation.clicks import challenge_table, click_table
from bundle.evaluation.client_table import client_table
from bundle.evaluation.learning_table import (
    answers_table,
    gate_table,
    learning_table,
    loop_table,
    settings_table,
    shown_table,
)
from bundle.evaluation.performance_table import (
    batch_table,
    command_table,
    ratio_table,
    volume_table,
    waiting_table,
    worker_table,
)
from bundle.evaluation.set_tables import expected_table, harm_table, round_table, set_table
from bundle.evaluation.tables import Table, calibration_table, summary_table
from bundle.evaluation.volume_table import (
    challenge_volume_table,
    click_volume_table,
    group_table,
    rule_table,
    stride_table,
    way_table,
)
from bundle.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent
_PLACE = re.compile(r"(<!-- (?P<kind>\w+) of (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Run the command."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = [page for page in pages() if filled(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'differs from its result files' if options.check else 'written'}")
        if not options.check:
            write_text(page, filled(page))
    return 1 if options.check and stale else 0


def pages() -> list[Path]:
    """The documents that may hold tables."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def filled(page: Path) -> str:
    """The text of a document with the tables that its result files give.

    Raises:
        OptionError: a place names a kind of table that does not exist.
    """

    def table(place: re.Match[str]) -> str:
        if place["kind"] not in TABLES:
            raise OptionError(f"{page.name} asks for {place['kind']!r}; tables are {', '.join(TABLES)}")
        made = TABLES[place["kind"]](read_json(page.parent / place["file"]))
        return f"{place.group(1)}{made.as_markdown()}{place.group(4)}"

    return _PLACE.sub(table, page.read_text(encoding="utf-8"))


def scores(result: Mapping[str, Any]) -> Table:
    """DSC and NSD of each prompt and organ, with intervals, of a result with one model."""
    return _of_one_model(summary_table([row for row in result["summary"] if row["score"] in ("dsc", "nsd")]))


def clicks(result: Mapping[str, Any]) -> Table:
    """Number of clicks of each prompt with corrections and organ."""
    return _of_one_model(click_table(result["clicks"]))


def challenge(result: Mapping[str, Any]) -> Table:
    """The CVPR 2025 challenge's four numbers of each prompt with five clicks and organ."""
    return _of_one_model(challenge_table(result["challenge"]))


def calibration(result: Mapping[str, Any]) -> Table:
    """The IoU that is expected after each prompt against the one that is reached."""
    return _of_one_model(calibration_table(result["calibration"]))


def gains(result: Mapping[str, Any]) -> Table:
    """What each strategy of a simulated active learning gains over the baseline, and where it ends."""
    rows = [
        [
            gain["strategy"] + (" (baseline)" if gain["strategy"] == result["baseline"] else ""),
            str(gain["seeds"]),
            f"{gain['mean']:+.3f}" + (f" [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain["seeds"] > 1 else ""),
            f"{gain['last']:.3f}",
        ]
        for gain in result["gains"]
    ]
    return Table(["strategy", "seeds", "mean gain in DSC", "DSC with all labels"], rows, 1)


def load(result: Mapping[str, Any]) -> Table:
    """How long a click waits beside others, in seconds and in clicks alone."""
    alone = result["click_alone_s"]
    rows = [
        [name, f"{result[key]:.2f}", f"{result[key] / alone:.1f}"]
        for name, key in (
            ("alone", "click_alone_s"),
            (f"{result['clients']} clients on two images, median", "click_p50_s"),
            (f"{result['clients']} clients on two images, longest", "click_max_s"),
            (f"beside {result['abandoned']} requests in 3D whose clients left, longest", "click_while_abandoned_max_s"),
        )
    ]
    return Table(["a click", "seconds", "clicks alone"], rows, 1)


def memory(result: Mapping[str, Any]) -> Table:
    """The resident memory over cycles of a server, and of the control that closes no image."""
    rows = [
        [
            {"server": "the server", "control": "the control: no image is closed"}[name],
            str(run["cycles"]),
            f"{run['baseline_mb']:,.1f}",
            f"{run['end_mb']:,.1f}",
            f"{run['growth_kb_per_cycle']:.1f}",
            "flat" if run["is_flat"] else "grows",
        ]
        for name, run in sorted(result.items(), reverse=True)
    ]
    return Table(["", "cycles", "MB after a quarter", "MB at the end", "growth, kB a cycle", "is called"], rows, 1)


def environment(result: Mapping[str, Any], *, shown: int = 10) -> Table:
    """What the largest packages of an environment take on the disk, the others together, and all."""
    gib = {name: one["bytes"] / 2**30 for name, one in result["packages"].items()}
    nvidia = {name: gib.pop(name) for name in list(gib) if name.startswith("nvidia-")}
    parts = {f"CUDA ({len(nvidia)} packages of NVIDIA)": sum(nvidia.values()), **gib} if nvidia else gib
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    others = {f"{len(ranked) - shown} others": sum(size for _, size in ranked[shown:])} if len(ranked) > shown else {}
    whole = result["bytes"] / 2**30
    outside = {"of no package": whole - sum(parts.values())}
    rows = {**dict(ranked[:shown]), **others, **outside, "all": whole}
    return Table(["package", "GiB"], [[name, f"{size:.2f}"] for name, size in rows.items()], 1)


def _of_one_model(whole: Table) -> Table:
    return Table([*whole.columns[1:]], [row[1:] for row in whole.rows], whole.names - 1)


TABLES: Mapping[str, Callable[[Mapping[str, Any]], Table]] = {
    "scores": scores,
    "clicks": clicks,
    "challenge": challenge,
    "calibration": calibration,
    "dialect": client_table,
    "sets": set_table,
    "rounds": round_table,
    "harmed": harm_table,
    "expected": expected_table,
    "ways": way_table,
    "ways_by_group": group_table,
    "ways_clicked": challenge_volume_table,
    "clicks_through_volumes": click_volume_table,
    "following_rules": rule_table,
    "strides": stride_table,
    "gains": gains,
    "learning": learning_table,
    "gate": gate_table,
    "learning_settings": settings_table,
    "loop": loop_table,
    "answers": answers_table,
    "shown": shown_table,
    "load": load,
    "memory": memory,
    "waiting": waiting_table,
    "ratios": ratio_table,
    "volumes": volume_table,
    "batches": batch_table,
    "start": command_table,
    "workers": worker_table,
    "environment": environment,
}


if __name__ == "__main__":
    sys.exit(main())
