"""Who measures what a network has learnt neither trains nor chooses."""

from __future__ import annotations

import pytest

from bundle.evaluation import learning_objects
from bundle.evaluation.learning_objects import (
    LABELLED,
    PATIENTS,
    items_that_choose,
    items_that_measure,
    labelled_patients,
)


@pytest.fixture
def sets(monkeypatch, tmp_path):
    """Sets of so many patients of the hippocampus, and of 40 slices of each organ of the abdomen."""

    def make(count: int):
        names = [f"{organ}_{number:02d}.png" for organ in ("liver", "pancreas") for number in range(40)]
        abdomen = [{"image": name, "split": "validation"} for name in names]
        abdomen.append({"image": "liver_99.png", "split": "training"})
        lists = {
            tmp_path / learning_objects.SETS["hippocampus"]: [{"patient": number} for number in range(count)],
            tmp_path / learning_objects.SETS["abdomen"]: abdomen,
        }
        monkeypatch.setattr(learning_objects, "msd", lambda root, **options: lists[root])
        return tmp_path

    return make


@pytest.mark.parametrize("count", [64, 100, 101])
def test_six_patients_measure_who_neither_train_nor_choose(sets, count):
    data = sets(count)
    parts = [labelled_patients(data), *(items(data)["hippocampus"] for items in (items_that_choose, measuring))]
    assert [len(part) for part in parts] == [LABELLED, PATIENTS, PATIENTS]
    assert len({one["patient"] for part in parts for one in part}) == LABELLED + 2 * PATIENTS


def measuring(data):
    return items_that_measure(data, 12)


def test_slices_of_the_abdomen_that_choose_do_not_measure(sets):
    data = sets(64)
    measure, choose = ([one["image"] for one in items(data)["abdomen"]] for items in (measuring, items_that_choose))
    assert len(set(measure)) == 24 and sum(name.startswith("liver") for name in measure) == 12
    assert choose == [f"{organ}_{number:02d}.png" for organ in ("liver", "pancreas") for number in range(0, 40, 5)]
    assert not set(measure) & {*choose, "liver_99.png"}


def test_what_was_asked_is_not_asked_again(tmp_path):
    (tmp_path / "played.json").write_text("[1]")
    assert learning_objects.evaluate(tmp_path / "played.json", {}, 12, lambda: 1 / 0) == [1]
