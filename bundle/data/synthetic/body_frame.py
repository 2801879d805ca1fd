"""A frame of millimetres around the middle of a body, bent by smooth noise, and the shapes that lie in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# Half the field of view in mm (x, y, z) that the anatomy below is drawn for; any array shows the whole of it.
_HALF_VIEW = (192.0, 168.0, 128.0)

Points = list[tuple[float, float, float, float]]  # x, y, z and radius in mm along a tube


class BodyFrame:
    """Where each voxel lies: x to the patient's right, y to anterior, z to superior, in mm.

    Attributes:
        shape: (I, J, K) voxels.
        rng: decides how the frame is bent, and how shapes vary.
        axes: the straight coordinates (I,), (J,) and (K,).
        x, y, z: (I, J, K) float32, the bent ones.
    """

    def __init__(self, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.shape, self.rng = shape, rng
        grid = [np.linspace(-half, half, n, dtype=np.float32) for half, n in zip(_HALF_VIEW, shape, strict=True)]
        self.axes = grid
        coarse, fine = (6, 5, 4), (14, 12, 9)
        self.x, self.y, self.z = (
            axis + 4.5 * smooth_noise(shape, coarse, rng) + 1.3 * smooth_noise(shape, fine, rng)
            for axis in np.meshgrid(*grid, indexing="ij")
        )

    def near(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice]:
        """The part of the grid that can hold a shape between two corners in mm, deformation included."""
        reach = 22.0
        bounds = zip(self.axes, low - reach, high + reach, strict=True)
        return tuple(slice(*np.searchsorted(axis, (start, stop))) for axis, start, stop in bounds)

    def radius(self, center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        """Distance from an ellipsoid's centre, 1 on its surface; both vary with the seed. Far voxels are infinite."""
        center = np.array(center) + self.rng.normal(0, 3, 3)
        radii = np.array(radii) * np.clip(self.rng.normal(1, 0.07, 3), 0.8, 1.2)
        distance = np.full(self.shape, np.inf, np.float32)
        near = self.near(center - radii, center + radii)
        terms = zip((self.x, self.y, self.z), center, radii, strict=True)
        distance[near] = np.sqrt(sum(((axis[near] - middle) / radius) ** 2 for axis, middle, radius in terms))
        return distance

    def tube(self, points: Points, *, jitter: float = 3.0) -> np.ndarray:
        """Distance from a chain of segments in units of the local radius: below 1 is inside."""
        path = np.array(points, dtype=float)
        path[:, :3] += self.rng.normal(0, jitter, (len(path), 3))
        path[:, 3] *= np.clip(self.rng.normal(1, 0.08), 0.8, 1.2)
        distance = np.full(self.shape, np.inf, np.float32)
        for start, end in pairwise(path):
            widest = max(start[3], end[3])
            ends = np.stack([start[:3], end[:3]])
            near = self.near(ends.min(0) - widest, ends.max(0) + widest)
            distance[near] = np.minimum(distance[near], self._segment(near, start, end))
        return distance

    def _segment(self, near: tuple[slice, slice, slice], start: np.ndarray, end: np.ndarray) -> np.ndarray:
        offset = [axis[near] - first for axis, first in zip((self.x, self.y, self.z), start[:3], strict=True)]
        line = end[:3] - start[:3]
        along = np.clip(sum(o * step for o, step in zip(offset, line, strict=True)) / (line @ line), 0, 1)
        away = sum((o - along * step) ** 2 for o, step in zip(offset, line, strict=True))
        return np.sqrt(away) / (start[3] + along * (end[3] - start[3]))


def smooth_noise(shape: tuple[int, int, int], cells: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Random field of unit standard deviation: a uniform cubic B-spline with ``cells`` knots along each axis."""
    field = rng.standard_normal([count + 3 for count in cells]).astype(np.float32)
    for axis, (size, count) in enumerate(zip(shape, cells, strict=True)):
        weights = _spline_weights(size, count)
        field = np.moveaxis(np.tensordot(weights, field, (1, axis)), 0, axis)
    return field / field.std()


def _spline_weights(size: int, count: int) -> np.ndarray:
    distance = np.abs(np.linspace(0, count, size)[:, None] - np.arange(-1, count + 2))
    inner, outer = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)
