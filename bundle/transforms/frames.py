"""How a slice is cut out of a volume and put back: the only code that knows which way up a slice is shown.

A picture's row and column numbers grow towards posterior or inferior and towards the patient's left or posterior,
which is the radiological display: axial with anterior up and the patient's right on the left, coronal with superior
up and the patient's right on the left, sagittal with superior up and anterior on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bundle.errors import FrameError

# Plane -> RAS axis (0 R, 1 A, 2 S) that is (across the slices, down the rows, along the columns).
_WORLD_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
PLANES: tuple[str, ...] = tuple(_WORLD_AXES)
_TIE = 1e-9  # of a voxel


def nearest_index(positions: np.ndarray | float, size: int | Sequence[int]) -> np.ndarray:
    """The voxel that a position lies in, along an axis: the one rule for half indices.

    Voxel n reaches from n - 0.5 up to but without n + 0.5; the last one has its far edge as well. Positions outside of
    the axis give indices outside of it.

    Args:
        positions: voxel indices, integers being centres; any shape.
        size: number of voxels of the axis, or one for each position of the last axis of ``positions``.

    Returns:
        int64 of the shape of ``positions``.
    """
    positions = np.asarray(positions, dtype=np.float64)
    last = np.asarray(size) - 1
    return np.where(positions == last + 0.5, last, np.floor(positions + 0.5)).astype(np.int64)


def _mirrored(positions: np.ndarray, size: int) -> np.ndarray:
    """Positions along an axis of so many voxels, counted from its other end, which lie in the same voxels.

    Between two voxels the higher one counts (``nearest_index``), which counted from the other end is the lower one:
    so a position there is moved into it.
    """
    mirrored = size - 1 - positions
    between = (mirrored % 1 == 0.5) & (mirrored > -0.5)
    return np.where(between, mirrored - _TIE, mirrored)


def _mirrored_back(positions: np.ndarray, size: int) -> np.ndarray:
    """The inverse of ``_mirrored``; of a position between two that it did not make, one in the same voxel again."""
    voxels = _mirrored(positions, size)
    moved = np.abs(voxels % 1 - (0.5 + _TIE)) < _TIE / 2
    return np.where(moved, np.floor(voxels) + 0.5, voxels)


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """(3,) float64, the distance in mm between voxels along (i, j, k) of a (4, 4) affine."""
    return np.sqrt(np.square(np.asarray(affine)[:3, :3]).sum(axis=0))


@dataclass(frozen=True)
class SliceFrame:
    """The parallel slices of one volume along one voxel axis, each shown upright.

    Attributes:
        slice_axis: voxel axis (0, 1 or 2) across the slices.
        row_axis: voxel axis that runs along a column of pixels (picture y).
        col_axis: voxel axis that runs along a row of pixels (picture x).
        row_flip: whether row 0 is the last voxel of ``row_axis``.
        col_flip: whether column 0 is the last voxel of ``col_axis``.
        shape: (I, J, K) of the volume.
        plane: the anatomical plane that these slices are nearest to.
    """

    slice_axis: int
    row_axis: int
    col_axis: int
    row_flip: bool
    col_flip: bool
    shape: tuple[int, int, int]
    plane: str

    @classmethod
    def of_plane(cls, shape: Sequence[int], affine: np.ndarray, plane: str) -> SliceFrame:
        """The frame of an anatomical plane, or of the one nearest to it in an oblique volume.

        Args:
            shape: (I, J, K), or (I, J, K, 3) of a colour volume.
            affine: (4, 4) voxel index to RAS mm.
            plane: one of ``PLANES``.

        Raises:
            FrameError: the plane is not one of ``PLANES``.
        """
        if plane not in _WORLD_AXES:
            raise FrameError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}")
        # Row v of the orientation: (RAS axis that voxel axis v follows, +1 or -1).
        world_axis, direction = _orientation(affine).astype(int).T
        axes = [int(np.flatnonzero(world_axis == axis)[0]) for axis in _WORLD_AXES[plane]]
        _, row_axis, col_axis = axes
        # Pixel numbers grow against R, A and S, so a voxel axis that grows with them is flipped.
        flips = bool(direction[row_axis] > 0), bool(direction[col_axis] > 0)
        i, j, k = (int(size) for size in shape[:3])
        return cls(*axes, *flips, (i, j, k), plane)

    @classmethod
    def along(cls, shape: Sequence[int], affine: np.ndarray, axis: int) -> SliceFrame:
        """The frame whose slices are stacked along a voxel axis.

        Args:
            shape: (I, J, K), or (I, J, K, 3) of a colour volume.
            affine: (4, 4) voxel index to RAS mm.
            axis: 0, 1 or 2; a negative number counts from the last spatial axis.

        Raises:
            FrameError: the axis is not one of the three.
        """
        if not -3 <= axis <= 2:
            raise FrameError(f"axis must be 0, 1 or 2, got {axis}")
        world_axis = int(_orientation(affine)[axis % 3, 0])
        plane = next(name for name, axes in _WORLD_AXES.items() if axes[0] == world_axis)
        return cls.of_plane(shape, affine, plane)

    @property
    def height(self) -> int:
        """Rows of a slice."""
        return self.shape[self.row_axis]

    @property
    def width(self) -> int:
        """Columns of a slice."""
        return self.shape[self.col_axis]

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.shape[self.slice_axis]

    def pixel_spacing(self, spacing: Sequence[float]) -> tuple[float, float]:
        """(dy, dx) in mm of a slice's pixels, from the volume's (i, j, k) spacing."""
        return float(spacing[self.row_axis]), float(spacing[self.col_axis])

    def stack(self, array: np.ndarray) -> np.ndarray:
        """All slices as a view: (D, H, W) or (D, H, W, 3), writable if the array is; strides may be negative.

        Raises:
            FrameError: the array does not lie on this frame's grid.
        """
        if array.shape[:3] != self.shape:
            raise FrameError(f"the array must have the shape {self.shape} of the volume, got {array.shape[:3]}")
        view = array.transpose(self.slice_axis, self.row_axis, self.col_axis, *range(3, array.ndim))
        return view[:, :: -1 if self.row_flip else 1, :: -1 if self.col_flip else 1]

    def extract(self, array: np.ndarray, index: int) -> np.ndarray:
        """Slice ``index`` of an (I, J, K[, 3]) array as an upright (H, W[, 3]) view (strides may be negative).

        Raises:
            FrameError: there is no such slice, or the array does not lie on this frame's grid.
        """
        return self.stack(array)[self._checked(index)]

    def insert(self, array: np.ndarray, index: int, picture: np.ndarray) -> None:
        """Write an upright (H, W[, 3]) picture into slice ``index`` of an (I, J, K[, 3]) array, in place.

        Raises:
            FrameError: there is no such slice, or a shape does not fit.
        """
        slot = self.stack(array)[self._checked(index)]
        if np.shape(picture) != slot.shape:
            raise FrameError(f"the picture must have the slice's shape {slot.shape}, got {np.shape(picture)}")
        slot[...] = picture

    def to_pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where voxel indices lie on the slices.

        Args:
            points: (N, 3) voxel indices (i, j, k), integer or float; integers are voxel centres.

        Returns:
            (N, 2) float (x, y) pixels, and (N,) int slice indices (``nearest_index``); neither is clipped. A position
            between two voxels lies in the pixel of the voxel that it lies in, also where the slice is mirrored.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        x, y = points[:, self.col_axis], points[:, self.row_axis]
        xy = np.stack(
            [_mirrored(x, self.width) if self.col_flip else x, _mirrored(y, self.height) if self.row_flip else y],
            axis=1,
        )
        return xy, nearest_index(points[:, self.slice_axis], self.depth)

    def to_voxels(self, xy: np.ndarray, index: int | np.ndarray) -> np.ndarray:
        """The inverse of ``to_pixels``.

        Args:
            xy: (N, 2) pixels (x, y).
            index: slice index, one for all or (N,).

        Returns:
            (N, 3) float voxel indices (i, j, k).
        """
        x, y = np.asarray(xy, dtype=np.float64).reshape(-1, 2).T
        points = np.empty((len(x), 3))
        points[:, self.col_axis] = _mirrored_back(x, self.width) if self.col_flip else x
        points[:, self.row_axis] = _mirrored_back(y, self.height) if self.row_flip else y
        points[:, self.slice_axis] = index
        return points

    @property
    def to_voxels_matrix(self) -> np.ndarray:
        """(4, 4) float64 from (slice, row, column) of the upright slices to the voxel index (i, j, k)."""
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        matrix[self.slice_axis, 0] = 1
        for column, axis, flip in ((1, self.row_axis, self.row_flip), (2, self.col_axis, self.col_flip)):
            matrix[axis, column] = -1 if flip else 1
            matrix[axis, 3] = self.shape[axis] - 1 if flip else 0
        return matrix

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.depth:
            raise FrameError(f"slice index must be 0 to {self.depth - 1} for this {self.plane} stack, got {index}")
        return int(index)


def _orientation(affine: np.ndarray) -> np.ndarray:
    """(3, 2) per voxel axis the RAS axis that it follows best and +1 or -1, as nibabel decides it."""
    from nibabel.orientations import io_orientation  # not on a machine that only trains

    return io_orientation(affine)
