"""Everything on a slice, found by points on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from session_room import SHAPE, open_session, organs, volume

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
    proposals = everything_proposed(VolumeSlices(session.volume, session.predictor), session.frame(2), 5)
    assert [one.name for one in proposals] == ["object 1", "object 2"]
    session.propose(proposals, model="everything mode")
    assert set(np.unique(session.labels)) == {0, 1, 2}
    session.undo()
    assert not session.labels.any()


def test_where_proposals_overlap_the_session_decides_and_shows_what_lies_in_another(monkeypatch):
    session = open_session()
    frame = session.frame(2)
    masks = np.zeros((3, frame.height, frame.width), bool)
    masks[0, 2:14, 2:14] = masks[1, 4:6, 4:6] = masks[2, 13:17, 2:6] = True
    found = [SliceMask(mask, iou=iou) for mask, iou in zip(masks, (0.95, 0.9, 0.8), strict=True)]
    monkeypatch.setattr(module, "everything", lambda *_, **__: found)
    proposals = everything_proposed(VolumeSlices(session.volume, session.predictor), frame, 5)
    assert [(one.name, one.mask.sum(), one.predicted_iou) for one in proposals] == [
        ("object 1", 144, 0.95),
        ("object 2", 4, 0.9),
        ("object 3", 16, 0.8),
    ]
    session.propose(proposals, model="everything mode")
    assert [(session.labels == label).sum() for label in (1, 2, 3)] == [144 - 4, 4, 12]
