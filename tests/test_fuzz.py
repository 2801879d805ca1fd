"""A short round over every door: what is damaged is refused with a sentence, and the fuzzer itself can find faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("resource")  # the limits of a child process are those of Unix

from fuzzing.batch import Batch, FuzzerError
from fuzzing.campaign import Campaign, replayed
from fuzzing.case import Case
from fuzzing.code import code_behind
from fuzzing.control import CONTROL, EXPECTED
from fuzzing.mutate_text import _META, _NRRD
from fuzzing.report import as_markdown, summary_of
from fuzzing.targets import TARGETS, import_readers

from bundle.data.volume import VolumeError

RUNS = 150


@pytest.mark.parametrize("name", TARGETS)
def test_every_damaged_input_is_opened_or_refused_with_a_sentence(name, tmp_path):
    import_readers([name])
    # Time enough for a busy machine: a loop without an end takes any.
    target = replace(TARGETS[name], cpu_seconds=10.0)
    target.starts  # noqa: B018 - made before the fork
    # What is found counts if it is found a second time.
    for attempt in ("first", "second"):
        batch = target.batch(lambda number: target.case(number, seed="test"), range(RUNS), tmp_path / attempt).wait()
        findings = [outcome for _, outcome in batch.messages if outcome.is_finding]
        if batch.died is None and not findings:
            break
    assert batch.died is None, batch.died
    assert findings == []
    assert batch.messages[0][1].verdict == "opened"  # the first seed is a right file
    assert batch.executions == RUNS
    assert batch.refused > 0


def test_what_a_reader_does_when_it_is_first_used_is_not_the_doing_of_the_first_case(tmp_path):
    """Libraries look through all of sys.path for what they import, and earlier tests may have left folders there."""
    first = []

    def door(path):
        if not first:
            first.append(open("/etc/hostname").close())
        return path

    case = Case({"a.nrrd": b""}, "a.nrrd")
    watched = Batch(lambda _: case, [0], door, tmp_path / "cold").wait()
    assert watched.messages[0][1].verdict == "outside"
    watched = Batch(lambda _: case, [0], door, tmp_path / "warm", warming=[case]).wait()
    assert watched.messages[0][1].verdict == "opened"


def test_a_right_file_that_ends_the_process_is_said_to_be_right(tmp_path):
    case = Case({"a.nrrd": b"NRRD0004\n" + FAULTS["crash"] + b"\n\n"}, "a.nrrd")
    with pytest.raises(FuzzerError, match="a right file ended the process"):
        Batch(lambda _: case, [0], CONTROL.door, tmp_path, warming=[case]).wait()


FAULTS = {
    "crash": b"type: short\ndimension: -3\nsizes: 4 3 2",
    "hang": b"type: short\ndimension: 3\nsizes: 4 0 2",
    "traceback": b"type: short",
    "memory": b"type: short\ndimension: 3\nsizes: 4 3 70000",
    "canary": b"type: short\ndimension: 3\nsizes: 4 3 2\ndata file: ../secret.raw",
    "outside": b"type: short\ndimension: 3\nsizes: 4 3 2\nencoding: hex",
    "leftover": b"type: short\ndimension: 3\nsizes: 4 3 2\nencoding: bzip2",
}


@pytest.mark.parametrize("verdict", sorted(EXPECTED))
def test_each_fault_of_a_faulty_reader_is_seen(verdict, tmp_path):
    case = Case({"a.nrrd": b"NRRD0004\n" + FAULTS[verdict] + b"\n\n"}, "a.nrrd")
    assert replayed(CONTROL, case, tmp_path).verdict == verdict


def test_a_case_is_the_same_whenever_it_is_made():
    target = TARGETS["mha"]
    number = len(target.starts) + 7
    assert target.case(number, seed="a").digest == target.case(number, seed="a").digest
    assert target.case(number, seed="a").digest != target.case(number, seed="b").digest
    assert Case.from_json(target.case(number, seed="a").to_json()).digest == target.case(number, seed="a").digest


def test_a_campaign_that_was_stopped_goes_on_where_it_was(tmp_path):
    first = Campaign(CONTROL, tmp_path / "state", tmp_path / "bench")
    first.run(14, code="a", seconds=0)
    again = Campaign(CONTROL, tmp_path / "state", tmp_path / "bench")
    done = again.run(14, code="a")
    assert (len(again.rounds), done.executions) == (1, 14)
    assert again.findings  # the files after known faults are the first that are run
    assert Campaign(CONTROL, tmp_path / "state", tmp_path / "bench").findings == again.findings


def test_a_round_after_a_fix_begins_with_the_inputs_of_before(tmp_path):
    campaign = Campaign(CONTROL, tmp_path / "state", tmp_path / "bench")
    campaign.run(14, code="a")
    later = campaign.run(1, code="b")
    assert later.number == 2
    assert later.findings.keys() == campaign.rounds[0].findings.keys()
    assert "| control | 2 |" in as_markdown(summary_of([campaign]))


def test_a_change_of_the_code_behind_a_door_begins_a_round_and_one_elsewhere_does_not(monkeypatch):
    changed, read_bytes = "", Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + b"#" * (path.name == changed))
    before = code_behind("nhdr")
    changed = "session.py"
    assert code_behind("nhdr") == before
    changed = "nrrd.py"
    assert code_behind("nhdr") != before


def header(fields: dict[bytes, tuple], between: bytes, first: bytes) -> st.SearchStrategy[bytes]:
    """Text headers of known fields, whose values are those of our mutators or any other bytes."""
    value = st.one_of(
        st.sampled_from([value for values in fields.values() for value in values]), st.binary(max_size=20)
    )
    line = st.tuples(st.sampled_from(sorted(fields)), value).map(between.join)
    return st.lists(line, max_size=14).map(lambda lines: b"\n".join([first, *lines]) + b"\n\n" + bytes(48))


CONTENTS = {
    "a.nrrd": header(_NRRD, b": ", b"NRRD0004"),
    "a.nhdr": header(_NRRD, b": ", b"NRRD0005"),
    "a.mha": header(_META, b" = ", b"ObjectType = Image"),
    "a.nii": st.binary(min_size=340, max_size=600).map(lambda data: b"\x5c\1\0\0" + data),
    "a.npy": st.text(alphabet="{}()[]',:0123456789-descrfortanhpu<i \n", max_size=80).map(
        lambda text: b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()
    ),
    "a.png": st.binary(max_size=60).map(lambda data: b"\x89PNG\r\n\x1a\n" + data),
    "a.tif": st.binary(max_size=60).map(lambda data: b"II*\0\x08\0\0\0" + data),
    "a.dcm": st.binary(max_size=80).map(lambda data: bytes(128) + b"DICM" + data),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", CONTENTS)
def test_a_header_check_passes_or_refuses_whatever_it_is_given(name, tmp_path_factory):
    headers = pytest.importorskip("bundle.data.headers")
    path = tmp_path_factory.mktemp("header") / name

    @given(CONTENTS[name])
    @settings(max_examples=60, deadline=None)
    def check(content):
        path.write_bytes(content)
        try:
            headers.check_header(path)
        except VolumeError:
            return

    check()
