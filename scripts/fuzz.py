"""Throws damaged files and requests at every door of the package and reports what is not refused with a sentence.

    python scripts/fuzz.py --control                                  # does it find the faults of a faulty reader?
    python scripts/fuzz.py --state fuzz-state --executions 100000     # a round over every format; Ctrl-C, then again
    python scripts/fuzz.py --state fuzz-state --formats nrrd mha --seconds 600
    python scripts/fuzz.py --state fuzz-state --formats nrrd --guided # the same, guided by the coverage of our checks
    python scripts/fuzz.py --state fuzz-state --report                # the table alone
    python scripts/fuzz.py --formats nrrd --replay fuzz-state/nrrd/findings/crash-12ab34cd/0123456789abcdef.json

See docs/fuzzing.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzzing.campaign import Campaign, campaigns_in, replayed
from fuzzing.case import Bench, Case
from fuzzing.control import CONTROL, EXPECTED
from fuzzing.guided import run_guided
from fuzzing.minimise import minimised
from fuzzing.report import write_report
from fuzzing.targets import TARGETS, Target, import_readers

_MEMORY = Path("/dev/shm")


def main() -> int:
    """Run what the options say; 1 if anything was found, or if the control was not."""
    options = _options()
    bench = Path(tempfile.mkdtemp(prefix="monai-sam-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        if options.control:
            return _control(bench, options.executions or 3000)
        if options.replay:
            return _replay(options, bench)
        if options.minimise:
            return _minimise(options, bench)
        if options.guided:
            return _guided(options, bench)
        if not options.report:
            _rounds(options, bench)
        found = list(campaigns_in(options.state, TARGETS, bench))
        print(write_report(found, options.state))
        return int(any(campaign.open_findings for campaign in found))
    finally:
        Bench(bench).close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"), help="folder that keeps rounds and findings")
    parser.add_argument("--formats", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="FORMAT")
    parser.add_argument("--executions", type=int, help="of each format in a round (100000)")
    parser.add_argument("--seconds", type=float, help="stop each format after this time, to go on another day")
    parser.add_argument("--control", action="store_true", help="fuzz a faulty reader: all its faults must be found")
    parser.add_argument("--guided", action="store_true", help="guided by coverage, with atheris (pip install atheris)")
    parser.add_argument("--report", action="store_true", help="print the table without running anything")
    parser.add_argument("--replay", nargs="+", type=Path, help="run stored inputs of one format again")
    parser.add_argument("--minimise", nargs="+", type=Path, help="write smaller inputs beside stored ones")
    return parser.parse_args()


def _rounds(options: argparse.Namespace, bench: Path) -> None:
    planned = options.executions or 100_000
    with tqdm(total=planned * len(options.formats), unit="run", unit_scale=True, smoothing=0.05) as bar:
        for name in options.formats:
            import_readers([name])
            campaign = Campaign(TARGETS[name], options.state / name, bench, watched=bar.update)
            bar.set_description(name)
            current = campaign.run(planned, seconds=options.seconds)
            tqdm.write(f"{name}: round {current.number}, {current.executions:,} runs, {len(current.findings)} findings")
            write_report(list(campaigns_in(options.state, TARGETS, bench)), options.state)


def _control(bench: Path, executions: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(CONTROL, Path(folder, "control"), bench)
        campaign.run(executions)
        print(write_report([campaign], Path(folder)))
        missing = EXPECTED - {finding.verdict for finding in campaign.findings.values()}
    print(f"the control was not found: {', '.join(sorted(missing))}" if missing else "all faults of the control found")
    return int(bool(missing))


def _guided(options: argparse.Namespace, bench: Path) -> int:
    import_readers(options.formats)
    for name in options.formats:
        campaign = Campaign(TARGETS[name], options.state / name, bench)
        if not campaign.rounds:
            raise SystemExit(f"run a round of {name} first: its inputs are where this one starts")
        done = run_guided(campaign, options.executions or 100_000)
        print(f"{name}: {done:,} runs guided by coverage, {len(campaign.open_findings)} open findings")
    print(write_report(list(campaigns_in(options.state, TARGETS, bench)), options.state))
    return 0


def _replay(options: argparse.Namespace, bench: Path) -> int:
    target = _one_target(options)
    outcomes = []
    for path in options.replay:
        case = Case.from_json(path.read_text(encoding="utf-8"))
        outcomes.append(replayed(target, case, bench))
        print(
            f"{path.name} ({case.size} bytes; {'; '.join(case.trail)})\n{outcomes[-1].verdict}: {outcomes[-1].detail}"
        )
    return int(any(outcome.is_finding for outcome in outcomes))


def _minimise(options: argparse.Namespace, bench: Path) -> int:
    target = _one_target(options)
    for path in options.minimise:
        case = minimised(target, Case.from_json(path.read_text(encoding="utf-8")), bench)
        smaller = path.with_suffix(".small.json")
        smaller.write_text(case.to_json(), encoding="utf-8")
        print(f"{smaller}: {case.size} bytes, {replayed(target, case, bench).signature}")
        for name, content in case.files.items():
            print(f"{name} = {content!r}")
    return 0


def _one_target(options: argparse.Namespace) -> Target:
    if len(options.formats) != 1:
        raise SystemExit("stored inputs are of one format: say which, as --formats nrrd")
    import_readers(options.formats)
    return TARGETS[options.formats[0]]


if __name__ == "__main__":
    sys.exit(main())
