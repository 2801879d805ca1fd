"""Any interaction, on any plane, starts an object and corrects it through the volume."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.errors import PromptError
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SlicePredictor
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble
from bundle.prompts.prompts import ObjectPrompts

SHAPE = (16, 14, 12)
TUBE = np.zeros(SHAPE, bool)
TUBE[3:9, 3:9, 2:10] = True
BESIDE = np.zeros(SHAPE, bool)
BESIDE[11:14, 9:13, 3:9] = True
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def following() -> tuple[SliceFollowing, object]:
    model = SliceFollowing(SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache()))
    volume = Volume((TUBE | BESIDE).astype(np.float32) * 100, AFFINE, "CT", None)
    return model, model.start(volume)


def predict(model_and_state, interactions, previous=None, **options):
    model, state = model_and_state
    prompts = ObjectPrompts(interactions).validated(SHAPE)
    return model.predict(state, prompts, previous, **options)


def square(at: int, axis: int = 2, low: int = 4, high: int = 7, **options) -> Lasso:
    corners = np.array([[low, low], [high, low], [high, high], [low, high]], float)
    return Lasso(np.insert(corners, axis, at, axis=1), **options)


def part(*where: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[where] = True
    return mask


STARTS = {
    "point": Point([5, 5, 6]),
    "flat box": Box([[3, 3, 6], [8, 8, 6]]),
    "3D box": Box([[3, 3, 2], [8, 8, 9]]),
    "scribble": Scribble([[4, 5, 6], [7, 5, 6]]),
    "scribble through slices": Scribble([[5, 5, 4], [5, 6, 8]]),
    "lasso": square(6, low=3, high=8),
    "lasso on another plane": square(5, axis=0),
    "box on another plane": Box([[5, 3, 2], [5, 8, 9]]),
    "mask of a slice": Mask(part(slice(3, 9), slice(3, 9), 6)),
    "mask of another plane": Mask(part(5, slice(3, 9), slice(3, 9))),
    "mask": Mask(TUBE),
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("axis", [1, 2])
def test_any_interaction_starts_an_object(start, axis):
    found = predict(following(), [start], axis=axis).segmentation
    assert dice(found.mask, TUBE) > 0.9 and not (found.mask & BESIDE).any() and found.axis == axis


def test_a_segmentation_is_taken_as_it_is_and_ends_where_it_ends():
    given_mask = TUBE.copy()
    given_mask[:, :, 6:] = False
    given_mask[3, 3, :] = False
    model = following()
    found = predict(model, [Mask(given_mask)])
    assert np.array_equal(found.segmentation.mask, given_mask) and not model[0].predictor.network.encoded
    assert set(found.segmentation.scores.values()) == {1.0}


def test_the_slices_between_those_of_a_segmentation_are_found():
    sparse = TUBE.copy()
    sparse[:, :, [4, 5, 7, 8]] = False
    assert dice(predict(following(), [Mask(sparse)]).segmentation.mask, TUBE) > 0.9


def test_a_confirmed_slice_stays_whatever_is_corrected_beside_it():
    confirmed = part(slice(3, 6), slice(3, 9), 4)
    interactions = [
        STARTS["point"],
        Mask(confirmed),
        Point([4, 4, 3]),
        Point([8, 8, 5]),
        Point([5, 5, 7], positive=False),
    ]
    for count in range(2, len(interactions) + 1):
        mask = predict(following(), interactions[:count]).segmentation.mask
        assert np.array_equal(mask[:, :, 4], confirmed[:, :, 4])


@pytest.mark.parametrize(
    "off",
    [Box([[3, 3, 7], [8, 8, 9]], positive=False), Mask(part(slice(3, 9), slice(3, 9), slice(7, 10)), positive=False)],
)
def test_what_is_enclosed_on_several_slices_off_the_object_ends_it(off):
    mask = predict(following(), [STARTS["point"], off]).segmentation.mask
    assert not mask[:, :, 7:].any() and dice(mask, TUBE & part(slice(None), slice(None), slice(0, 7))) > 0.9


def test_a_later_3d_box_confines_what_was_found():
    mask = predict(following(), [STARTS["point"], Box([[3, 3, 4], [6, 8, 8]])]).segmentation.mask
    inside = part(slice(3, 7), slice(3, 9), slice(4, 9))
    assert not (mask & ~inside).any() and dice(mask, inside) > 0.9


def test_a_later_3d_box_elsewhere_finds_what_is_in_it():
    mask = predict(following(), [Box([[3, 3, 6], [8, 8, 6]]), Box([[11, 9, 3], [13, 12, 8]])]).segmentation.mask
    assert (mask & BESIDE).sum() > 0.8 * BESIDE.sum()


def test_a_later_flat_box_says_what_the_object_is_on_its_slice():
    mask = predict(following(), [STARTS["point"], Box([[3, 3, 4], [5, 8, 4]])]).segmentation.mask
    assert not mask[6:, :, 4].any() and mask[4, 5, 4] and mask[8, 5, 6]


@pytest.mark.parametrize("start", ["point", "scribble through slices", "3D box", "mask"])
def test_an_object_is_followed_to_its_limits(start):
    mask = predict(following(), [STARTS[start]], limits=(4, 7)).segmentation.mask
    assert sorted(np.flatnonzero(mask.any(axis=(0, 1)))) == [4, 5, 6, 7]


def test_what_lies_beyond_the_limits_is_said_to_be_left_out(caplog):
    interactions = [STARTS["point"], Scribble([[5, 5, 5], [5, 5, 9]])]
    mask = predict(following(), interactions, limits=(4, 7)).segmentation.mask
    assert not mask[:, :, 8:].any() and "outside of slices 4 to 7 is left out" in caplog.text
    with pytest.raises(PromptError, match="may lie on slices 0 to 3, but its prompts lie on slices 6 to 6"):
        predict(following(), interactions[:1], limits=(0, 3))


def test_outside_of_the_stretch_of_a_correction_not_one_voxel_changes():
    start = [STARTS["point"], Scribble([[5, 5, 8], [7, 5, 8]])]
    before = predict(following(), start).segmentation.mask
    after = predict(following(), [*start, square(9, positive=False)]).segmentation.mask
    assert not np.array_equal(before, after) and np.array_equal(before[:, :, :8], after[:, :, :8])


POSITIONS = st.tuples(*(st.integers(0, size - 1) for size in SHAPE)).map(list)
LINES = st.lists(POSITIONS, min_size=1, max_size=3)
ANY = st.one_of(
    st.builds(Point, POSITIONS, positive=st.booleans()),
    st.builds(Scribble, LINES, positive=st.booleans()),
    st.builds(Box, st.tuples(POSITIONS, POSITIONS).map(list), positive=st.booleans()),
    st.builds(square, st.integers(0, 11), st.integers(0, 2), positive=st.booleans()),
    st.builds(
        lambda low, high, positive: Mask(
            part(*(slice(min(a, b), max(a, b) + 1) for a, b in zip(low, high, strict=True))), positive=positive
        ),
        POSITIONS,
        POSITIONS,
        st.booleans(),
    ),
)


def holds(interaction, mask: np.ndarray) -> bool:
    """Whether the answer says what the last interaction says where it lies."""
    interaction = interaction.validated(SHAPE)
    if interaction.kind == "box":
        low, high = interaction.corners.astype(int)
        inside = mask[tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))]
        return interaction.positive or not inside.any()
    under = mask[tuple(interaction.named_voxels(SHAPE).T)]
    if interaction.kind == "lasso" and interaction.positive:
        return bool(under.any())
    return bool((under == interaction.positive).all())


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking is slow
@given(st.lists(ANY, min_size=1, max_size=2), st.integers(0, 2))
@example([Scribble([[3, 3, 0], [2, 2, 4], [3, 0, 0]], positive=False)], 0)  # twice through one slice
@example([square(8, 1, positive=True), Scribble([[12, 8, 6], [0, 13, 7], [1, 8, 0]])], 0)  # turns on its last slice
@example([Scribble([[10, 3, 10], [9, 10, 5]])], 0)  # passes between two voxels of a mirrored slice
def test_the_same_interactions_give_the_same_answer_and_the_last_one_holds(others, axis):
    opened = following()
    interactions = [STARTS["point"], *others]
    previous, masks = None, []
    for count in range(1, len(interactions) + 1):
        previous = predict(opened, interactions[:count], previous, axis=axis)
        masks.append(previous.segmentation.mask)
        assert count == 1 or holds(interactions[count - 1], masks[-1])
    assert np.array_equal(predict(following(), interactions, axis=axis).segmentation.mask, masks[-1])
    for count in range(len(interactions) - 1, 0, -1):  # taken back, one after the other
        previous = predict(opened, interactions[:count], previous, axis=axis)
        assert np.array_equal(previous.segmentation.mask, masks[count - 1])


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking is slow
@given(st.sampled_from(sorted(STARTS)), st.lists(ANY, max_size=2), st.integers(0, 2), st.none() | st.just((2, 8)))
@example("point", [Box([[3, 3, 4], [6, 8, 8]])], 2, None)  # asked everywhere before the box confines it
@example("3D box", [Point([5, 5, 10])], 2, None)  # beside the box
def test_what_is_asked_is_told_each_slice_once_and_never_more_than_was_said(start, others, axis, limits):
    told = []
    opened = following()
    try:
        predict(opened, [STARTS[start], *others], axis=axis, limits=limits, progress=told.append)
    except PromptError:
        assume(False)  # nothing on the object lies within the limits
    first, last = limits or (0, SHAPE[axis] - 1)
    assert [far.slices for far in told] == [len({far.index for far in told[: n + 1]}) for n in range(len(told))]
    assert all(first <= far.index <= last and far.slices <= far.of <= last - first + 1 for far in told)
    assert len({far.of for far in told}) <= 1


@pytest.mark.parametrize(
    ("interactions", "limits", "most"),
    [
        ([STARTS["point"]], None, 12),
        ([STARTS["point"]], (4, 9), 6),
        ([STARTS["3D box"]], None, 8),
        ([STARTS["3D box"]], (5, 20), 5),
        ([STARTS["3D box"], Point([5, 5, 10])], None, 9),
        ([STARTS["3D box"], Point([5, 5, 10], positive=False)], None, 8),
        ([STARTS["mask of a slice"]], None, 12),
    ],
)
def test_at_most_the_slices_of_the_volume_of_the_limits_or_of_a_3d_box_are_asked(interactions, limits, most):
    told = []
    predict(following(), interactions, limits=limits, progress=told.append)
    assert {far.of for far in told} == {most}
