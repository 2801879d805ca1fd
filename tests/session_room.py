"""Sessions over a small volume with bright objects, which a network without weights segments."""

from __future__ import annotations

import numpy as np
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.prompts.interactions import Point

SHAPE = (20, 18, 12)
LEFT, RIGHT = (5, 9, 5), (13, 9, 5)  # voxels inside of the two organs


def organs(*, apart: bool = True) -> np.ndarray:
    """(20, 18, 12) bool: two columns along k, slices 2 to 9, one voxel apart or touching."""
    mask = np.zeros(SHAPE, bool)
    mask[2:9, 4:14, 2:10] = True
    mask[10 if apart else 9 : 17, 4:14, 2:10] = True
    return mask


def volume(mask: np.ndarray | None = None) -> Volume:
    mask = organs() if mask is None else mask
    return Volume(mask.astype(np.float32) * 100, np.diag([2.0, 2.0, 3.0, 1.0]), "CT", None)


def open_session(image: Volume | None = None, journal: Journal | None = None, **options) -> InteractiveSession:
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(32), store=PreparedCache())
    return InteractiveSession(image or volume(), predictor, journal=journal, **options)


def point(voxel, positive: bool = True) -> Point:
    return Point(np.array(voxel, dtype=float), positive=positive)


def state(session: InteractiveSession) -> dict:
    """All that a user can see of a session, for comparison."""
    return {
        "labels": session.labels.tobytes(),
        "depths": (session.undo_depth, session.redo_depth),
        "objects": [
            {
                "name": one.name,
                "label": one.label,
                "color": one.color,
                "locked": one.locked,
                "interactions": [given.to_json() for given in one.interactions],
                "mask": session.mask(one.name).tobytes(),
                "iou": one.predicted_iou,
                "confirmed": sorted(one.confirmed),
                "warnings": one.warnings,
                "base": one.base,
                "proposed": one.proposed,
            }
            for one in session.objects
        ],
    }
