"""What the rounds came to, as JSON and as a table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from bundle.files import write_atomically
from fuzzing.campaign import Campaign

VERDICTS = ("crash", "hang", "traceback", "canary", "outside", "memory", "leftover")


def summary_of(campaigns: list[Campaign]) -> dict[str, Any]:
    """One entry for each format."""
    return {campaign.target.name: _entry(campaign) for campaign in campaigns}


def _entry(campaign: Campaign) -> dict[str, Any]:
    last = campaign.rounds[-1]
    found = campaign.open_findings
    return {
        "rounds": len(campaign.rounds),
        "executions": campaign.executions,
        "code": last.code,
        "round_executions": last.executions,
        "round_planned": last.planned,
        "round_guided": last.guided,
        "round_opened": last.opened,
        "round_refused": last.refused,
        "executions_per_second": round(last.executions / last.seconds, 1) if last.seconds else 0,
        "quiet": last.is_quiet,
        "open": {
            signature: {
                "verdict": finding.verdict,
                "count": last.findings[signature],
                "alone": finding.alone,
                "inputs": str(campaign.place_of(signature).relative_to(campaign.folder.parent)),
            }
            for signature, finding in found.items()
        },
        "gone": sorted(set(campaign.findings) - set(found)),
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """The table, and the open findings under it."""
    head = ["format", "rounds", "executions", "last round", "guided", "opened", "refused", "1/s", *VERDICTS, "quiet"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, entry in summary.items():
        kinds = Counter(finding["verdict"] for finding in entry["open"].values())
        share = f"{entry['round_executions']:,} of {entry['round_planned']:,}"
        cells = [
            name,
            entry["rounds"],
            f"{entry['executions']:,}",
            share,
            f"{entry['round_guided']:,}",
            f"{entry['round_opened']:,}",
        ]
        cells += [f"{entry['round_refused']:,}", f"{entry['executions_per_second']:.0f}"]
        cells += [kinds.get(verdict, "") for verdict in VERDICTS] + ["yes" if entry["quiet"] else "no"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    total = sum(entry["executions"] for entry in summary.values())
    lines += ["", f"{total:,} executions in all. Verdicts count kinds of findings, not executions.", ""]
    for name, entry in summary.items():
        for signature, finding in sorted(entry["open"].items(), key=lambda item: -item[1]["count"]):
            lonely = "" if finding["alone"] else ", not alone"
            lines.append(f"- {name}, {finding['count']} x{lonely}: `{signature}` ({finding['inputs']})")
    return "\n".join(lines) + "\n"


def write_report(campaigns: list[Campaign], folder: Path) -> str:
    """Write summary.json and summary.md and return the latter."""
    summary = summary_of(campaigns)
    text = as_markdown(summary)
    for name, content in (("summary.json", json.dumps(summary, indent=1)), ("summary.md", text)):
        write_atomically(folder / name, lambda partial, content=content: Path(partial).write_text(content))
    return text
