"""Which cube of a volume a network of volumes looks at: the only code that maps between voxels and its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Cube:
    """S x S x S cells of one size in mm, along the axes of a volume; it may reach out of the volume.

    Attributes:
        centre: (i, j, k) float voxel index of its middle.
        side: in mm.
        spacing: (i, j, k) in mm, of the volume.
        axes: the stored axes in the order of the cells; the first is the one that slices are stacked along.
        cells: S.
    """

    centre: tuple[float, float, float]
    side: float
    spacing: tuple[float, float, float]
    axes: tuple[int, int, int]
    cells: int

    @classmethod
    def around(
        cls,
        corners: np.ndarray,
        *,
        spacing: Sequence[float],
        axis: int,
        cells: int,
        margin: float = 1.0,
        smallest: float = 0.0,
    ) -> Cube:
        """The cube in the middle of a box.

        Args:
            corners: (2, 3) voxel indices of the lowest and the highest voxel, both included.
            spacing: (i, j, k) in mm.
            axis: stored axis that slices are stacked along.
            cells: S.
            margin: its side is this multiple of the longest side of the box.
            smallest: its side is at least so many mm.
        """
        low, high = np.asarray(corners, dtype=float)
        longest = float(((high - low + 1) * np.asarray(spacing)).max())
        axes = (axis, *(other for other in range(3) if other != axis))
        centre = tuple(((low + high) / 2).tolist())
        return cls(centre, max(margin * longest, smallest), tuple(map(float, spacing)), axes, cells)

    @property
    def cell(self) -> float:
        """Side of a cell in mm."""
        return self.side / self.cells

    def grown(self, factor: float) -> Cube:
        """The same with a side so many times as long."""
        return replace(self, side=self.side * factor)

    def at(self, centre: Sequence[float]) -> Cube:
        """The same in another place."""
        return replace(self, centre=tuple(map(float, centre)))

    def places(self, axis: int) -> np.ndarray:
        """(S,) voxel index of the middles of the cells along a stored axis."""
        shares = (np.arange(self.cells) + 0.5) / self.cells - 0.5
        return self.centre[axis] + shares * self.side / self.spacing[axis]

    def to_cells(self, voxels: np.ndarray) -> np.ndarray:
        """(N, 3) cell indices, in the order of ``axes``, of (N, 3) voxel indices; integers are middles."""
        away = (np.reshape(voxels, (-1, 3)) - self.centre) * self.spacing
        return ((away / self.side + 0.5) * self.cells - 0.5)[:, list(self.axes)]

    def to_voxels(self, cells: np.ndarray) -> np.ndarray:
        """The inverse of ``to_cells``."""
        away = np.empty((len(np.reshape(cells, (-1, 3))), 3))
        away[:, list(self.axes)] = ((np.reshape(cells, (-1, 3)) + 0.5) / self.cells - 0.5) * self.side
        return away / self.spacing + self.centre

    def sample(self, array: np.ndarray, *, smooth: bool = True) -> Tensor:
        """What the cells see of an array.

        Args:
            array: (I, J, K) numbers on the grid of the volume; places outside take the value of the nearest voxel.
            smooth: average voxels that are smaller than a cell over about one cell before they are interpolated.

        Returns:
            (S, S, S) float32 in the order of ``axes``.
        """
        parts, weights = [], []
        for axis, size in enumerate(array.shape):
            width = self._odd_width(axis) if smooth else 1
            places = self.places(axis)
            first = int(np.clip(np.floor(places[0]) - width // 2, 0, size - 1))
            last = int(np.clip(np.ceil(places[-1]) + width // 2, 0, size - 1))
            parts.append(slice(first, last + 1))
            weights.append(_interpolation(places - first, last + 1 - first) @ _mean(last + 1 - first, width))
        part = torch.from_numpy(np.ascontiguousarray(array[tuple(parts)], dtype=np.float32))
        return _apply(weights, part).permute(self.axes).contiguous()

    def spread(self, values: Tensor, shape: Sequence[int]) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """What the cells hold, on the voxels whose middles lie in the cube, interpolated linearly.

        Args:
            values: (S, S, S) in the order of ``axes``.
            shape: (I, J, K) of the volume.

        Returns:
            (i, j, k) float32, and where they lie in the volume; nothing where the cube lies beside it.
        """
        back = tuple(int(place) for place in np.argsort(self.axes))
        parts, weights = [], []
        for axis, size in enumerate(shape):
            half = self.side / 2 / self.spacing[axis]
            first = max(0, int(np.ceil(self.centre[axis] - half)))
            last = min(size - 1, int(np.floor(self.centre[axis] + half)))
            parts.append(slice(first, max(first, last + 1)))
            away = (np.arange(first, last + 1) - self.centre[axis]) * self.spacing[axis]
            weights.append(_interpolation((away / self.side + 0.5) * self.cells - 0.5, self.cells))
        return _apply(weights, values.float().permute(back)).numpy(), tuple(parts)

    def _odd_width(self, axis: int) -> int:
        """Voxels along an axis that are averaged to a cell, an odd number so that nothing moves."""
        width = max(1, round(self.cell / self.spacing[axis]))
        return width if width % 2 else width + 1


def _interpolation(places: np.ndarray, size: int) -> Tensor:
    """(M, size) weights that take M places from samples at 0, 1, ... linearly; outside, the nearest sample."""
    places = torch.from_numpy(np.clip(places, 0, size - 1))
    before = places.floor().long().clamp(max=max(size - 2, 0))
    share = (places - before).float()
    weights = torch.zeros(len(places), size)
    weights.scatter_(1, before[:, None], (1 - share)[:, None])
    return weights.scatter_add_(1, (before + 1).clamp(max=size - 1)[:, None], share[:, None])


def _mean(size: int, width: int) -> Tensor:
    """(size, size) weights of a moving mean over ``width`` samples, at the ends over those that there are."""
    near = (torch.arange(size)[:, None] - torch.arange(size)).abs() <= width // 2
    return near.float() / near.sum(dim=1, keepdim=True)


def _apply(weights: Sequence[Tensor], values: Tensor) -> Tensor:
    """Each axis of (A, B, C) ``values`` through weights (a, A), (b, B), (c, C): (a, b, c)."""
    first, second, third = weights
    values = (first @ values.flatten(1)).view(len(first), *values.shape[1:])
    return second @ (values @ third.T)
