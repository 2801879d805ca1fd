"""What a radiologist would measure of an object: its volume, its axes, and the values that the image has in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundle.data.volume import Volume


def object_measures(mask: np.ndarray, image: Volume) -> dict[str, Any]:
    """Volume in ml, axes in mm, and mean and standard deviation of the image's values (HU in a CT).

    The axes are those of the ellipsoid that has the object's second moments, 4 times the roots of their eigenvalues, as
    pyradiomics' MajorAxisLength, MinorAxisLength and LeastAxisLength. An object on one slice has two; the depth of a
    voxel is not counted.

    Args:
        mask: (I, J, K) bool on the grid of the image.
        image: (I, J, K), or (I, J, K, 3) of which the mean over colours is taken.

    Returns:
        ``ml``, ``major_mm``, ``minor_mm``, ``least_mm``, ``mean``, ``std``; the last two are None of an empty mask.
    """
    voxels = np.argwhere(mask)
    ml = len(voxels) * float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000.0
    if not len(voxels):
        return {"ml": 0.0, "major_mm": 0.0, "minor_mm": 0.0, "least_mm": 0.0, "mean": None, "std": None}
    millimetres = voxels @ image.affine[:3, :3].T
    moments = np.cov(millimetres, rowvar=False, bias=True)
    least, minor, major = 4.0 * np.sqrt(np.clip(np.linalg.eigvalsh(moments), 0.0, None))
    values = image.array[mask].astype(np.float64)
    values = values.mean(axis=1) if values.ndim == 2 else values
    lengths = {"major_mm": major, "minor_mm": minor, "least_mm": least}
    return {
        "ml": round(ml, 3),
        **{name: round(float(length), 2) for name, length in lengths.items()},
        "mean": round(float(values.mean()), 2),
        "std": round(float(values.std()), 2),
    }
