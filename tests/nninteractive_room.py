"""A server of the nnInteractive dialect in a thread, with a network that finds what is bright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from app_room import listening
from fakes import BrightRegionSam, bright_contract

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.nninteractive.app import create_app
from monailabel_app.nninteractive.leases import Leases


def bright_opener(folder: Path | None = None):
    """Opens sessions with the network that finds what is bright; with a folder they are journalled there."""
    predictor = SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())

    def open_session(volume: Volume, user: str, digest: str) -> InteractiveSession:
        journal = None
        if folder is not None:
            journal = Journal.of(folder, volume, user, digest=digest)
        return InteractiveSession(volume, predictor, journal=journal)

    return open_session


@contextmanager
def running(open_session, *, leases: Leases | None = None, **options) -> Iterator[str]:
    """The address of a running server."""
    app = create_app(open_session, leases=leases, **options)
    with listening(app) as address:
        yield address


def balls() -> np.ndarray:
    """(30, 36, 40) float32 as SimpleITK gives it, (z, y, x): two bright balls, at (15, 12, 12) and (15, 24, 28)."""
    grid = np.stack(np.meshgrid(*map(np.arange, (30, 36, 40)), indexing="ij"), axis=-1)
    first = np.linalg.norm(grid - np.array((15, 12, 12)), axis=-1) <= 7
    second = np.linalg.norm(grid - np.array((15, 24, 28)), axis=-1) <= 6
    return ((first | second) * 100).astype(np.float32)


def ball(number: int) -> np.ndarray:
    """The voxels of the first (0) or the second (1) ball."""
    array = balls() > 0
    array[:, :, 21:] &= number == 1
    array[:, :, :21] &= number == 0
    return array
