"""What is installed, and what is known against it: ``python scripts/audit_packages.py [--output dist]``

Writes the software bill of materials of a list of packages (CycloneDX JSON, https://cyclonedx.org) and asks pip-audit
for the known vulnerabilities of those versions. Both programs stay in an environment of their own, since their
requirements are not the server's:

    python -m venv audit-env && audit-env/bin/pip install pip-audit==2.10.1 cyclonedx-bom==7.5.0
    python scripts/audit_packages.py --programs audit-env/bin

An advisory that does not concern the server stands in ``scripts/accepted_advisories.json`` with the reason, and until
when that holds; after that day it counts again. The exit status is 0 where nothing is open, 1 where something is, and 2
where the advisories could not be asked for, be it of one package: without a network, or behind a mirror that has none,
pip-audit itself finds "no known vulnerabilities". The bill of materials is written all the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bundle.errors import OptionError

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED = Path(__file__).with_name("accepted_advisories.json")
_NEEDED = ("id", "package", "reason", "until")


def main() -> int:
    """Write the bill, ask, and say what is open."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements.txt")
    parser.add_argument("--programs", type=Path, help="folder of pip-audit and cyclonedx-py, by default on PATH")
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"))
    args = parser.parse_args()
    accepted = read_accepted(ACCEPTED, date.today())
    programs = {name: _program(name, args.programs) for name in ("cyclonedx-py", "pip-audit")}
    args.output.mkdir(parents=True, exist_ok=True)
    bill, report = args.output / "sbom.cdx.json", args.output / "advisories.json"
    subprocess.run([programs["cyclonedx-py"], *bill_command(args.requirements, bill)], check=True)
    print(f"{bill}: {len(json.loads(bill.read_text(encoding='utf-8'))['components'])} packages")
    report.unlink(missing_ok=True)
    asked = subprocess.run([programs["pip-audit"], *audit_command(args.requirements, report)], check=False)
    if not report.is_file():
        print(f"the advisories could not be asked for (pip-audit ended with {asked.returncode})", file=sys.stderr)
        return 2
    told = json.loads(report.read_text(encoding="utf-8"))
    found, silent = open_advisories(told, accepted), not_audited(told)
    for line in found:
        print(line)
    print(f"{len(found)} open advisories, {len(accepted)} accepted ones")
    if silent:
        names = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
        print(f"nothing could be asked about {len(silent)} packages ({names})", file=sys.stderr)
    return 1 if found else 2 if silent else 0


def bill_command(requirements: Path, bill: Path) -> list[str]:
    """The arguments of cyclonedx-py; the same list gives the same bill."""
    return ["requirements", str(requirements), "--output-reproducible", "--output-file", str(bill)]


def audit_command(requirements: Path, report: Path) -> list[str]:
    """The arguments of pip-audit; the list is complete, so that nothing is resolved or installed."""
    return ["--requirement", str(requirements), "--no-deps", "--disable-pip", "--format=json", f"--output={report}"]


def read_accepted(path: Path, today: date) -> dict[str, Mapping[str, str]]:
    """The advisories that need nothing done today, by their id.

    Raises:
        OptionError: an entry without id, package, reason or the day until which it holds.
    """
    entries: Sequence[Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        if missing := [name for name in _NEEDED if not entry.get(name)]:
            raise OptionError(f"{path.name}: {entry.get('id')!r} must say {', '.join(missing)}")
    return {entry["id"]: entry for entry in entries if date.fromisoformat(entry["until"]) >= today}


def open_advisories(report: Mapping[str, Any], accepted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each advisory of pip-audit's report that is not accepted, under any of its names, for its package."""
    lines = []
    for package in report["dependencies"]:
        for advisory in package.get("vulns", ()):
            names = {advisory["id"], *advisory.get("aliases", ())}
            if any(name in accepted and accepted[name]["package"] == package["name"] for name in names):
                continue
            fixed = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {', '.join(sorted(names))}; fixed in {fixed}")
    return lines


def not_audited(report: Mapping[str, Any]) -> list[str]:
    """The packages that pip-audit says nothing about, and that it does not count."""
    return [package["name"] for package in report["dependencies"] if package.get("skip_reason")]


def _program(name: str, folder: Path | None) -> str:
    found = shutil.which(name, path=None if folder is None else str(folder.resolve()))
    if found is None:
        sys.exit(f"{name} is not there; see --help for how to install it")
    return found


if __name__ == "__main__":
    sys.exit(main())
