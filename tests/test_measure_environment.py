"""The size of an environment by package (scripts/measure_environment.py)."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from bundle.errors import OptionError

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts/measure_environment.py"))
measure = SCRIPT["measure"]


@pytest.fixture
def environment(tmp_path):
    place = tmp_path / "env/lib/python3.11/site-packages"
    for name, files in {"large": {"large/a.py": 9000, "large/b.py": 100}, "small": {"small.py": 10}}.items():
        for file, size in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(b"x" * size)
        info = place / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        gone = "small_gone.py" if name == "small" else "large/b.py"
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in {**files, gone: 0}))
    (tmp_path / "env/bin").mkdir()
    (tmp_path / "env/bin/python").symlink_to(sys.executable)
    return tmp_path / "env"


def blocks(*files: Path) -> int:
    return sum(512 * file.lstat().st_blocks for file in files)


def test_a_package_takes_what_its_record_names_and_is_there_the_largest_first(environment):
    place = environment / "lib/python3.11/site-packages"
    found = measure(environment)
    assert list(found["packages"]) == ["large", "small"]
    assert found["packages"]["large"] == {"version": "1.0", "bytes": blocks(*(place / "large").iterdir())}
    assert found["packages"]["small"] == {"version": "1.0", "bytes": blocks(place / "small.py")}


def test_the_whole_is_all_files_and_follows_no_link(environment):
    files = [path for path in environment.rglob("*") if path.is_symlink() or path.is_file()]
    assert measure(environment)["bytes"] == blocks(*files)


def test_a_folder_that_is_no_environment_is_refused(tmp_path):
    with pytest.raises(OptionError, match="is no virtual environment"):
        measure(tmp_path)


def test_the_command_leaves_the_result_that_the_table_is_made_of(environment, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    SCRIPT["main"](["--environment", str(environment), "--results", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == measure(environment)
    assert "2 packages, 0.00 GiB" in capsys.readouterr().out
