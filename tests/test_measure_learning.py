"""The wrong labels that the gate has to refuse lie on the grid of their image and beside the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from app_room import AFFINE

from bundle.data.volume import Volume, read_label, write_label
from monailabel_app.learning.gate import Score, score_rows
from scripts import measure_learning
from scripts.measure_learning import (
    LABELLED,
    PATIENTS,
    accepted_label,
    moved,
    spread_patients,
    swapped,
    validation_items,
)

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


@pytest.mark.parametrize("count", [64, 100, 101])
def test_six_patients_are_measured_who_neither_train_nor_chose_the_defaults(count):
    items = [{"patient": number} for number in range(count)]
    chosen_on = items[LABELLED:][:: count // PATIENTS][:PATIENTS]
    measured = spread_patients(items)
    assert len(measured) == PATIENTS and not [one for one in measured if one in (*items[:LABELLED], *chosen_on)]


def test_slices_of_the_abdomen_that_chose_the_defaults_are_not_measured(monkeypatch, tmp_path):
    names = [f"{organ}_{number:02d}.png" for organ in ("liver", "pancreas") for number in range(40)]
    items = [{"image": name, "split": "validation"} for name in names] + [
        {"image": "liver_99.png", "split": "training"}
    ]
    monkeypatch.setattr(measure_learning, "msd", lambda root, **options: items)
    measured = [one["image"] for one in validation_items(tmp_path, 12)]
    assert len(set(measured)) == 24 and sum(name.startswith("liver") for name in measured) == 12
    assert not set(measured) & set([*names[:40:5][:8], *names[40::5][:8], "liver_99.png"])


def result(accepted: bool) -> dict:
    """What a training leaves whose answers in a box have a DSC of 0.6, and those of the mean shape 0.7."""
    scores = {"before": 0.5, "after": 0.6}
    boxes = [Score("held_out", "disc", "box", (0.6,), (0.4,)), Score("shape", "disc", "box", (0.7,), (0.4,))]
    return {
        **{"accepted": accepted, "reasons": [], "share": 1.0, "steps": 4, "seconds": 1.0, "held_out": "patients"},
        **{"dsc": scores, "nsd": scores, "after": score_rows(boxes[:1]), "before": score_rows(boxes)},
    }


def test_one_that_the_gate_refuses_is_told_of_and_not_measured(monkeypatch, tmp_path):
    asked = []

    def learn(name, *_):
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result(name == "1 label")))
        return folder

    def evaluate(name, *_):
        asked.append(name)
        scores = [{"dsc": 0.8, "nsd": 0.6}]
        return [
            {"structure": "disc", "patient": "a", "prompt": prompt, "scores": scores} for prompt in ("box", "clicks")
        ]

    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"weights")
    stand_ins = {"learn": learn, "evaluate": evaluate, "msd": lambda *_, **__: [], "read_slices": lambda _: []}
    stand_ins |= {"spread_patients": lambda _: [], "validation_items": lambda *_: [], "find_weights": lambda _: weights}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(measure_learning, name, stand_in)
    measure_learning.main(["--data", "x", "-o", str(tmp_path), "--runs", "5 swapped labels", "1 label"])
    written = json.loads((tmp_path / "learning.json").read_text())
    assert asked == ["before", "1 label"] == [row["network"] for row in written["rows"]]
    assert [(one["network"], one["accepted"], one["box"], one["shape"]) for one in written["gate"]] == [
        ("5 swapped labels", False, 0.6, 0.7),
        ("1 label", True, 0.6, 0.7),
    ]
