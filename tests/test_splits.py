"""Cross-validation from its overlay: folds by patient; `test_split_items` has the functions that it calls."""

from __future__ import annotations

from collections import Counter

import pytest
from monai.bundle import ConfigParser

from bundle.data.datasets import SPLITS
from bundle.data.splits import SplitError, check_disjoint, fold_of

# Eleven patients with one to three images each; one of them is for the end.
ITEMS = [
    {"patient": f"p{n}", "image": f"p{n}_{k}.png", **({"split": "test"} if n == 4 else {})}
    for n in range(11)
    for k in range(1 + n % 3)
]


@pytest.fixture
def fold(repository):
    """What the overlay makes of a command line: training and validation items, and the folder."""

    def parsed(base: str, **options):
        parser = ConfigParser()
        names = (base, "datasets/prepared", "cross_validation")
        parser.read_config([str(repository / "configs" / f"{name}.json") for name in names])
        for name, value in {"dataset_items": ITEMS, "run_name": "mine", **options}.items():
            parser[name] = value
        return [parser.get_parsed_content(name) for name in ("training_items", "validation_items", "output_dir")]

    return parsed


@pytest.mark.parametrize("base", ["train", "evaluate"])
def test_folds_are_disjoint_by_patient_and_cover_all(fold, base):
    validated, folders = Counter(), set()
    for number in range(3):
        training, validation, folder = fold(base, folds=3, fold=number)
        check_disjoint({"training": training, "validation": validation})
        patients = [{item["patient"] for item in part} for part in (training, validation)]
        assert set.union(*patients) == {item["patient"] for item in ITEMS} - {"p4"}
        assert len(training) + len(validation) == sum("split" not in item for item in ITEMS)
        validated.update(patients[1])
        folders.add(folder)
    assert set(validated.values()) == {1} and len(validated) == 10 and len(folders) == 3


def test_the_split_of_a_data_list_is_not_kept(fold):
    listed = [{**item, "split": SPLITS[0]} for item in ITEMS]
    training, validation, _ = fold("train", dataset_items=listed, fold=4)
    assert training and validation


@pytest.mark.parametrize("number", [-1, 3, 1.0, True])
def test_a_fold_that_does_not_exist_is_refused(number):
    with pytest.raises(SplitError, match="fold must be 0 to 2"):
        fold_of(ITEMS, k=3, fold=number)
