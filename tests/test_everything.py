"""Everything on a slice, found by points on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import SHAPE, open_session, organs, point, volume

from bundle.active import everything as module
from bundle.active.everything import everything, everything_proposed, grid_points
from bundle.interactive.slice_model import SliceMask
from bundle.interactive.volume_slices import VolumeSlices


def slices_of(mask=None):
    session = open_session(volume(mask))
    return VolumeSlices(session.volume, session.predictor), session.frame(2)


def test_each_object_is_found_once():
    slices, frame = slices_of()
    found = everything(slices, frame, 5)
    assert len(found) == 2
    together = found[0].mask | found[1].mask
    assert not (found[0].mask & found[1].mask).any()
    assert (together == frame.extract(organs(), 5)).mean() > 0.97


def test_a_slice_without_objects_has_none():
    slices, frame = slices_of()
    assert everything(slices, frame, 0) == []


def test_what_fills_the_slice_is_its_background():
    slices, frame = slices_of(np.ones(SHAPE, bool))
    assert everything(slices, frame, 5) == []


def test_points_lie_evenly_within_what_the_slice_shows():
    slices, frame = slices_of()
    points = grid_points(slices, frame, 5, 4)
    assert len(np.unique(points, axis=0)) == 16
    assert (points >= 0).all() and (points <= (frame.width - 1, frame.height - 1)).all()


def test_progress_is_told_before_each_point_and_may_end_it():
    slices, frame = slices_of()
    told = []

    def enough():
        told.append(1)
        if len(told) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        everything(slices, frame, 5, progress=enough)


def test_proposals_go_into_a_session():
    session = open_session()
    proposals = everything_proposed(session, 5)
    assert [one.name for one in proposals] == ["object 1", "object 2"]
    session.propose(proposals, model="everything mode")
    assert set(np.unique(session.labels)) == {0, 1, 2}
    session.undo()
    assert not session.labels.any()


def three_columns() -> np.ndarray:
    """Two objects on slices 2 to 4, one elsewhere on slices 8 to 10."""
    mask = np.zeros(SHAPE, bool)
    mask[2:8, 3:9, 2:5] = mask[11:17, 3:9, 2:5] = mask[11:17, 10:16, 8:11] = True
    return mask


def proposed(session, index, **options) -> list[str]:
    proposals = everything_proposed(session, index, **options)
    session.propose(proposals, model="everything mode")
    return [one.name for one in proposals]


def on_slices(session) -> dict[str, list[int]]:
    return {one.name: np.flatnonzero(session.mask(one.name).any(axis=(0, 1))).tolist() for one in session.objects}


def test_what_is_found_on_a_second_slice_has_names_of_its_own():
    session = open_session(volume(three_columns()))
    assert proposed(session, 3) == ["object 1", "object 2"]
    assert proposed(session, 9) == ["object 3"]
    assert on_slices(session) == {"object 1": [3], "object 2": [3], "object 3": [9]}


def test_what_was_found_on_the_same_slice_before_is_found_anew_under_its_name():
    session = open_session(volume(three_columns()))
    proposed(session, 3)
    session.set_mask(np.zeros(SHAPE, bool), "object 2")  # somebody has worked on it: it is no object of this slice now
    assert sorted(proposed(session, 3)) == ["object 1", "object 3"] == sorted(proposed(session, 3))
    assert on_slices(session) == {"object 1": [3], "object 2": [], "object 3": [3]}


def test_what_somebody_has_is_not_found_again_locked_or_not():
    session = open_session(volume(three_columns()))
    proposed(session, 3)
    session.rename("object 1", "liver")
    session.lock("liver")
    session.add(point((14, 5, 3)), "object 2", dimension=2)
    assert proposed(session, 3) == []
    assert proposed(session, 9) == ["object 1"]
    session.set_mask(np.ones(SHAPE, bool), "all")
    session.lock("all")
    assert proposed(session, 4) == []  # nothing under it could be shown


def test_where_proposals_overlap_the_session_decides_and_shows_what_lies_in_another(monkeypatch):
    session = open_session()
    frame = session.frame(2)
    masks = np.zeros((3, frame.height, frame.width), bool)
    masks[0, 2:14, 2:14] = masks[1, 4:6, 4:6] = masks[2, 13:17, 2:6] = True
    found = [SliceMask(mask, iou=iou) for mask, iou in zip(masks, (0.95, 0.9, 0.8), strict=True)]
    monkeypatch.setattr(module, "everything", lambda *_, **__: found)
    proposals = everything_proposed(session, 5)
    assert [(one.name, one.mask.sum(), one.predicted_iou) for one in proposals] == [
        ("object 1", 144, 0.95),
        ("object 2", 4, 0.9),
        ("object 3", 16, 0.8),
    ]
    session.propose(proposals, model="everything mode")
    assert [(session.labels == label).sum() for label in (1, 2, 3)] == [144 - 4, 4, 12]
