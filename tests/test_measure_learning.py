"""The wrong labels that the gate has to refuse lie on the grid of their image and beside the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from app_room import AFFINE

from bundle.data.volume import Volume, read_label, write_label
from monailabel_app.learning.gate import Score, score_rows
from scripts import measure_learning
from scripts.measure_learning import accepted_label, folder_of, moved, swapped

SHAPES = {"a": (12, 10, 8), "b": (9, 13, 8)}


def labels_of(name: str) -> np.ndarray:
    """A block in the middle, wider in the second patient."""
    labels, (width, height, _) = np.zeros(SHAPES[name], np.uint8), SHAPES[name]
    reach = 3 if name == "a" else 4
    labels[width // 2 - reach : width // 2 + reach, height // 2 - 2 : height // 2 + 2, 2:6] = 1
    return labels


@pytest.fixture
def items(tmp_path):
    found = []
    for name, shape in SHAPES.items():
        grid = Volume(np.zeros(shape, np.int16), AFFINE)
        path = write_label(labels_of(name), grid, tmp_path / f"{name}-label.nii.gz")
        found.append({"image": f"{name}.nii.gz", "label": path, "labels": {"block": 1}, "patient": name})
    return found


def test_a_moved_label_lies_a_third_of_its_width_beside_its_place():
    first, after = (np.flatnonzero(one.any(axis=(1, 2))) for one in (labels_of("a"), moved(labels_of("a"), ())))
    assert len(first) == len(after) == 6 and after[0] - first[0] == 2


@pytest.mark.parametrize("shape", [(9, 13, 8), (20, 6, 8)])
def test_a_label_of_another_image_lies_in_the_middle(shape):
    other = swapped(labels_of("a"), shape)
    assert other.shape == shape and other.dtype == np.uint8
    for axis in (0, 1):
        at = np.flatnonzero(other.any(axis=tuple({0, 1, 2} - {axis})))
        assert abs(at.mean() - (shape[axis] - 1) / 2) <= 1


@pytest.mark.parametrize("wrong", ["moved", "swapped"])
def test_a_wrong_label_is_on_the_grid_of_its_image_and_not_its_truth(items, tmp_path, wrong):
    (tmp_path / "wrong").mkdir()
    told = accepted_label(items, 1, tmp_path / "wrong", wrong)
    label = read_label(told["label"])
    assert label.array.shape == SHAPES["b"] and (label.array != labels_of("b")).any() and label.array.any()
    assert (told["patient"], told["image"]) == ("b", "b.nii.gz")


def test_a_right_label_is_the_file_itself(items, tmp_path):
    assert accepted_label(items, 0, tmp_path, "")["label"] == str(items[0]["label"])


def result(accepted: bool) -> dict:
    """What a training leaves whose answers in a box have a DSC of 0.6, and those of the mean shape 0.7."""
    scores = {"before": 0.5, "after": 0.6}
    boxes = [Score("held_out", "disc", "box", (0.6,), (0.4,)), Score("shape", "disc", "box", (0.7,), (0.4,))]
    return {
        **{"accepted": accepted, "reasons": [], "share": 1.0, "steps": 4, "seconds": 1.0, "held_out": "patients"},
        **{"dsc": scores, "nsd": scores, "whole": score_rows(boxes[:1]), "before": score_rows(boxes)},
    }


def test_one_that_the_gate_refuses_is_told_of_and_not_measured(monkeypatch, tmp_path):
    asked = []

    def learn(name, seed, items, base, options):
        folder = folder_of(name, seed, options)
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result((name, seed) in (("1 label", 0), ("1 label", 10)))))
        return folder

    def evaluate(file, *_):
        asked.append(str(file.relative_to(tmp_path)))
        scores = [{"dsc": 0.8, "nsd": 0.6}]
        prompts = ("box", "clicks")
        records = [{"structure": "disc", "patient": "a", "prompt": prompt, "scores": scores} for prompt in prompts]
        file.write_text(json.dumps(records))

    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"weights")
    stand_ins = {"learn": learn, "evaluate": evaluate, "find_weights": lambda _: weights}
    stand_ins |= dict.fromkeys(("labelled_patients", "items_that_measure", "read_slices"), lambda *_: {})
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(measure_learning, name, stand_in)
    measure_learning.main(["--data", "x", "-o", str(tmp_path), "--runs", "5 swapped labels"])
    measure_learning.main(["--data", "x", "-o", str(tmp_path), "--runs", "1 label", "--seeds", "10", "2", "0"])
    written = json.loads((tmp_path / "learning.json").read_text())
    assert [name for name in asked if name != "before.json"] == [
        "1_label_seed_10/played-1.json",
        "1_label_seed_0/played-1.json",
    ]
    assert [(row["network"], len(row["changes"])) for row in written["rows"]] == [("before", 1), ("1 label", 2)]
    told = [(one["network"], one["seed"], one["accepted"], one["box"], one["shape"]) for one in written["gate"]]
    assert told == [
        ("1 label", 0, True, 0.6, 0.7),
        ("1 label", 2, False, 0.6, 0.7),
        ("1 label", 10, True, 0.6, 0.7),
        ("5 swapped labels", 0, False, 0.6, 0.7),
    ]


def test_shares_of_each_training_are_tried_on_the_objects_that_choose(monkeypatch, tmp_path):
    asked = {}

    def evaluate(file, slices, count, predictor):
        asked[str(file.relative_to(tmp_path))] = slices
        scores = [{"dsc": {"share-0.5.json": 0.7, "share-1.json": 0.9}.get(file.name, 0.6), "nsd": 0.6}]
        return [{"structure": "disc", "patient": "a", "prompt": one, "scores": scores} for one in ("box", "clicks")]

    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    for seed in (0, 1):
        (tmp_path / f"1_label_seed_{seed}").mkdir()
        (tmp_path / f"1_label_seed_{seed}" / "result.json").write_text("{}")
    stand_ins = {"evaluate": evaluate, "items_that_choose": lambda _: "choosing", "read_slices": lambda items: items}
    stand_ins["find_weights"] = lambda _: tmp_path / "weights.safetensors"
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(measure_learning, name, stand_in)
    measure_learning.main(["--data", "x", "-o", str(tmp_path), "--runs", "1 label", "--shares", "1", "0.5"])
    assert len(asked) == 5 and set(asked.values()) == {"choosing"}
    rows = json.loads((tmp_path / "shares.json").read_text())["rows"]
    assert [(row["network"], row["changes"]) for row in rows] == [
        ("before", [0.0]),
        ("1 label, 100%", [0.3, 0.3]),
        ("1 label, 50%", [0.1, 0.1]),
    ]
