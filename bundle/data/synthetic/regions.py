"""Pseudo-objects from pictures without labels: regions of similar grey value at several scales.

They teach what needs no labels: that a box or a click means the closed structure it points at, whatever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb
from tqdm import tqdm

from bundle.data.labelled_slices import LabelledSlice, resized

SCALES = (60.0, 200.0, 600.0)


def grey_regions(
    picture: np.ndarray,
    *,
    scale: float,
    min_pixels: int = 40,
    max_share: float = 0.15,
    dark: float = 12.0,
    fill: float = 0.35,
) -> np.ndarray:
    """Segment a picture into regions (Felzenszwalb and Huttenlocher 2004) and keep those that could be a structure.

    Args:
        picture: (H, W) in 0..255.
        scale: larger gives larger regions.
        min_pixels: smaller regions are dropped, ...
        max_share: ... as are those above this share of the picture, ...
        dark: ... and those whose mean is below this, which are air or what the window made black, ...
        fill: ... and those that fill less than this share of their bounding box: rings and webs between structures.

    Returns:
        (H, W) int32, 0 where there is no region, regions numbered from 1 and smoothed.
    """
    smooth = ndimage.gaussian_filter(picture.astype(np.float32), 0.8)
    segments = felzenszwalb(smooth / 255.0, scale=scale, sigma=0.0, min_size=min_pixels) + 1
    sizes = np.bincount(segments.ravel())
    means = ndimage.mean(smooth, segments, np.arange(1, len(sizes)))
    boxes = np.array(
        [0] + [np.prod([part.stop - part.start for part in box]) for box in ndimage.find_objects(segments)]
    )
    keep = (sizes >= min_pixels) & (sizes <= max_share * picture.size) & (sizes >= fill * boxes)
    keep[1:] &= means >= dark
    keep[0] = False
    kept = np.where(keep[segments], segments, 0)
    return (ndimage.median_filter(kept, size=3)).astype(np.int32)


def region_pool(
    slices: Sequence[LabelledSlice], *, scales: Sequence[float] = SCALES, step: int = 1, max_side: int = 320
) -> list[LabelledSlice]:
    """Copies of the slices, labelled with their grey regions; every ``step``-th slice, the scales in turn.

    In larger slices they are looked for at ``max_side``: the parameters of the regions were chosen at that scale.
    """
    pool = []
    for number, labelled in enumerate(tqdm(slices[::step], desc="finding regions", leave=False)):
        if labelled.picture.ndim != 2:
            continue
        height, width = labelled.labels.shape
        shown = resized(labelled, min(max_side, max(height, width)))
        regions = grey_regions(shown.intensity[0].apply(shown.picture), scale=scales[number % len(scales)])
        regions = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        ids = tuple(int(i) for i in np.unique(regions) if i)
        if ids:
            pool.append(replace(labelled, labels=regions, ids=ids, key=f"{labelled.key}-regions"))
    return pool
