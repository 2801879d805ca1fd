"""The script that lets simulated users click, on generated images and with a network that finds what is bright."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume, write_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import EvaluationError, OptionError
from bundle.evaluation.clicks import object_rows
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor


@pytest.fixture
def simulate(repository, monkeypatch):
    spec = importlib.util.spec_from_file_location("simulate", repository / "scripts" / "simulate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Segmenter, "from_family", lambda *_, **__: Bright())
    return module


class Bright(Segmenter):
    """A segmenter whose network finds what is bright; it counts the images that were opened."""

    def __init__(self):
        self.family = SimpleNamespace(name="bright", contract=bright_contract(), volume=None)
        self.predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())

    def open(self, volume):
        return InteractiveSession(volume, self.predictor)


@pytest.fixture
def files(tmp_path):
    """A volume and a picture of one slice, each with a label map of two bright objects."""
    paths = []
    for name, shape in (("ct", (40, 36, 8)), ("picture", (40, 36, 1))):
        i, j, _ = np.ogrid[: shape[0], : shape[1], : shape[2]]
        truth = np.zeros(shape, np.uint8)
        truth[np.broadcast_to((i - 10) ** 2 + (j - 12) ** 2 < 40, shape)] = 1
        truth[np.broadcast_to((i - 28) ** 2 + (j - 24) ** 2 < 30, shape)] = 2
        image = Volume(np.where(truth, 100, 0).astype(np.float32), np.diag([2.0, 2, 3, 1]), "CT")
        paths += [tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"]
        write_volume(image, paths[-2])
        write_label(truth, image, paths[-1])
    return paths


def run(simulate, files, out, *options):
    simulate.main(["--output", str(out), "--files", *map(str, files), *options])
    return json.loads((out / "simulation.json").read_text())


def test_every_object_of_every_image_has_its_clicks_and_seconds(simulate, files, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    rows = run(simulate, files, tmp_path / "out", "--protocol", "cvpr25")
    assert [(row["key"], row["organ"]) for row in rows] == [
        (f"{name}/{name}.nii.gz", organ) for name in ("ct", "picture") for organ in ("label_1", "label_2")
    ]
    for row in rows:
        assert len(row["dsc"]) == len(row["seconds"]) == len(row["prompts"]) == row["clicks"] + 1
        assert row["dsc"][-1] > 0.9 and min(row["seconds"]) > 0
    out = capsys.readouterr().out
    assert "| ct/ct.nii.gz" in out and "DSC AUC" in caplog.text
    assert (tmp_path / "out" / "report.html").is_file() and (tmp_path / "out" / "simulation.md").read_text() in out


def test_a_run_that_is_started_again_opens_nothing(simulate, files, tmp_path, monkeypatch):
    options = ("--protocol", "box", "--organs", "label_2")
    first = run(simulate, files[:2], tmp_path / "out", *options)
    monkeypatch.setattr(Bright, "open", None)
    assert run(simulate, files[:2], tmp_path / "out", *options) == first
    assert [row["organ"] for row in first] == ["label_2"]


def test_a_data_set_is_played_as_its_layout_says(simulate, files, tmp_path):
    root = tmp_path / "set"
    for source, folder in zip(files[:2], ("images", "labels"), strict=True):
        (root / folder).mkdir(parents=True)
        source.rename(root / folder / "p1.nii.gz")
    names = json.dumps({"names": {"kidney": 1}})
    arguments = ["--layout", "folders", "--data", str(root), "--options", names, "--protocol", "point"]
    simulate.main(["--output", str(tmp_path / "out"), *arguments])
    (row,) = json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert (row["key"], row["organ"], row["clicks"]) == ("p1/p1.nii.gz", "kidney", 0)


def test_a_file_that_cannot_be_read_does_not_hide_the_others(simulate, files, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    bad = [tmp_path / "bad.nii.gz", files[1]]
    with pytest.raises(EvaluationError, match=r"bad\.nii\.gz"):
        run(simulate, [*bad, *files[:2]], tmp_path / "out", "--protocol", "box")
    rows = json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert {row["key"] for row in rows} == {"ct/ct.nii.gz"}


def test_two_images_of_one_name_are_two_patients(simulate, files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in files[:2]:
        (other / path.name).write_bytes(path.read_bytes())
    arguments = ["--output", str(tmp_path), "--files", *map(str, [*files[:2], *(other / p.name for p in files[:2])])]
    items = simulate.items_of(simulate.arguments(arguments))
    assert len({item["patient"] for item in items}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --files"),
        (["--files", "a.nii.gz"], "pairs of image and label, got 1"),
        (["--layout", "flare22"], "needs --data"),
    ],
)
def test_what_is_missing_is_said(simulate, tmp_path, arguments, said):
    with pytest.raises(OptionError, match=said):
        simulate.main(["--output", str(tmp_path), *arguments])


def test_an_organ_that_is_not_in_the_data_is_refused(simulate, files, tmp_path):
    with pytest.raises(OptionError, match="label_1, label_2, got 'liver'"):
        run(simulate, files[:2], tmp_path / "out", "--organs", "liver")


def test_what_a_user_waits_for_includes_every_run_of_the_encoder():
    about = {"key": "k", "case": "p", "organ": "liver", "protocol": "box", "dsc": 0.5, "nsd": 0.5, "iou": 0.4}
    prompt = {"points": [], "point_labels": [], "box": [0, 0, 1, 1]}
    steps = [{**about, "seconds": 1.0, "encode_seconds": 0.5, "encoded": 4, "prompt": prompt}]
    steps += [{**about, "seconds": 1.0, "encode_seconds": None, "encoded": 0, "prompt": {**prompt, "points": [[1, 1]]}}]
    (row,) = object_rows(steps)
    assert (row["seconds"], row["clicks"], row["to_dsc_090"]) == ([3.0, 1.0], 1, None)
