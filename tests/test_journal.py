"""The record of a session on disk, and what is left of it after a kill, a full disk or another process."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fakes import BrightRegionSam
from hypothesis import given
from hypothesis import strategies as st
from session_room import LEFT, RIGHT, open_session, organs, point, state, volume

import bundle
from bundle.data.volume import Volume, write_volume
from bundle.errors import BusyError, JournalError
from bundle.families.family import load_family
from bundle.interactive import journal as journal_module
from bundle.interactive import stepped_session
from bundle.interactive.journal import Journal
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session_files import purge_sessions
from bundle.prompts.prompts import ObjectPrompts

IMAGE = volume()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "sessions"


def of(folder: Path, user: str = "", **options) -> Journal:
    made = Journal.of(folder, IMAGE, user)
    return Journal(made.path, made.extra, **options) if options else made


def opened(folder: Path, **options):
    return open_session(IMAGE, of(folder, **options))


def worked(folder: Path):
    """A session of two objects, one locked, with an undone step."""
    session = opened(folder)
    session.add(point(LEFT), "left")
    session.add(point((5, 9, 8), False), "left")
    session.lock("left")
    session.set_mask(organs() & (np.arange(20) > 9)[:, None, None], "right")
    session.confirm(4, "right")
    session.add(point(RIGHT), "right", dimension=2)
    session.rename("right", "other")
    session.undo()
    return session


# ---- restoring ------------------------------------------------------------------------------------------------------


def test_a_session_is_restored_bit_for_bit_without_the_model(folder):
    session = worked(folder)
    shutil.copytree(folder, folder.with_name("copy"))  # each goes its own way from here
    again = opened(folder.with_name("copy"))
    assert state(again) == state(session) and again.predictor.network.masks_seen == []
    for step in (lambda s: s.redo(), *[lambda s: s.undo()] * 7, *[lambda s: s.redo()] * 7):
        assert (step(session) is None) == (step(again) is None)
        assert state(again) == state(session)
    assert again.predictor.network.masks_seen == []
    assert state(opened(folder)) == state(session)


def test_a_restored_session_goes_on_like_one_that_was_never_closed(folder):
    session = opened(folder)
    for voxel in (LEFT, (6, 6, 5)):
        session.add(point(voxel), "left", dimension=2)
    again = opened(folder)
    for one in (session, again):
        one._journal = None
        one.add(point((7, 12, 5), False), "left", dimension=2)
        one.add(point((5, 9, 8)), "left")
    assert state(again) == state(session)


def test_another_user_and_another_image_have_other_sessions(folder):
    opened(folder).add(point(LEFT), "left")
    assert open_session(IMAGE, of(folder, "anna")).objects == ()
    moved = Volume(IMAGE.array, IMAGE.affine + np.eye(4, k=3), "CT")
    assert Journal.of(folder, moved).path != of(folder).path
    assert Journal.of(folder, Volume(np.asfortranarray(IMAGE.array), IMAGE.affine, "CT")).path == of(folder).path


def test_files_are_the_users_own_and_tell_no_name(folder):
    open_session(IMAGE, Journal.of(folder, IMAGE, "anna@hospital")).add(point(LEFT), "left")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "anna" not in file.name and b"anna" not in file.read_bytes()
    folder.chmod(0o755)
    with pytest.raises(JournalError, match="chmod 700"):
        open_session(IMAGE, Journal.of(folder, IMAGE, "anna@hospital"))


def test_an_image_that_was_only_looked_at_leaves_no_file(folder):
    opened(folder)
    assert not folder.exists()


# ---- what a kill leaves ---------------------------------------------------------------------------------------------


def test_a_session_cut_off_anywhere_goes_on_from_its_last_whole_step(folder):
    session, sizes, states = opened(folder), [0], []
    states.append(state(session))
    for voxel, name in ((LEFT, "left"), ((5, 9, 8), "left"), (RIGHT, "right")):
        session.add(point(voxel), name)
        sizes.append(of(folder).path.stat().st_size)
        states.append(state(session))
    content = of(folder).path.read_bytes()

    @given(st.integers(0, sizes[-1]))
    def check(at: int) -> None:
        of(folder).path.write_bytes(content[:at])
        again = opened(folder)
        assert state(again) == states[max(n for n, size in enumerate(sizes) if size <= at)]
        again.new_object("more")
        assert state(opened(folder)) == state(again)

    check()


def test_a_torn_record_is_cut_off_with_one_line_in_the_log(folder, caplog):
    opened(folder).add(point(LEFT), "left")
    with of(folder).path.open("ab") as stream:
        stream.write(b"\x90\x01\x00\x00torn")
    assert opened(folder).mask("left").any()
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "8 bytes behind its last whole record" in line
    caplog.clear()
    opened(folder)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_stands_behind_a_damaged_record_is_kept_aside(folder, caplog):
    session = opened(folder)
    session.add(point(LEFT), "left")
    at = of(folder).path.stat().st_size
    session.add(point(RIGHT), "right")
    session.add(point((14, 9, 5)), "right")
    content = bytearray(of(folder).path.read_bytes())
    content[at + 20] ^= 1
    of(folder).path.write_bytes(content)
    assert [one.name for one in opened(folder).objects] == ["left"]
    (kept,) = folder.glob("*.damaged")
    assert kept.read_bytes() == content[at:] and stat.S_IMODE(kept.stat().st_mode) == 0o600


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from session_room import LEFT, RIGHT, open_session, point, volume
    from bundle.interactive import journal
    from bundle.interactive.journal import Journal

    def work(place):
        image, folder = volume(), Path(sys.argv[1], place)
        session = open_session(image, Journal.of(folder, image))
        session.add(point(LEFT), "left", dimension=2)
        session.add(point(RIGHT), "right")
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if place == "click":
            session.predictor.network.predict = die
        elif place == "propagation":
            session.predict("left", progress=lambda far: die() if far.index == 7 else None)
        elif place == "write":
            write = journal._write
            journal._write = lambda file, data, at: die(write(file, data[: len(data) // 2], at))
        elif place == "reply":
            os.fsync = die
        elif place in ("compaction", "replace"):
            session.undo()
            write = journal._write
            journal._write = lambda file, data, at: die(write(file, data[: len(data) // 2], at))
            if place == "replace":
                journal._write, replace = write, os.replace
                os.replace = lambda one, other: die(replace(one, other))
            session.compact()
        session.add(point((6, 6, 5)), "left", dimension=2)

    for place in sys.argv[2:]:  # each in a process of its own; starting one takes seconds, forking it none
        child = os.fork()
        if not child:
            work(place)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (place, status)
"""


