"""What kind of values an image holds, where its file does not say."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

MODALITIES = ("CT", "other", "windowed")
# Air is -1000 HU, within noise, and a scanner's padding is -1024 or far below. One voxel in a hundred: the CTs that we
# measured had 3.3 to 54 % (15, one of them cropped to the body), boxes around single organs 0 to 10 %. MR had none;
# scaled to 0..30000 and resampled with cubic splines, whose overshoot reaches -5000, 0.3 %; shifted to -4096, 0.5 %.
AIR_HU = (-1100, -900)
AIR_SHARE = 0.01
# Magnitude MR, PET and ultrasound are not this far below zero, unless they were resampled or shifted.
_BELOW_FAT_HU = -200
_CHUNK = 2**20  # voxels looked at together, so that a large CT needs no masks of its size


def guess_modality(array: np.ndarray, stated: str | None, path: Path) -> str:
    """The modality of an image, one of ``MODALITIES``; what was guessed is logged.

    8-bit colours are display values, whatever the file says (DICOM ultrasound). Otherwise the file's own word counts;
    where it is silent, an image is CT if at least ``AIR_SHARE`` of its voxels lie within ``AIR_HU``.

    Args:
        array: (I, J, K) or (I, J, K, 3).
        stated: what the file says, None if nothing.
        path: of the file, for the log.
    """
    if array.ndim == 4 and array.dtype == np.uint8:
        return "windowed"
    if stated is not None or array.size == 0:
        return stated or "other"
    share = _count_air(array) / array.size
    if share >= AIR_SHARE:
        logger.info("%s is taken for CT: %.1f %% of its voxels have the HU of air", path, 100 * share)
        return "CT"
    if (lowest := float(array.min())) <= _BELOW_FAT_HU:
        logger.warning(
            "%s is not taken for CT, though it reaches %g: only %.1f %% of its voxels have the HU of air; say "
            'modality "CT" if it is one',
            *(path, lowest, 100 * share),
        )
    return "other"


def _count_air(array: np.ndarray) -> int:
    flat = array.ravel(order="K")  # no copy of what a file gave, whichever axis comes first there
    parts = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    return sum(np.count_nonzero((part >= AIR_HU[0]) & (part <= AIR_HU[1])) for part in parts)
