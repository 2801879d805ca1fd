"""A mask as the box around it and the voxels in that box: what an object takes of a volume, and what a step changed."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bundle.errors import SessionError

Box = np.ndarray
"""(2, 3) int: the first voxel index of a box, and the first behind it, along (i, j, k)."""
_HEAD = struct.Struct("<6I")
_LEVEL = 1  # of zlib: 4 to 5 times as fast as 6, on masks of organs a tenth larger


@dataclass(frozen=True, eq=False)
class Region:
    """Some voxels of a volume; two of the same voxels have the same box.

    Attributes:
        low: (3,) int, voxel index where ``voxels`` begins.
        voxels: (A, B, C) bool, tight: its first and last layer along each axis hold a voxel; (0, 0, 0) without any.
    """

    low: np.ndarray
    voxels: np.ndarray

    @classmethod
    def empty(cls) -> Region:
        """No voxel."""
        return cls(np.zeros(3, int), np.zeros((0, 0, 0), bool))

    @classmethod
    def of(cls, mask: np.ndarray, low: np.ndarray | None = None) -> Region:
        """The voxels of a mask (A, B, C) bool, which begins at voxel index ``low``, by default 0."""
        low = np.zeros(3, int) if low is None else np.array(low)
        for axis in (2, 1, 0):  # the slices first: they lie together in memory, and little is left for the others
            used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
            if not len(used):
                return cls.empty()
            mask = mask[tuple(slice(used[0], used[-1] + 1) if other == axis else slice(None) for other in range(3))]
            low[axis] += used[0]
        return cls(low, np.array(mask, bool, order="F"))  # a copy: who gave it may go on with it

    @property
    def box(self) -> Box | None:
        """Its box; None of no voxel."""
        return None if self.is_empty else np.stack([self.low, self.low + self.voxels.shape])

    @property
    def is_empty(self) -> bool:
        """Whether it has no voxel."""
        return self.voxels.size == 0

    @cached_property
    def size(self) -> int:
        """How many voxels it has."""
        return int(np.count_nonzero(self.voxels))

    def within(self, box: Box) -> np.ndarray:
        """What lies in a box, as a bool array of the box's sides."""
        out = np.zeros(box[1] - box[0], bool, order="F")
        if not self.is_empty:
            low, high = np.maximum(box[0], self.low), np.minimum(box[1], self.low + self.voxels.shape)
            if (low < high).all():
                out[_slices(low - box[0], high - box[0])] = self.voxels[_slices(low - self.low, high - self.low)]
        return out

    def mask(self, shape: tuple[int, int, int]) -> np.ndarray:
        """(I, J, K) bool."""
        return self.within(np.array([(0, 0, 0), shape]))

    def same(self, other: Region) -> bool:
        """Whether both have the same voxels."""
        return np.array_equal(self.low, other.low) and np.array_equal(self.voxels, other.voxels)

    def xor(self, other: Region) -> Region:
        """The voxels of one of both alone: the change between two masks, and each of them from the other and that."""
        box = union((self.box, other.box))
        return Region.empty() if box is None else Region.of(self.within(box) ^ other.within(box), box[0])

    def to_bytes(self) -> bytes:
        """Its box and packed bits, compressed."""
        if self.is_empty:
            return b""
        return _HEAD.pack(*self.low, *self.voxels.shape) + zlib.compress(np.packbits(self.voxels.ravel("F")), _LEVEL)

    @classmethod
    def from_bytes(cls, data: bytes, shape: tuple[int, int, int]) -> Region:
        """Read what ``to_bytes`` wrote.

        Args:
            data: of a region.
            shape: (I, J, K) of the volume that it lies in.

        Raises:
            SessionError: it is damaged, or does not lie in the volume.
        """
        if not data:
            return cls.empty()
        try:
            head = np.array(_HEAD.unpack_from(data), dtype=int)
            low, sides = head[:3], head[3:]
            if (sides < 1).any() or (low + sides > shape).any():
                raise SessionError(
                    f"a region must lie in {tuple(shape)} voxels, got {sides.tolist()} at {low.tolist()}"
                )
            count = int(sides.prod())
            size, unpack = -(-count // 8), zlib.decompressobj()
            bits = unpack.decompress(data[_HEAD.size :], size + 1)  # no more, whatever the bytes would become
        except (struct.error, zlib.error) as error:
            raise SessionError(f"a region of a session is damaged ({error})") from error
        if len(bits) != size or not unpack.eof:
            raise SessionError(f"a region of a session is damaged: {len(bits)} bytes for {count} voxels")
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=count).view(bool)
        return cls(low, flat.reshape(sides, order="F"))


def union(boxes: tuple[Box | None, ...] | list[Box | None]) -> Box | None:
    """The box around boxes; None of none."""
    known = [box for box in boxes if box is not None]
    return np.stack([np.min([b[0] for b in known], axis=0), np.max([b[1] for b in known], axis=0)]) if known else None


def _slices(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
