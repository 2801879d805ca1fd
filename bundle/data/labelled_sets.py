"""Collections of labelled sets of many modalities, gathered for a training.

A collection is a folder of sets; a set is a folder with a ``datalist.json`` (``datasets.msd`` reads it) of pictures and
volumes. Its ``instances`` says what one object is: ``labels`` (the default): each label value; ``ids``: each value is a
number of one object; ``components``: each connected piece of a label value is one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bundle.data.dataset_files import LayoutError, read_json
from bundle.data.datasets import msd
from bundle.data.labelled_slice import LabelledSlice, resized
from bundle.data.labelled_slices import MIN_PIXELS, read_pool

LIST = "datalist.json"
INSTANCES = ("labels", "ids", "components")
_AXES = (0, 1, 2)


def read_sets(
    collections: Iterable[str | Path],
    *,
    preprocessing: Callable[[dict[str, Any]], Mapping[str, Any]],
    split: str = "training",
    volumes: int = 36,
    slices: Mapping[str, int] | None = None,
    max_side: int = 320,
    min_pixels: int = MIN_PIXELS,
    seed: int = 5,
) -> dict[str, list[LabelledSlice]]:
    """The slices of every set that has some in a split: set name -> slices.

    Args:
        collections: folders of sets.
        preprocessing: gives the intensity views, see ``cut_slices``.
        split: of the data lists.
        volumes: how many volumes of a set are read at most; the first ones.
        slices: per set, how many slices of each volume and axis are kept, drawn by the root of the labelled area; six
            where the set is not named. Pictures are all kept.
        max_side: larger slices are shrunk to this many pixels.
        min_pixels: smaller objects of a slice are not offered as objects.
        seed: of the draw.
    """
    found = {}
    for folder in _folders(collections):
        items = msd(folder, datalist=LIST)  # a list for training alone names no split
        items = [item for item in items if item.get("split", "training") == split]
        rng = np.random.default_rng(seed)
        pictures = [item for item in items if not _is_volume(item)]
        pool = read_pool(pictures, preprocessing=preprocessing, min_pixels=min_pixels)
        for item in [item for item in items if _is_volume(item)][:volumes]:
            cut = read_pool([item], preprocessing=preprocessing, min_pixels=min_pixels, axes=_AXES)
            pool += _some_of_each_axis(cut, (slices or {}).get(folder.name, 6), rng)
        if instances_of(folder) == "components":
            pool = [replace(part, labels=numbered_pieces(part.labels)) for part in pool]
        pool = [_at_most(part, max_side, min_pixels) for part in pool]
        if pool := [part for part in pool if part.ids]:
            found[folder.name] = pool
    return found


def sets_of_instances(collections: Iterable[str | Path]) -> list[str]:
    """The sets whose label values only number objects, for ``gather_slices``."""
    return [folder.name for folder in _folders(collections) if instances_of(folder) != "labels"]


def instances_of(folder: str | Path) -> str:
    """What one object of a set is, one of ``INSTANCES``.

    Raises:
        LayoutError: if its data list says something else.
    """
    said = read_json(Path(folder) / LIST).get("instances", INSTANCES[0])
    if said not in INSTANCES:
        raise LayoutError(f"instances of {Path(folder) / LIST} must be one of {', '.join(INSTANCES)}, got {said!r}")
    return said


def numbered_pieces(labels: np.ndarray) -> np.ndarray:
    """(H, W) int32: every connected piece (4-neighbourhood) of every value above 0 with a number of its own, from 1."""
    numbered, last = np.zeros(labels.shape, np.int32), 0
    for value in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(labels == value)
        numbered[pieces > 0] = pieces[pieces > 0] + last
        last += count
    return numbered


def _folders(collections: Iterable[str | Path]) -> list[Path]:
    folders = [path.parent for root in collections for path in sorted(Path(root).glob(f"*/{LIST}"))]
    if not folders:
        raise LayoutError(f"no set with a {LIST} lies in {', '.join(map(str, collections))}")
    return folders


def _is_volume(item: Mapping[str, Any]) -> bool:
    return Path(item["image"]).name.endswith((".nii.gz", ".nii", ".nrrd"))


def _some_of_each_axis(parts: Sequence[LabelledSlice], count: int, rng: np.random.Generator) -> list[LabelledSlice]:
    """So many slices of each axis, in their order; those that show more of what is labelled are drawn more often."""
    kept = []
    for axis in _AXES:
        here = [part for part in parts if part.key.split("-")[-2] == str(axis)]
        odds = np.array([np.count_nonzero(part.labels) ** 0.5 for part in here])
        if len(here):
            chosen = rng.choice(len(here), min(count, len(here)), replace=False, p=odds / odds.sum())
            kept += [here[i] for i in sorted(chosen)]
    return kept


def _at_most(part: LabelledSlice, side: int, min_pixels: int) -> LabelledSlice:
    """The slice with at most ``side`` pixels on its longer side, and the objects that are large enough there."""
    part = resized(part, side) if max(part.labels.shape) > side else part
    values, counts = np.unique(part.labels, return_counts=True)
    ids = tuple(int(v) for v, n in zip(values, counts, strict=True) if v and n >= min_pixels)
    return replace(part, ids=ids)
