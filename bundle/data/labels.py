"""Label names and numbers that several rooms share, and where the values of a label map are.

Values may be as large as an atlas has them (the Allen mouse brain has 614454277): nothing here takes memory by value.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bundle.errors import VolumeError

# The 13 organs of the FLARE22 challenge, in its numbering.
FLARE22_LABELS: dict[str, int] = {
    "liver": 1,
    "right_kidney": 2,
    "spleen": 3,
    "pancreas": 4,
    "aorta": 5,
    "inferior_vena_cava": 6,
    "right_adrenal_gland": 7,
    "left_adrenal_gland": 8,
    "gallbladder": 9,
    "esophagus": 10,
    "stomach": 11,
    "duodenum": 12,
    "left_kidney": 13,
}

# Values up to this are counted in tables of that length, which is many times as fast as sorting the voxels.
_LARGEST_TABLE = 2**16


def find_labels(labels: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """The bounding slices of each value above 0 of an integer array of any number of axes, by value, ascending."""
    numbers, values = _numbered(labels)
    boxes = ndimage.find_objects(numbers) if labels.size else []
    return {int(value): box for value, box in zip(values, boxes, strict=True) if box is not None}


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """How many elements have each value above 0, by value, ascending."""
    numbers, values = _numbered(labels)
    counts = np.bincount(numbers.ravel(), minlength=len(values) + 1)[1:]
    return {int(value): int(count) for value, count in zip(values, counts, strict=True) if count}


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels as small numbers from 1 (0 for values of 0 and below), and the value of each number."""
    lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
    if lowest == 0 and highest <= _LARGEST_TABLE:
        return labels, np.arange(1, highest + 1)
    values, places = np.unique(labels, return_inverse=True)
    numbers = np.maximum(np.arange(len(values)) - np.count_nonzero(values <= 0) + 1, 0)
    return numbers[places].reshape(labels.shape), values[values > 0]


def as_int16(labels: np.ndarray, name: str) -> np.ndarray:
    """A label map in the type that training holds many of.

    Args:
        labels: integers.
        name: of what they label, for the message.

    Raises:
        VolumeError: a value does not fit.
    """
    highest = np.iinfo(np.int16).max
    if labels.max(initial=0) > highest:
        raise VolumeError(
            f"expected label values up to {highest} for training, got {labels.max()} in {name}; "
            "scripts/prepare.py renumbers them"
        )
    return labels.astype(np.int16)
