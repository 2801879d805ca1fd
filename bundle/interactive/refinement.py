"""An object that is known roughly, outlined by a model of slices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from bundle.interactive.propagation import Ask
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.interactive.thin_slices import EACH, Distances, differ_at_edges, strides
from bundle.networks.interface import PROPAGATED
from bundle.prompts.simulation import tight_box

_MARGIN = 0.06  # of a side of the box around the rough mask, at least a pixel
_ROUGH = 4  # pixels that outlines of a rough answer may be wrong by: a cell or two of the network of volumes


def refined(
    rough: Mapping[int, SliceMask],
    ask: Ask,
    *,
    propagated: Sequence[str] = PROPAGATED,
    distances: Distances = EACH,
    asked: Collection[int] = (),
) -> dict[int, SliceMask]:
    """The slices of a rough answer asked again, with the box around it, a little wider, and its mask as prompt.

    Args:
        rough: slice index -> answer, none of them empty.
        ask: answers a prompt on a slice.
        propagated: of box and mask those that the network is asked with, see ``ModelSpec``.
        distances: of slices and pixels, by which not each of thin slices is asked.
        asked: slices that are asked in any case.
    """

    def again(index: int) -> SliceMask:
        return ask(index, _prompt(rough[index], propagated))

    found: dict[int, SliceMask] = {}
    for row in _rows(sorted(rough)):
        far = strides([rough[index].mask for index in row], distances)
        places = sorted({*far, *(place for place, index in enumerate(row) if index in asked)})
        found |= {row[place]: again(row[place]) for place in places}
        for low, high in pairwise(row[place] for place in places):
            passed = distances.between((low, found[low]), (high, found[high]))
            fits = passed is not None and all(_is_outlined(rough[index].mask, passed[index].mask) for index in passed)
            found |= passed if fits else {index: again(index) for index in range(low + 1, high)}
    return found


def _rows(indices: Sequence[int]) -> list[list[int]]:
    """Rows of neighbouring slices, of indices in their order."""
    rows: list[list[int]] = []
    for index in indices:
        if rows and index == rows[-1][-1] + 1:
            rows[-1].append(index)
        else:
            rows.append([index])
    return rows


def _is_outlined(rough: np.ndarray, found: np.ndarray) -> bool:
    """Whether what was found on a slice by its neighbours is what a rough answer shows there, but for its outlines."""
    return differ_at_edges(rough, found, _ROUGH)


def _prompt(one: SliceMask, propagated: Sequence[str]) -> SlicePrompt:
    box = _around(one.mask) if "box" in propagated else None
    return SlicePrompt(box=box, previous=one if "mask" in propagated else None)


def _around(mask: np.ndarray) -> np.ndarray:
    """(4,) the box around a mask, a little wider, on its slice."""
    low, high = np.split(tight_box(mask).astype(float), 2)
    grow = np.maximum(1.0, _MARGIN * (high - low + 1))
    last = np.array(mask.shape[::-1]) - 1
    return np.concatenate([np.clip(low - grow, 0, last), np.clip(high + grow, 0, last)])
