"""Prompt protocols of volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bundle.evaluation.protocols import ProtocolError, object_rng, run_protocol
from bundle.evaluation.volume_protocols import VolumeProtocol, central_slice, cvpr25_scores, volume_protocol_named


@dataclass
class Painted:
    mask: np.ndarray


def cone():
    """A cone along k that grows from slice 4 to slice 15, with its largest slice last."""
    rows, columns, height = np.ogrid[:40, :40, :20]
    radius = (height - 3) * ((height >= 4) & (height <= 15))
    return ((rows - 18) ** 2 + (columns - 22) ** 2 <= radius**2) & (radius > 0)


def painter(prompt):
    """Paints the box, then balls around the points."""
    mask = np.zeros((40, 40, 20), dtype=bool)
    if prompt.box is not None:
        (a, b, c), (d, e, f) = prompt.box.astype(int)
        mask[a : d + 1, b : e + 1, c : f + 1] = True
    grid = np.ogrid[:40, :40, :20]
    for point, label in zip(prompt.points, prompt.point_labels, strict=True):
        mask[sum((axis - p) ** 2 for axis, p in zip(grid, point, strict=True)) <= 16] = label == 1
    return Painted(mask)


def run(protocol, predict=painter):
    return run_protocol(protocol, predict, cone(), rng=object_rng(0, "cone"), spacing=(1, 1, 2))


def test_the_central_slice_holds_the_middle_voxel():
    truth = cone()
    middle = central_slice(truth)
    below, with_it = truth[:, :, :middle].sum(), truth[:, :, : middle + 1].sum()
    assert below <= truth.sum() // 2 < with_it


def test_a_3d_box_is_tight():
    (step,) = run(VolumeProtocol("box"))
    assert step.prompt.box.tolist() == [[6, 10, 4], [30, 34, 15]]


def test_a_box_on_the_central_slice_is_one_voxel_thick():
    (step,) = run(VolumeProtocol("slice_box"))
    assert step.prompt.box[0, 2] == step.prompt.box[1, 2] == central_slice(cone())


def test_the_challenges_box_takes_the_range_of_the_object_and_the_outline_of_the_middle():
    (step,) = run(VolumeProtocol("middle_box"))
    (slice_step,) = run(VolumeProtocol("slice_box"))
    assert step.prompt.box[:, 2].tolist() == [4, 15]
    assert step.prompt.box[:, :2].tolist() == slice_step.prompt.box[:, :2].tolist()


def test_a_point_on_the_central_slice_is_in_its_middle():
    (step,) = run(VolumeProtocol("slice_point"))
    assert step.prompt.points.tolist() == [[18, 22, central_slice(cone())]]


def test_clicks_correct_the_volume():
    steps = run(VolumeProtocol("point", clicks=5))
    assert [len(step.prompt.points) for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].score.dsc > steps[0].score.dsc
    assert steps[0].score.volume_truth_ml == pytest.approx(cone().sum() * 2 / 1000)


def test_the_challenges_scores_count_only_clicks_and_no_surface_of_a_poor_mask():
    steps = run(VolumeProtocol("point", clicks=5))
    scores = cvpr25_scores(steps)
    dsc = [step.score.dsc for step in steps]
    assert scores["dsc_auc"] == pytest.approx(sum(dsc[1:]) - (dsc[1] + dsc[5]) / 2)
    assert scores["dsc_final"] == dsc[5]
    assert cvpr25_scores(steps[:1])["nsd_final"] == (steps[0].score.nsd if dsc[0] > 0.2 else 0)


def test_a_perfect_model_reaches_the_challenges_four():
    steps = run(VolumeProtocol("middle_box", clicks=5), lambda prompt: Painted(cone()))
    assert cvpr25_scores(steps) == {"dsc_auc": 4, "dsc_final": 1, "nsd_auc": 4, "nsd_final": 1}


def test_an_unknown_start_is_refused():
    with pytest.raises(ProtocolError, match="'corner'"):
        VolumeProtocol("corner")


def test_a_name_says_how_many_corrections_follow_the_start():
    assert volume_protocol_named("clicks_from_slice_box_3") == VolumeProtocol("slice_box", clicks=3)
    with pytest.raises(ProtocolError, match="'cvpr25_3'"):
        volume_protocol_named("cvpr25_3")