def test_a_kill_loses_nothing_that_was_answered(tmp_path):
    """In a click, a propagation, a write, between the write and the reply, and in and after a compaction."""
    tests, places = Path(__file__).parent, ("click", "propagation", "write", "reply", "compaction", "replace")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), *places]
    subprocess.run(command, env=environment, timeout=300, check=True)
    for place in places:
        expected = open_session(IMAGE)
        expected.add(point(LEFT), "left", dimension=2)
        expected.add(point(RIGHT), "right")
        if place in ("compaction", "replace"):
            expected.undo()
        if place == "reply":  # on the disk already: the step counts
            expected.add(point((6, 6, 5)), "left", dimension=2)
        again = opened(tmp_path / place)
        assert state(again) == state(expected), place
        again.predict("left")
        assert state(opened(tmp_path / place)) == state(again)


# ---- compaction -----------------------------------------------------------------------------------------------------


def tried(folder: Path, times: int = 8):
    """A session of which most steps were undone and can not come back."""
    session = worked(folder)
    for n in range(times):
        session.set_mask(np.random.default_rng(n).random(IMAGE.shape) < 0.5, "right")
        session.undo()
    session.add(point((14, 9, 5)), "right")
    session.undo()
    return session


def test_a_session_that_is_mostly_forgotten_is_compacted_when_it_is_opened(folder):
    session = tried(folder)
    size, expected = of(folder).path.stat().st_size, state(session)
    again = opened(folder)
    assert state(again) == expected and of(folder).path.stat().st_size < size / 2
    assert stat.S_IMODE(of(folder).path.stat().st_mode) == 0o600 and [*folder.iterdir()] == [of(folder).path]
    while again.undo() is not None:
        pass
    assert session.undo() is None and session.redo() is not None  # the other process goes on with the new file
    assert state(opened(folder)) == state(session) and len(session.objects) == 1


