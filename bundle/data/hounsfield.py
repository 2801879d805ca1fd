"""Back from an 8-bit picture that others windowed to approximate Hounsfield units.

The abdominal CT slices we may train on were windowed before they reached us, so that fat is clipped to black. The
network must meet in training what a real CT gives it in use: HU through the family's contract. The window is estimated
from the soft-tissue peak, and what was clipped is filled in from where it lies.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SOFT_TISSUE_HU = (55.0, 110.0)  # muscle without contrast .. liver in the portal venous phase
BLACK_HU = (-40.0, 0.0)  # what the others' window made black
FAT_HU = (-120.0, -70.0)
FAT_GRAIN_HU = 12.0  # standard deviation
GAS_HU = (-950.0, -750.0)
AIR_HU = -1000.0
SHOWN, FAT, GAS, OUTSIDE = range(4)
BLACK = 2  # grey values up to this are black


def estimate_hounsfield(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Guess the HU of a windowed abdominal CT slice.

    Grey values are mapped linearly so that the soft-tissue peak lands between muscle and enhanced liver (drawn by
    ``rng``: the guess is uncertain, so training sees a range of it). Black pixels inside the body become fat, or gas
    where the black region is compact and large; black outside of it becomes air.

    Args:
        picture: (H, W) uint8.
        rng: draws the unknowns.

    Returns:
        (H, W) float32 HU.
    """
    kinds, peak = tissue_kinds(picture)
    black = rng.uniform(*BLACK_HU)
    slope = (rng.uniform(*SOFT_TISSUE_HU) - black) / peak
    hounsfield = (black + slope * picture.astype(np.float32)).astype(np.float32)
    inside = (kinds == FAT) | (kinds == GAS)
    fat = rng.uniform(*FAT_HU) + rng.normal(0.0, FAT_GRAIN_HU, picture.shape).astype(np.float32)
    hounsfield[inside] = fat[inside]
    hounsfield[(kinds == GAS) & (rng.random() < 0.5)] = rng.uniform(*GAS_HU)
    hounsfield[kinds == OUTSIDE] = AIR_HU
    return hounsfield


def tissue_kinds(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """What each pixel of a windowed abdominal CT slice may be, and the grey value of its soft tissue.

    Args:
        picture: (H, W) uint8.

    Returns:
        (H, W) uint8: ``SHOWN`` where the grey value tells, ``FAT`` and (large, compact) ``GAS`` where the window made
        the inside of the body black, ``OUTSIDE``; and the soft-tissue peak.
    """
    body = _body(picture)
    tissue = picture[body & (picture > 40) & (picture < 230)]
    peak = _peak(tissue) if tissue.size > 100 else 105.0
    kinds = np.full(picture.shape, OUTSIDE, np.uint8)
    kinds[body] = SHOWN
    black = body & (picture <= BLACK)
    kinds[black] = FAT
    kinds[black & _compact(black)] = GAS
    return kinds, peak


def _body(picture: np.ndarray) -> np.ndarray:
    """The filled largest bright region: skin, ribs and organs close around what the window made black."""
    closed = ndimage.binary_closing(picture > 2, iterations=max(2, picture.shape[0] // 64))
    components, count = ndimage.label(closed)
    if count == 0:
        return np.zeros(picture.shape, dtype=bool)
    largest = np.bincount(components.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(components == largest)


def _peak(values: np.ndarray) -> float:
    counts = ndimage.gaussian_filter1d(np.bincount(values, minlength=256).astype(float), 4.0)
    return float(counts.argmax())


def _compact(mask: np.ndarray) -> np.ndarray:
    """Regions that survive an erosion by a fiftieth of the picture, grown back: lung and bowel gas, not fat planes."""
    radius = max(1, mask.shape[0] // 50)
    eroded = ndimage.binary_erosion(mask, iterations=radius)
    return ndimage.binary_dilation(eroded, iterations=radius) & mask
