"""Cases are shared out to workers, and done once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import OwnCases
from bundle.batch.claims import Claims, digest_of
from bundle.claims import in_turn, shared_out, worker_number
from bundle.errors import CaseError, RunStateError


@pytest.fixture
def cases(tmp_path):
    """Five cases whose images hold their names."""
    found = []
    for name in "abcde":
        (tmp_path / f"{name}.nrrd").write_text(name)
        found.append(CaseFiles(name, tmp_path / f"{name}.nrrd"))
    return found


def finish(folder, case, **content):
    folder.mkdir(exist_ok=True)
    report = {"inputs": digest_of(case), **content}
    (folder / f"{case.name}.json").write_text(json.dumps(report))


def names(found):
    return [case.name for case in found]


# ---- what is left to do ---------------------------------------------------------------------------------------------


def test_cases_with_results_of_the_same_files_and_settings_are_done(cases, tmp_path):
    out = tmp_path / "out"
    finish(out, cases[1], axis=2)
    assert names(Claims(out, settings={"axis": 2}, resume=True).pending(cases)) == list("acde")
    assert names(Claims(out, settings={"axis": 2}).pending(cases)) == list("abcde")


@pytest.mark.parametrize("report", ['{"error": "damaged"}', '{"image": "a.nrrd", "obj', "[]"])
def test_a_case_that_failed_or_was_not_finished_is_tried_again(report, cases, tmp_path):
    (tmp_path / "a.json").write_text(report)
    assert names(Claims(tmp_path, resume=True).pending(cases)) == list("abcde")


def test_a_case_whose_image_was_changed_is_done_again(cases, tmp_path):
    finish(tmp_path, cases[0])
    cases[0].image.write_text("another scan")
    assert names(Claims(tmp_path, resume=True).pending(cases)) == list("abcde")


def test_results_with_other_settings_are_refused_naming_those_that_differ(cases, tmp_path):
    finish(tmp_path, cases[0], axis=2, family="default", shift=0)
    with pytest.raises(RunStateError, match=r"a.json holds results with axis 2, now 1; choose another"):
        Claims(tmp_path, settings={"axis": 1, "family": "default", "shift": 0}, resume=True).pending(cases)


def test_a_digest_sees_every_file_and_its_part(tmp_path):
    (tmp_path / "series").mkdir()
    for name in ("1.dcm", "2.dcm", "p.json"):
        (tmp_path / "series" / name).write_text(name)
    image, prompts = tmp_path / "series", tmp_path / "series" / "p.json"
    digests = {digest_of(CaseFiles("a", *files)) for files in ((image,), (image, prompts), (image, None, prompts))}
    (image / "2.dcm").write_text("changed")
    assert len(digests | {digest_of(CaseFiles("a", image))}) == 4


def test_a_row_of_another_image_in_a_table_changes_nothing(tmp_path):
    (tmp_path / "a.nrrd").touch()
    table, head = tmp_path / "boxes.csv", "image,i0,i1,j0,j1,k0,k1\na,1,2,3,4,5,6\n"
    table.write_text(head)
    before = digest_of(CaseFiles("a", tmp_path / "a.nrrd", table))
    table.write_text(head + "b,1,2,3,4,5,6\n")
    assert digest_of(CaseFiles("a", tmp_path / "a.nrrd", table)) == before


# ---- several workers ------------------------------------------------------------------------------------------------


def test_a_case_that_another_worker_holds_or_has_done_meanwhile_is_passed(cases, tmp_path):
    out = tmp_path / "out"
    ours, theirs = Claims(out, resume=True, worker=0), Claims(out, resume=True, worker=1)
    (first, second, *_), _ = ours.pending(cases), theirs.pending(cases)
    with theirs.taken(first) as is_theirs, ours.taken(first) as is_ours:
        assert (is_theirs, is_ours) == (True, False)
    with theirs.taken(second):
        finish(out, second)
    with ours.taken(second) as is_ours, ours.taken(first) as free:
        assert (is_ours, free) == (False, True)


def test_cases_are_held_while_they_are_worked_on_and_others_are_named(cases, tmp_path):
    ours, theirs = Claims(tmp_path, resume=True, worker=0), Claims(tmp_path, resume=True, worker=0)
    own, other = (iter(OwnCases(cases, claims, lambda files: files.name)) for claims in (ours, theirs))
    assert [next(own), next(other)] == ["a", cases[0]]
    assert [next(other), next(own)] == ["b", cases[1]]
    own.close(), other.close()


def _hold_for_ever(folder, case, holding):
    with Claims(folder, resume=True, worker=0).taken(case) as is_mine:
        holding.send(is_mine)
        signal.pause()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_worker_that_is_killed_gives_its_case_back(cases, tmp_path):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    killed = multiprocessing.get_context("fork").Process(target=_hold_for_ever, args=(tmp_path, cases[0], theirs))
    killed.start()
    assert ours.recv() is True
    claims = Claims(tmp_path, resume=True, worker=1)
    with claims.taken(cases[0]) as is_mine:
        assert is_mine is False
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    with claims.taken(cases[0]) as is_mine:
        assert is_mine is True


def test_what_others_hold_comes_last_and_is_done_by_them_or_taken_over_from_the_dead(tmp_path):
    reports = {name: tmp_path / f"{name}.json" for name in "abc"}
    first, second = (shared_out(reports, worker=0) for _ in range(2))
    assert [next(first), next(second)] == [("a", True), ("b", True)]
    reports["a"].write_text("{}")
    assert next(first) == ("c", True)
    second.close()  # dies with "b" undone, as a killed worker's lock is released
    reports["c"].write_text("{}")
    assert list(first) == [("b", True)]
    assert [is_mine for _, is_mine in shared_out(reports, worker=1)] == [True] * 3  # who begins now makes its own list


def test_what_another_worker_has_done_since_is_not_done_again(tmp_path):
    reports = {name: tmp_path / f"{name}.json" for name in "ab"}
    pieces = shared_out(reports, worker=0)
    assert next(pieces) == ("a", True)
    reports["b"].write_text('{"error": "damaged"}')
    assert list(pieces) == [("b", False)]


def test_several_workers_without_resume_would_repeat_each_other_and_are_refused(cases, tmp_path):
    with pytest.raises(CaseError, match="add --resume True"):
        Claims(tmp_path, worker=3).pending(cases)


@given(count=st.integers(1, 200), worker=st.integers(0, 1000))
def test_a_worker_does_the_whole_list_beginning_somewhere_in_it(count, worker):
    pieces = list(range(count))
    turn = in_turn(pieces, worker)
    assert sorted(turn) == pieces and (turn[0] + 1) % count == turn[1 % count] and in_turn(pieces, None) == pieces


def test_few_workers_begin_far_from_each_other():
    begins = sorted(in_turn(range(100), worker)[0] for worker in range(4))
    assert min(later - earlier for earlier, later in pairwise(begins)) > 10


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, None),
        ({"RANK": "2", "WORLD_SIZE": "4"}, 2),
        ({"SLURM_ARRAY_TASK_ID": "3"}, 3),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "4", "SLURM_PROCID": "1"}, 13),
        ({"SLURM_PROCID": "5"}, 5),
        ({"JOB_COMPLETION_INDEX": "7"}, 7),
        ({"RANK": "x"}, None),
    ],
)
def test_the_number_of_a_worker_is_what_its_launcher_says(environment, number):
    assert worker_number(environment) == number
