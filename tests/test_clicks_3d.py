"""The script that plays corrections in 3D."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume, write_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import OptionError
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor


@pytest.fixture
def clicks_3d(repository):
    spec = importlib.util.spec_from_file_location("clicks_3d", repository / "scripts" / "clicks_3d.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def cone() -> np.ndarray:
    """Grows along k from slice 4 to slice 15."""
    rows, columns, height = np.ogrid[:40, :36, :20]
    radius = (height - 3) * ((height >= 4) & (height <= 15))
    return ((rows - 18) ** 2 + (columns - 20) ** 2 <= radius**2) & (radius > 0)


class OneObject:
    """In place of a loaded model: every image is opened with a network that finds what is bright."""

    family = SimpleNamespace(contract=bright_contract(), volume=None)

    def open(self, volume: Volume) -> InteractiveSession:
        return InteractiveSession(volume, SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache()))


def test_a_run_is_written_and_continued(clicks_3d, tmp_path, monkeypatch, capsys):
    truth = cone()
    write_volume(Volume(truth.astype(np.float32) * 100, np.diag([2.0, 2, 3, 1]), "CT"), tmp_path / "image.nii.gz")
    write_label(truth.astype(np.uint8), Volume(truth, np.diag([2.0, 2, 3, 1])), tmp_path / "label.nii.gz")
    monkeypatch.setattr(clicks_3d, "OBJECTS", {"cone": ("image.nii.gz", "label.nii.gz", 1)})
    monkeypatch.setattr(clicks_3d.Segmenter, "from_family", lambda *_, **__: OneObject())
    options = ["--data", str(tmp_path), "--results", str(tmp_path / "out.json")]
    clicks_3d.main(options)
    results = json.loads((tmp_path / "out.json").read_text())
    assert [result["start"] for result in results] == list(clicks_3d.STARTS)
    assert all(len(result["clicks"]) == len(result["dsc"]) - 1 and result["dsc"][-1] > 0.9 for result in results)
    monkeypatch.setattr(clicks_3d, "_open", None)  # nothing is left to play
    clicks_3d.main(options)
    assert capsys.readouterr().out.count("| 3D box | cone") == 2
    with pytest.raises(OptionError, match=r"now .*'clicks_at_most': 2"):
        clicks_3d.main([*options, "--clicks", "2"])


def test_a_generated_patient_has_a_file_of_results_of_its_own(clicks_3d):
    assert clicks_3d._options([]).results == clicks_3d.RESULTS
    assert clicks_3d._options(["--phantom", "3"]).results.name == "clicks_3d_phantom_3.json"


@pytest.mark.parametrize("words", [["--objects", "aorta"], ["--phantom", "0", "--objects", "brain tumour"]])
def test_an_object_that_is_not_here_is_refused(clicks_3d, words, capsys):
    with pytest.raises(SystemExit):
        clicks_3d._options(words)
    assert f"there is no {words[-1]} here" in capsys.readouterr().err