def test_a_session_without_anything_forgotten_is_left_as_it_is(folder):
    session = worked(folder)
    before = of(folder).path.read_bytes()
    assert state(opened(folder)) == state(session) and of(folder).path.read_bytes() == before


def test_another_process_goes_on_with_a_session_that_was_compacted(folder):
    session = tried(folder)
    other = opened(folder)
    assert session.compact() == 0  # opening it has done it
    other.rename("right", "again")
    session.add(point(RIGHT), "third")
    assert state(other) != state(session) == state(opened(folder))
    other.new_object("fourth")
    assert state(other) == state(opened(folder))


def test_a_full_session_is_compacted_before_it_is_refused(folder):
    tried(folder)
    size = of(folder).path.stat().st_size
    small = opened_without_compaction(folder, max_bytes=size)
    small.add(point(RIGHT), "right")
    assert of(folder).path.stat().st_size < size and state(opened(folder)) == state(small)


def opened_without_compaction(folder: Path, **options):
    """A session that was opened before most of it was forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepped_session, "_WORTH", 1.1)
        return opened(folder, **options)


def test_a_compaction_that_fails_leaves_the_session_as_it_was(folder, monkeypatch, caplog):
    session = tried(folder)
    before = of(folder).path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    again = opened(folder)
    assert of(folder).path.read_bytes() == before and "stays as long as it is" in caplog.text
    assert list(folder.iterdir()) == [of(folder).path]  # nothing half written is left on a full disk
    monkeypatch.undo()
    again.new_object("more")
    assert state(opened(folder)) == state(again) and session.undo() is not None


# ---- what cannot be written -----------------------------------------------------------------------------------------


def test_a_full_disk_changes_nothing_and_the_session_goes_on_when_there_is_room(folder, monkeypatch):
    session = opened(folder)
    session.add(point(LEFT), "left")
    before, size, write = state(session), of(folder).path.stat().st_size, journal_module._write

    def full(file: int, data: bytes, at: int) -> None:
        write(file, data[:-10], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        session.add(point(RIGHT), "right")
    assert state(session) == before and of(folder).path.stat().st_size == size
    monkeypatch.setattr(journal_module, "_write", write)
    session.add(point(RIGHT), "right")
    assert state(opened(folder)) == state(session)


def test_a_session_that_grows_too_large_says_what_to_do(folder):
    session = opened(folder, max_bytes=2000)
    session.add(point(LEFT), "left")
    with pytest.raises(JournalError, match=r"beyond 2000 bytes; save the result .*MONAI_SAM_MAX_SESSION_BYTES"):
        for _ in range(20):
            session.add(point(LEFT), "left", predict=False)
    assert of(folder).path.stat().st_size <= 2000 and session.mask("left").any()
    assert session.undo_depth == opened(folder).undo_depth


def test_a_full_session_can_be_undone_and_done_again_and_what_was_undone_makes_room_for_another_step(folder):
    session, steps = opened(folder, max_bytes=2000), 0
    with pytest.raises(JournalError, match="beyond 2000 bytes"):
        for steps in range(100):
            session.new_object(f"object {steps:02d}")
    for _ in range(100):
        session.undo(), session.redo()
    assert session.undo_depth == steps and of(folder).path.stat().st_size <= 4000
    while session.undo() is not None:
        pass
    assert state(opened(folder)) == state(session) and session.redo_depth == steps
    session.redo()
    session.new_object("another one")
    assert session.redo_depth == 0 and of(folder).path.stat().st_size < 1000
    assert state(opened(folder)) == state(session) and [one.name for one in session.objects] == [
        "object 00",
        "another one",
    ]


def test_where_a_full_session_cannot_be_written_anew_a_step_is_refused_and_redo_is_not_lost(folder, monkeypatch):
    session = opened(folder, max_bytes=2000)
    with pytest.raises(JournalError):
        for step in range(100):
            session.new_object(f"object {step:02d}")
    session.undo()
    before = state(session)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(JournalError, match="beyond 2000 bytes"):
        session.new_object("another one")
    assert state(session) == before == state(opened(folder)) and session.redo() is not None


@pytest.mark.parametrize("content", [b"not a journal at all", b""])
def test_a_file_of_something_else_becomes_an_empty_session(folder, content):
    folder.mkdir(mode=0o700)
    of(folder).path.write_bytes(content)
    session = opened(folder)
    session.add(point(LEFT), "left")
    assert state(opened(folder)) == state(session)


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"id": "1", "format": "monai-sam session", "version": 99}'])
def test_a_record_of_another_version_is_refused(folder, header):
    folder.mkdir(mode=0o700)
    of(folder).path.write_bytes(journal_module._framed(header))
    with pytest.raises(JournalError, match="another version"):
        opened(folder)


@pytest.mark.parametrize("record", [b"", b"\x02\x00\x00\x00{}", b"\x01\x00\x00\x00x", b"\x02\x00\x00\x0012"])
def test_a_whole_record_that_makes_no_sense_is_refused_each_time(folder, record):
    session = opened(folder)
    session.add(point(LEFT), "left")
    with of(folder).path.open("ab") as stream:
        stream.write(journal_module._framed(record))
    for _ in range(2):
        with pytest.raises(JournalError):
            session.add(point(LEFT), "left")
    with pytest.raises(JournalError):
        opened(folder)


# ---- several processes ----------------------------------------------------------------------------------------------


def test_two_servers_on_one_folder_see_each_others_steps(folder):
    one, other = opened(folder), opened(folder)
    one.add(point(LEFT), "left")
    other.add(point(RIGHT), "right")
    assert [o.name for o in other.objects] == ["left", "right"]
    one.lock("right")
    assert state(one) == state(opened(folder))
    other.undo()
    assert state(other) == state(opened(folder)) and not other.object("right").locked


def test_a_session_that_another_process_works_on_is_waited_for_and_then_refused(folder):
    one, other = opened(folder), opened(folder, patience=0.0)
    with of(folder).held(), pytest.raises(BusyError, match="another process"):
        other.add(point(LEFT), "left")
    one.add(point(LEFT), "left")
    other.add(point(RIGHT), "right")
    assert len(other.objects) == 2


# ---- age and purge --------------------------------------------------------------------------------------------------


def test_old_sessions_are_purged_and_others_stay(folder):
    opened(folder).add(point(LEFT), "left")
    open_session(IMAGE, of(folder, "anna")).add(point(LEFT), "left")
    os.utime(of(folder).path, (0, 0))
    assert purge_sessions(folder, days=30) == 1 and of(folder, "anna").path.exists()
    with of(folder, "anna").held():
        assert purge_sessions(folder) == 0  # somebody works on it
    assert purge_sessions(folder) == 1 and list(folder.iterdir()) == []
    assert purge_sessions(folder / "none") == 0


def test_a_session_that_is_purged_while_it_is_open_begins_anew(folder):
    session = opened(folder)
    session.add(point(LEFT), "left")
    purge_sessions(folder)
    session.add(point(RIGHT), "right")
    assert [one.name for one in session.objects] == ["right"]
    assert state(opened(folder)) == state(session)


def test_another_model_is_asked_what_the_first_one_was_and_shows_its_own_answer(folder):
    prompts = ObjectPrompts([point(LEFT)], name="left")
    opened(folder).set_prompts(prompts)
    again = opened(folder)
    assert not again.set_prompts(prompts).predicted
    other = open_session(IMAGE, of(folder), rule=PropagationRule(growth=1.25))
    assert other.mask("left").any() and other.set_prompts(prompts).predicted


def test_an_image_that_is_opened_with_a_folder_goes_on_where_it_was(tmp_path, folder, monkeypatch):
    light = Segmenter(load_family("default"), BrightRegionSam(), device="cpu")
    monkeypatch.setattr(Segmenter, "from_family", lambda *_, **__: light)
    file = write_volume(IMAGE, tmp_path / "ct.nii.gz")
    session = bundle.open(file, sessions=folder, user="anna")
    session.set_mask(organs(), "left")
    assert np.array_equal(bundle.open(file, sessions=folder, user="anna").labels, session.labels)
    assert bundle.open(file, sessions=folder, user="ben").objects == ()
