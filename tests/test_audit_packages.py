"""What of a report on packages counts as open."""

from __future__ import annotations

import json
import runpy
from datetime import date
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts/audit_packages.py"))
REPORT = {
    "dependencies": [
        {"name": "quiet", "version": "1.0", "vulns": []},
        {"name": "skipped", "skip_reason": "not on the index"},
        {
            "name": "loud",
            "version": "2.0",
            "vulns": [
                {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]},
                {"id": "PYSEC-2", "aliases": [], "fix_versions": []},
            ],
        },
    ]
}


def accepted(tmp_path, **changes):
    entry = {"id": "CVE-1", "package": "loud", "reason": "never called", "until": "2030-01-01", **changes}
    path = tmp_path / "accepted.json"
    path.write_text(json.dumps([entry]))
    return SCRIPT["read_accepted"](path, date(2027, 1, 1))


def test_an_advisory_that_nobody_accepted_is_open():
    first, second = SCRIPT["open_advisories"](REPORT, {})
    assert first == "loud 2.0: CVE-1, PYSEC-1; fixed in 2.1" and second.endswith("no version yet")


def test_a_package_that_could_not_be_asked_about_is_not_taken_for_good():
    assert SCRIPT["not_audited"](REPORT) == ["skipped"]


def test_one_that_was_accepted_under_any_of_its_names_is_not(tmp_path):
    (left,) = SCRIPT["open_advisories"](REPORT, accepted(tmp_path))
    assert "PYSEC-2" in left


@pytest.mark.parametrize("changes", [{"package": "other"}, {"until": "2026-12-31"}, {"id": "CVE-9"}])
def test_it_is_open_again_for_another_package_or_after_its_day(tmp_path, changes):
    assert len(SCRIPT["open_advisories"](REPORT, accepted(tmp_path, **changes))) == 2


def test_whoever_accepts_one_says_why(tmp_path):
    with pytest.raises(ValueError, match="must say reason"):
        accepted(tmp_path, reason="")


def test_the_list_of_this_repository_can_be_read():
    SCRIPT["read_accepted"](SCRIPT["ACCEPTED"], date.today())
