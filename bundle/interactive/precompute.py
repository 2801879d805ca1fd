"""Preparing the slices around the one in view, so that a click on any of them finds its embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bundle.engines.interruption import Interrupted
from bundle.interactive.slice_model import SliceView
from bundle.interactive.volume_slices import VolumeSlices

SHARE = 0.5  # of the store's memory that one volume may fill ahead, so that what was clicked is not pushed out


def slices_outward(index: int, count: int) -> Iterator[int]:
    """The slices 0 .. count - 1 by their distance from one of them; of two at the same distance the higher first."""
    yield from sorted(range(count), key=lambda other: (abs(other - index), other < index))


def precompute(
    slices: VolumeSlices,
    *,
    axis: int,
    index: int,
    progress: Callable[[int], object] = lambda done: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    """Prepare slices outward from the one in view, until all are or the store's share is full.

    Args:
        slices: of the volume, before its predictor.
        axis: stored axis that they are stacked along.
        index: the slice in view.
        progress: is called before each slice with the number of those that are done; what it raises ends the work,
            and what was prepared stays.
        interrupted: whether something else wants the device. The slice that is being prepared is then left within a
            block of its encoder, and begun anew after the next ``progress``.

    Returns:
        How many slices are prepared; 0 where the network prepares nothing that is worth keeping.
    """
    predictor, frame = slices.predictor, slices.frame(axis)
    if not predictor.network.spec.keeps_prepared:
        return 0
    filled = 0
    count = slices.volume.shape[axis]
    for done, other in enumerate(slices_outward(index, count)):
        filled += _prepared(slices, slices.view(frame, other), lambda done=done: progress(done), interrupted)
        if filled >= SHARE * predictor.store.memory_bytes:
            return done + 1
    return count


def _prepared(
    slices: VolumeSlices, view: SliceView, progress: Callable[[], object], interrupted: Callable[[], bool]
) -> int:
    while True:
        progress()
        try:
            return slices.predictor.prepare(view, interrupted=interrupted)
        except Interrupted:
            continue
