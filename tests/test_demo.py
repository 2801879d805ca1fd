"""The demonstration runs from end to end, and says why where it cannot."""

from __future__ import annotations

import csv
import json
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, write_label, write_volume
from monailabel_app.demo.rounds import merge
from monailabel_app.demo.slicer_user import Answer

ORGANS = {"liver": 1, "left_kidney": 13}


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Path, Path]:
    """A small CT and two organs of its label, in the numbering of FLARE22."""
    folder = tmp_path_factory.mktemp("case")
    image, truth, _ = make_phantom(shape=(48, 42, 12), spacing=(8.0, 8.0, 16.7), seed=1)
    label = np.where(np.isin(truth.array, list(ORGANS.values())), truth.array, 0)
    return write_volume(image, folder / "ct.nii.gz"), write_label(label, image, folder / "label.nii.gz")


@pytest.fixture
def run_demo(repository, monkeypatch):
    """Run scripts/demo.py in this process: importing torch again would take longer than the demo."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
        runpy.run_path(str(repository / "scripts" / "demo.py"), run_name="__main__")

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


def test_every_organ_is_segmented_scored_drawn_and_submitted(run_demo, case, tmp_path, capsys):
    image, label = case
    names = tmp_path / "names.json"
    names.write_text(json.dumps(ORGANS))
    run_demo("--image", image, "--label", label, "--names", names, "--output", tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {row["organ"] for row in rows} == {"liver", "left kidney"}
    assert {"2D box", "2D point", "3D box"} <= {row["prompt"] for row in rows}
    assert len(json.loads((tmp_path / "table.json").read_text())) == len(rows)
    boxes = [float(row["dsc"]) for row in rows if row["prompt"] == "2D box"]
    assert min(boxes) > 0.6  # an ellipse in the box gives about 0.75 on livers, an empty answer 0
    assert "mean of 2" in capsys.readouterr().out
    for name in ("labels-2d", "labels-3d"):
        answer, truth = read_label(tmp_path / f"{name}.nii.gz"), read_label(label)
        assert np.allclose(answer.affine, truth.affine)
        assert set(np.unique(answer.array)) == {0, 1, 13}
    assert Image.open(tmp_path / "overview.png").width > 800
    assert Image.open(tmp_path / "pictures" / "left_kidney.png").width > 800
    assert (tmp_path / "studies" / "labels" / "final" / "ct.nii.gz").is_file()
    store = json.loads((tmp_path / "studies" / "datastore_v2.json").read_text())
    submitted = store["objects"]["ct"]["labels"]["final"]["info"]["label_info"]
    assert [(entry["name"], entry["idx"]) for entry in submitted] == [("liver", 1), ("left kidney", 13)]


def test_no_object_gets_a_name_that_was_not_given(repository, tmp_path):
    organs_of = runpy.run_path(str(repository / "scripts" / "demo.py"))["organs_of"]
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:3], labels[3:] = 1, 4  # the liver's value and the pancreas's in FLARE22; here a tumour and its oedema
    truth = Volume(labels, np.eye(4))
    assert organs_of(truth, None) == {"label 1": 1, "label 4": 4}
    (tmp_path / "names.json").write_text('{"whole_tumour": 1}', encoding="utf-8-sig")
    assert organs_of(truth, tmp_path / "names.json") == {"whole tumour": 1, "label 4": 4}


def test_names_that_are_no_names_end_the_demo_with_a_sentence(run_demo, case, tmp_path):
    (tmp_path / "names.json").write_text('{"liver": "one"}')
    with pytest.raises(SystemExit, match=r"names\.json must map 'liver' to a whole number"):
        run_demo("--image", case[0], "--label", case[1], "--names", tmp_path / "names.json", "--output", tmp_path)


def test_a_server_that_cannot_start_ends_the_demo_with_its_log(run_demo, case, tmp_path):
    image, label = case
    with pytest.raises(SystemExit, match=r"(?s)The demonstration failed.*no-such-family"):
        run_demo("--image", image, "--label", label, "--output", tmp_path, "--conf", "family", "no-such-family")


def test_an_image_without_a_label_is_refused(run_demo, case, capsys):
    with pytest.raises(SystemExit):
        run_demo("--image", case[0])
    assert "belong together" in capsys.readouterr().err


def test_an_organ_whose_answer_lies_in_that_of_another_is_seen_whichever_is_surer():
    large = np.ones((3, 3, 3), dtype=bool)
    small = np.zeros_like(large)
    small[1, 1, 1] = True
    within = Answer(small, {"predicted_iou": {"gallbladder": {"1": 0.8}}}, 0.1)
    around = Answer(large, {"predicted_iou": {"liver": {"0": 0.9, "1": 0.9, "2": 0.9}}}, 0.1)
    labels = merge((3, 3, 3), {"gallbladder": 5, "liver": 7}, [within, around])
    assert labels[1, 1, 1] == 5 and labels[0, 0, 0] == 7
