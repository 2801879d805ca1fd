"""Intensity augmentation of a slice: what modalities have in common, without owning images of them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from bundle import _moved
from bundle.data.labelled_slice import LabelledSlice
from bundle.transforms.contract import View

_WHITE = 255.0
_EDGE_SIGMA = 0.7  # pixels; no scanner draws a structure with a hard edge


def random_view(picture: np.ndarray, rng: np.random.Generator) -> tuple[View, View, View]:
    """One window between random percentiles, three times; inverted in every second draw."""
    low, high = np.percentile(picture, (rng.uniform(0, 40), rng.uniform(75, 100)))
    view = View(float(low), float(max(high, low + 1)))
    if rng.random() < 0.5:
        view = View(view.high, view.low)
    return view, view, view


def randomize_intensity(labelled: LabelledSlice, rng: np.random.Generator) -> LabelledSlice:
    """The same anatomy as another modality might show it (after SynthSeg, Billot et al. 2023, but on real texture).

    One view of the slice goes through a random curve that may rise and fall, so that bright and dark need not keep
    their order, and each labelled structure is drawn towards a shade of its own, by the same random share of all.

    Args:
        labelled: colours are averaged to grey.

    Returns:
        The slice with a float32 picture in 0..255, which its three views show as it is.
    """
    picture = labelled.picture if labelled.picture.ndim == 2 else labelled.picture.mean(axis=2)
    grey = labelled.intensity[rng.integers(len(labelled.intensity))].apply(picture)
    grey = _curve(rng)[np.round(grey).astype(int)]
    values, indices = np.unique(labelled.labels, return_inverse=True)
    shades = rng.uniform(0, _WHITE, len(values))[indices].reshape(grey.shape)
    share = rng.uniform(0, 0.8) * (labelled.labels != 0)
    shades, share = (ndimage.gaussian_filter(part, _EDGE_SIGMA) for part in (shades, share))
    drawn = (grey + share * (shades - grey)).astype(np.float32)
    return replace(labelled, picture=drawn, intensity=(View(0.0, _WHITE),) * 3)


def _curve(rng: np.random.Generator) -> np.ndarray:
    """(256,) what each grey value becomes: straight lines between 2 to 5 random values that reach from 0 to 255."""
    values = rng.uniform(0, 1, rng.integers(2, 6))
    values = (values - values.min()) / np.ptp(values)
    return np.interp(np.arange(256), np.linspace(0, 255, len(values)), _WHITE * values)


__getattr__ = _moved.renamed(__name__)  # former names
