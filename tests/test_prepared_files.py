"""Prepared slices on disk: who may read them, how many bytes they are, when they go."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cache import ON_DISK, entry

from bundle.engines import prepared_files
from bundle.engines.prepared_files import PreparedFiles, purge_prepared

DAY = 86400.0


def files_in(folder: Path, **options) -> PreparedFiles:
    return PreparedFiles(folder, **{"most_bytes": 1 << 20, **options})


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.prepared"))


def written(folder: Path, *ages: float) -> None:
    """An entry of each age in days: a, b, ..."""
    for number, age in enumerate(ages):
        key = chr(ord("a") + number)
        files_in(folder).write(key, entry(number))
        then = time.time() - age * DAY
        os.utime(folder / f"{key}.prepared", (then, then))


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644)])
def test_files_are_as_private_as_their_folder(tmp_path, folder_mode, file_mode):
    folder = tmp_path / "prepared"
    folder.mkdir()
    folder.chmod(folder_mode)
    files = files_in(folder)
    with files.alone("a", beside=threading.Lock()):
        files.write("a", entry(1))
    for path in folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & ~(folder_mode if path.is_dir() else file_mode) == 0, path
    assert stat.S_IMODE((folder / "a.prepared").stat().st_mode) == file_mode


def test_a_folder_that_somebody_removes_comes_back_as_it_was(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir(mode=0o700)
    files = files_in(folder)
    folder.rmdir()
    assert files.read("a") is None and purge_prepared(folder) == (0, 0)
    with files.alone("a", beside=threading.Lock()):
        files.write("a", entry(1))
    assert names(folder) == ["a"] and stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_was_not_used_for_some_days_goes_and_nothing_else(tmp_path):
    written(tmp_path, 40, 31, 29)
    for name in ("weights.safetensors", "case.session", "prepared"):
        (tmp_path / name).write_text("of somebody else")
        os.utime(tmp_path / name, (0, 0))
    files = files_in(tmp_path, days=30)
    files.purge()
    assert names(tmp_path) == ["c"] and len(list(tmp_path.iterdir())) == 4 + (tmp_path / ".locks").is_dir()
    assert files.nbytes == (tmp_path / "c.prepared").stat().st_size


def test_without_a_number_of_days_all_go(tmp_path):
    written(tmp_path, 3, 0)
    assert purge_prepared(tmp_path) == (2, 0) and names(tmp_path) == []
    assert purge_prepared(tmp_path / "none") == (0, 0)


def test_a_smaller_budget_than_before_holds_after_the_first_purge(tmp_path):
    written(tmp_path, 1, 3, 2, 0)
    files_in(tmp_path, most_bytes=int(2.5 * ON_DISK)).purge()
    assert names(tmp_path) == ["a", "d"]


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 9), max_size=12), others=st.integers(0, 100), budget=st.integers(20, 60))
def test_a_part_of_the_disk_is_left_for_others_whatever_they_write(sizes, others, budget):
    disk, left_free = 100, 30

    def free(folder) -> SimpleNamespace:
        return SimpleNamespace(free=max(0, disk - others - sum(one.stat().st_size for one in entries(folder))))

    def entries(folder) -> list[Path]:
        return list(Path(folder).glob("*.prepared"))

    def save(tensors, path, metadata) -> None:
        Path(path).write_bytes(bytes(next(size)))

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_files.shutil, "disk_usage", free)
        patch.setattr(prepared_files, "LEFT_FREE", left_free)
        patch.setattr(
            prepared_files, "save_file", lambda tensors, path, metadata: Path(path).write_bytes(bytes(next(size)))
        )
        files, size = files_in(Path(folder), most_bytes=budget), iter(sizes)
        for number in range(len(sizes)):
            files.write(f"{number}", entry(0))
            held = sum(one.stat().st_size for one in entries(folder))
            assert held <= max(0, min(budget, disk - others - left_free)) and files.nbytes == held


def test_what_a_killed_server_has_half_written_goes(tmp_path):
    old, new = tmp_path / ".abcdefgh.part", tmp_path / ".ijklmnop.part"
    for path in (old, new):
        path.write_text("half of an entry")
    os.utime(old, (0, 0))
    purge_prepared(tmp_path, days=30)
    assert not old.exists() and new.exists()  # the second may be in the middle of being written


def test_a_file_that_cannot_be_removed_is_said_and_others_go(tmp_path, monkeypatch, caplog):
    written(tmp_path, 50, 40)
    unlink = os.unlink

    def refuse(path):
        if str(path).endswith("a.prepared"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(prepared_files.os, "unlink", refuse)
        assert purge_prepared(tmp_path, days=30) == (1, (tmp_path / "a.prepared").stat().st_size)
    assert "a.prepared cannot be removed (Operation not permitted)" in caplog.text


@given(
    used=st.lists(st.tuples(st.floats(0.1, 60), st.integers(1, 9)), max_size=8, unique_by=lambda one: one[0]),
    days=st.sampled_from([10.0, 30.0, 100.0]),
    most=st.integers(0, 30),
)
def test_a_purge_leaves_the_entries_of_last_use_that_fit(used, days, most):
    with TemporaryDirectory() as folder:
        for number, (age, size) in enumerate(used):
            path = Path(folder, f"{number}.prepared")
            path.write_bytes(bytes(size))
            then = time.time() - age * DAY
            os.utime(path, (then, then))
        removed, left = purge_prepared(folder, days=days, most_bytes=most)
        kept = {int(name) for name in names(Path(folder))}
    expected, room = set(), most
    for number, (age, size) in sorted(enumerate(used), key=lambda one: one[1][0]):
        room -= size
        if age >= days or room < 0:
            break
        expected.add(number)
    assert kept == expected and removed == len(used) - len(kept) and left == sum(used[one][1] for one in kept)


class Home:
    """The default folders of a user, each with two files, of which the first was used 40 days ago."""

    def __init__(self, home: Path) -> None:
        self.home, self.folders = home, {"sessions": home / "monai-sam" / "sessions", "prepared": home / "prepared"}
        written(self.folders["prepared"], 40, 1)
        self.folders["sessions"].mkdir(parents=True)
        for key, age in (("a", 40), ("b", 1)):
            path = self.folders["sessions"] / f"{key}.session"
            path.touch()
            os.utime(path, (time.time() - age * DAY,) * 2)

    def left(self, kind: str) -> str:
        return "".join(sorted(path.stem for path in self.folders[kind].iterdir() if path.is_file()))

    def purge(self, *arguments: str) -> None:
        """The command, called by this user."""
        from scripts import purge_sessions

        with pytest.MonkeyPatch.context() as patch:
            for variable in ("MONAI_SAM_HOME", "XDG_STATE_HOME"):
                patch.setenv(variable, str(self.home))
            patch.setattr(sys, "argv", ["purge", *arguments])
            purge_sessions.main()


def test_the_command_removes_sessions_and_prepared_slices(tmp_path, capsys):
    home = Home(tmp_path)
    home.purge("--days", "30")
    assert home.left("prepared") == home.left("sessions") == "b"
    assert f"removed 1 prepared slices in {tmp_path / 'prepared'}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"there is no folder .*elsewhere; give the one of --conf prepared"):
        home.purge("--prepared", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("named", [("sessions",), ("prepared",), ("sessions", "prepared")], ids="+".join)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["the default ones", "others"])
def test_the_command_empties_the_folders_that_are_named_and_no_others(tmp_path, capsys, named, elsewhere):
    home, other = Home(tmp_path / "home"), Home(tmp_path / "other")
    place, untouched = (other, home) if elsewhere else (home, other)
    options = {"sessions": [], "prepared": ["--prepared"]}
    home.purge(*(word for kind in named for word in (*options[kind], str(place.folders[kind]))))
    for kind in options:
        assert place.left(kind) == ("" if kind in named else "ab") and untouched.left(kind) == "ab"
    assert len(capsys.readouterr().out.splitlines()) == len(named)
