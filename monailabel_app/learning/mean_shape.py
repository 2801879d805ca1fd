"""What labels look like in their boxes on average: the answer of one who sees boxes and labels, but no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.transform import resize

from bundle.evaluation.baselines import Baseline
from bundle.transforms.frames import nearest_index

_GRID = (32, 32)  # rows and columns that every box is brought to


def mean_shape(masks: Sequence[np.ndarray]) -> Baseline:
    """A baseline that draws the mean of masks into each box that it is given, whatever the picture shows.

    Args:
        masks: one or more (H, W) bool, none empty; of any sizes.
    """
    mean = np.mean([resize(_cut_out(mask), _GRID, order=1) for mask in masks], axis=0)

    def draw(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = nearest_index(box, (width, height, width, height))
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width - 1), min(y1, height - 1)
        drawn = np.zeros((height, width), bool)
        drawn[y0 : y1 + 1, x0 : x1 + 1] = resize(mean, (y1 - y0 + 1, x1 - x0 + 1), order=1) >= 0.5
        return drawn

    return draw


def _cut_out(mask: np.ndarray) -> np.ndarray:
    """The content of a mask's tight box as floats."""
    rows, columns = np.nonzero(mask)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(float)
