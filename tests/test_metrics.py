"""DSC, NSD, HD95 and IoU: known distances, empty cases and invariances."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.data.labels import FLARE22_LABELS
from bundle.data.volume import read_label
from bundle.evaluation.metrics import MetricError, dice, evaluate_label_map, hausdorff95, iou, surface_dice

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=8)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))
METRICS = (dice, iou, lambda p, t: surface_dice(p, t, tolerance=1.0))


def sphere(shape, centre, radius):
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) <= radius**2


def slab(start, stop):
    mask = np.zeros((30, 24, 12), dtype=bool)
    mask[4:26, 4:20, start:stop] = True
    return mask


def test_dice_and_iou_of_two_halves_that_overlap():
    truth, prediction = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    truth[:2], prediction[1:3] = True, True
    assert dice(prediction, truth) == 0.5
    assert iou(prediction, truth) == pytest.approx(1 / 3)


def test_a_sphere_shifted_by_three_voxels_has_surfaces_at_most_three_voxels_apart():
    truth, prediction = sphere((40, 40, 40), (20, 20, 20), 10), sphere((40, 40, 40), (23, 20, 20), 10)
    assert surface_dice(prediction, truth, (0.5,) * 3, 1.5) == 1
    assert surface_dice(prediction, truth, (0.5,) * 3, 1.0) < 0.9
    assert 1.0 < hausdorff95(prediction, truth, (0.5,) * 3) <= 1.5 + 1e-6


def test_a_square_shifted_by_three_pixels_is_wrong_on_the_two_sides_it_moved_along():
    truth, prediction = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[20:40, 20:40], prediction[20:40, 23:43] = True, True
    assert surface_dice(prediction, truth, tolerance=3) == 1
    assert surface_dice(prediction, truth, tolerance=2) == pytest.approx(0.5, abs=0.1)
    assert hausdorff95(prediction, truth) == 3


def test_swapped_spacing_gives_another_number_on_a_slab():
    truth, prediction = slab(3, 7), slab(3, 8)
    # One voxel too thick along k: 5 mm with the right spacing, 1 mm with the axes of the spacing swapped.
    # Faces of 22 x 16 mm2, sides 76 mm around and 20 or 25 mm high: one face of each is wrong.
    assert surface_dice(prediction, truth, (1, 1, 5), 2.0) == pytest.approx(1 - 704 / 4828, abs=0.01)
    assert surface_dice(prediction, truth, (5, 1, 1), 2.0) == 1
    assert hausdorff95(prediction, truth, (1, 1, 5)) == 5


@pytest.mark.parametrize(
    ("shape", "truth", "prediction", "spacing", "tolerance", "nsd", "hd95"),
    [
        (
            (30, 32, 20),
            ((14, 15, 9), 8),
            ((16, 14, 10), 7),
            (0.8, 1.1, 2.5),
            2.0,
            0.7476548582009191,
            3.3301651610693423,
        ),
        ((48, 40), ((20, 18), 12), ((23, 20), 9), (0.7, 1.3), 1.5, 0.4341536580112963, 6.268173577685928),
    ],
)
def test_surfaces_are_those_of_deepminds_package(shape, truth, prediction, spacing, tolerance, nsd, hd95):
    # The numbers were computed with surface-distance-based-measures 0.1.
    masks = sphere(shape, *prediction), sphere(shape, *truth)
    assert surface_dice(*masks, spacing, tolerance) == pytest.approx(nsd, abs=1e-6)
    assert hausdorff95(*masks, spacing) == pytest.approx(hd95, abs=1e-5)


def test_a_distance_that_equals_the_tolerance_is_within_it():
    assert surface_dice(slab(3, 8), slab(3, 7), (0.8, 0.8, 0.1), 0.1) == 1


@given(PAIRS)
@settings(deadline=None)
def test_scores_are_symmetric_and_between_zero_and_one(pair):
    for metric in METRICS:
        assert 0 <= metric(*pair) <= 1
        assert metric(*pair) == pytest.approx(metric(*pair[::-1]))


@given(PAIRS)
@settings(deadline=None)
def test_a_mask_agrees_with_itself(pair):
    for metric in METRICS:
        assert metric(pair[0], pair[0]) == 1
    assert hausdorff95(pair[0], pair[0]) == 0


@given(PAIRS, st.data())
@settings(deadline=None)
def test_flips_and_padding_change_nothing(pair, data):
    axis = data.draw(st.integers(0, pair[0].ndim - 1))
    padding = data.draw(st.integers(0, 3))
    for metric in (*METRICS, hausdorff95):
        expected = metric(*pair)
        assert metric(*(np.flip(mask, axis) for mask in pair)) == pytest.approx(expected, abs=1e-6)
        assert metric(*(np.pad(mask, padding) for mask in pair)) == pytest.approx(expected, abs=1e-6)


def test_two_empty_masks_agree_and_one_empty_mask_scores_nothing():
    full, empty = sphere((8, 8, 8), (4, 4, 4), 2), np.zeros((8, 8, 8), bool)
    assert [metric(empty, empty) for metric in (*METRICS, hausdorff95)] == [1, 1, 1, 0]
    for pair in ((full, empty), (empty, full)):
        assert [metric(*pair) for metric in (*METRICS, hausdorff95)] == [0, 0, 0, math.inf]


def test_masks_of_different_grids_are_refused():
    with pytest.raises(MetricError, match="one grid"):
        dice(np.zeros((2, 3)), np.zeros((3, 2)))


def test_a_spacing_of_the_wrong_length_is_refused():
    with pytest.raises(MetricError, match="3 positive spacings"):
        surface_dice(slab(1, 2), slab(1, 2), (1, 1))


def label_maps():
    truth, prediction = np.zeros((40, 40, 20), np.uint8), np.zeros((40, 40, 20), np.uint8)
    truth[sphere(truth.shape, (12, 12, 10), 6)] = 1
    prediction[sphere(truth.shape, (12, 12, 10), 6)] = 1
    truth[sphere(truth.shape, (28, 28, 10), 5)] = 3
    prediction[2:4, 2:4, 2:4] = 4
    return prediction, truth


def test_every_named_organ_gets_a_row_and_absent_ones_say_so():
    organs = {"liver": 1, "pancreas": 2, "aorta": 3, "spleen": 4}
    scores = evaluate_label_map(*label_maps(), spacing=(1, 1, 2), labels=organs)
    assert [score.organ for score in scores] == list(organs)
    assert [(score.dsc, score.nsd, score.present) for score in scores] == [
        (1, 1, True),
        (1, 1, False),
        (0, 0, True),
        (0, 0, True),
    ]
    assert scores[3].voxels_truth == 0 and scores[3].voxels_prediction == 8
    assert scores[3].volume_prediction_ml == pytest.approx(0.016)
    assert scores[0].as_dict()["hd95"] == 0


def test_an_organ_scores_the_same_alone_and_in_a_label_map():
    prediction, truth = label_maps()
    prediction = np.roll(prediction, 2, axis=2)
    (score,) = evaluate_label_map(prediction, truth, spacing=(1, 1, 2), labels={"liver": 1}, tolerance_mm=3)
    assert score.dsc == dice(prediction == 1, truth == 1)
    assert score.nsd == pytest.approx(surface_dice(prediction == 1, truth == 1, (1, 1, 2), 3))
    assert score.hd95 == pytest.approx(hausdorff95(prediction == 1, truth == 1, (1, 1, 2)))
    assert score.iou == iou(prediction == 1, truth == 1)


def test_each_organ_can_have_its_own_tolerance():
    prediction, truth = label_maps()
    prediction = np.roll(prediction, 1, axis=0)
    organs = {"liver": 1, "aorta": 3}
    strict, _ = evaluate_label_map(prediction, truth, labels=organs, tolerance_mm={"liver": 0.1, "aorta": 9})
    assert strict.nsd < 0.9
    with pytest.raises(MetricError, match="'aorta'"):
        evaluate_label_map(prediction, truth, labels=organs, tolerance_mm={"liver": 0.1})


def test_an_image_stored_as_a_volume_of_one_slice_is_scored_as_an_image():
    prediction, truth = (labels[:, :, 10] for labels in label_maps())
    flat = evaluate_label_map(prediction, truth, labels={"liver": 1, "aorta": 3})
    stored = evaluate_label_map(
        prediction[:, :, None], truth[:, :, None], spacing=(1, 1, 9), labels={"liver": 1, "aorta": 3}
    )
    assert flat == stored and flat[0].volume_truth_ml is None


def test_label_maps_of_floats_are_taken_only_when_they_are_whole():
    prediction, truth = label_maps()
    assert evaluate_label_map(prediction.astype(float), truth, labels={"liver": 1})[0].dsc == 1
    with pytest.raises(MetricError, match="whole numbers"):
        evaluate_label_map(prediction * 0.5, truth, labels={"liver": 1})


@pytest.mark.parametrize("value", [65536, 614_454_277, 2**32 - 1])
def test_a_label_may_be_as_large_as_an_atlas_has_it(value):
    prediction, truth = (np.where(labels == 1, value, labels).astype(np.uint32) for labels in label_maps())
    assert evaluate_label_map(prediction, truth, labels={"thalamus": value, "no": 77})[0].dsc == 1
    assert evaluate_label_map(prediction.astype(float), truth, labels={"thalamus": value})[0].dsc == 1


def test_background_is_not_an_organ():
    with pytest.raises(MetricError, match="background"):
        evaluate_label_map(*label_maps(), labels={"background": 0})


def test_a_whole_abdomen_takes_seconds():
    truth = np.zeros((512, 512, 200), np.uint8)
    truth[120:300, 150:330, 50:140] = 1
    for label in range(2, 14):
        truth[30 * label : 30 * label + 28, 340:380, 60:110] = label
    started = time.process_time()  # the wall clock also counts what else the machine does
    scores = evaluate_label_map(
        np.roll(truth, 1, axis=0), truth, spacing=(0.8, 0.8, 2.5), labels={f"organ {n}": n for n in range(1, 14)}
    )
    assert all(score.nsd == 1 and score.dsc < 1 for score in scores)
    assert time.process_time() - started < 15  # measured: 1.2 s on one core


@pytest.mark.real_data
def test_a_real_label_map_agrees_with_itself_and_less_so_when_shifted(real_data):
    truth = read_label(real_data / "flare22-style" / "labels" / "FLARE22_Tr_0001.nii.gz")
    options = {"spacing": truth.spacing, "labels": FLARE22_LABELS}
    same = evaluate_label_map(truth.array, truth.array, **options)
    shifted = evaluate_label_map(np.roll(truth.array, 1, axis=0), truth.array, **options)
    assert [score.organ for score in same if not score.present] == ["esophagus"]
    assert all(score.dsc == score.nsd == 1 for score in same)
    # One voxel is 3 mm, beyond the tolerance of 2 mm.
    assert all(score.dsc < 1 and score.nsd < 1 and score.hd95 <= 3 + 1e-5 for score in shifted if score.present)
