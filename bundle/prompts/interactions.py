"""What a user does to an image for one object: a point, box, scribble, lasso or mask, on the object or off it.

Positions are voxel indices (i, j, k) of the stored image, of any plane: an interaction lies where it was drawn, and the
model of slices or volumes that answers it decides what it makes of that. All of them are valid for an image only after
``validated``, which says what is wrong with one, and can be written as JSON, which a journal and a prompts file hold.
"""

from __future__ import annotations

import base64
import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from bundle.errors import PromptError
from bundle.transforms.frames import nearest_index

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Interaction(ABC):
    """One thing that a user does.

    Attributes:
        positive: whether it lies on the object; otherwise it says what the object is not.
    """

    kind: ClassVar[str]
    positive: bool = field(default=True, kw_only=True)

    @abstractmethod
    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Interaction:
        """The interaction with its positions as float64 arrays, if it fits a volume.

        Args:
            shape: (I, J, K) of the volume.
            affine: (4, 4) of the volume, voxel index to RAS+ mm; with it, positions outside of the volume that would
                lie inside as millimetres are refused as such.
            name: of the object, for messages.

        Raises:
            PromptError: a value that is not a number, or a position outside of the volume.
        """

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that ``interaction_from_json`` reads."""
        return {"kind": self.kind, "positive": self.positive, **self._values()}

    @abstractmethod
    def _values(self) -> dict[str, Any]: ...

    def same(self, other: Interaction) -> bool:
        """Whether both say the same."""
        return type(self) is type(other) and self.to_json() == other.to_json()


@dataclass(frozen=True, eq=False)
class Point(Interaction):
    """A click; ``voxel`` is (3,) float."""

    kind: ClassVar[str] = "point"
    voxel: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Point:
        """As ``Interaction``."""
        voxel = as_rows(self.voxel, "points", 3)
        _check_inside(voxel, shape, affine)
        return replace(self, voxel=voxel[0])

    def _values(self) -> dict[str, Any]:
        return {"voxel": np.asarray(self.voxel, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Box(Interaction):
    """A box; ``corners`` is (2, 3) float, two opposite corners, both inclusive, lowest first once it is valid.

    A box that is one voxel thick along an axis is a 2D box on that slice. One that leaves the volume is clipped, which
    is logged; one that has no voxel of it is refused.
    """

    kind: ClassVar[str] = "box"
    corners: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Box:
        """As ``Interaction``."""
        return replace(self, corners=_ordered_box(self.corners, shape, affine, name))

    def _values(self) -> dict[str, Any]:
        return {"corners": np.asarray(self.corners, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Scribble(Interaction):
    """A stroke; ``path`` is (N, 3) float, the positions that it passes through in their order."""

    kind: ClassVar[str] = "scribble"
    path: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Scribble:
        """As ``Interaction``."""
        return replace(self, path=_line(self.path, "scribble", 1, shape, affine))

    def _values(self) -> dict[str, Any]:
        return {"path": np.asarray(self.path, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Lasso(Interaction):
    """A line around something on one slice; ``outline`` is (N, 3) float, the corners of a polygon that closes itself.

    One of its three indices is the same for all corners: the slice that it was drawn on.
    """

    kind: ClassVar[str] = "lasso"
    outline: np.ndarray

    @property
    def axis(self) -> int:
        """The stored axis that it is flat along, the last one where there are several."""
        flat = np.flatnonzero(np.ptp(np.asarray(self.outline, dtype=float), axis=0) == 0)
        return int(flat[-1])

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Lasso:
        """As ``Interaction``; PromptError also for a line that does not lie on one slice."""
        outline = _line(self.outline, "lasso", 3, shape, affine)
        indices = nearest_index(outline, shape)
        flat = np.flatnonzero(np.ptp(indices, axis=0) == 0)
        if not len(flat):
            low, high = indices.min(axis=0).tolist(), indices.max(axis=0).tolist()
            raise PromptError(f"a lasso must lie on one slice, got corners from {low} to {high}; draw it on one plane")
        if not (np.ptp(outline, axis=0) == 0).any():  # between slices: on the one that it is nearest to
            outline[:, flat[-1]] = indices[0, flat[-1]]
        return replace(self, outline=outline)

    def _values(self) -> dict[str, Any]:
        return {"outline": np.asarray(self.outline, dtype=float).tolist()}


@dataclass(frozen=True, eq=False)
class Mask(Interaction):
    """A segmentation as it is, to start from or to refine; ``voxels`` is (I, J, K) bool on the grid of the volume."""

    kind: ClassVar[str] = "mask"
    voxels: np.ndarray

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None, name: str = "object") -> Mask:
        """As ``Interaction``; PromptError for another grid, or where nothing is set."""
        voxels = np.asarray(self.voxels) != 0
        if voxels.shape != tuple(shape):
            raise PromptError(f"the mask of {name!r} must have {tuple(shape)} voxels, got {voxels.shape}")
        if not voxels.any():
            raise PromptError(f"the mask of {name!r} is empty; leave it out")
        return replace(self, voxels=voxels)

    def _values(self) -> dict[str, Any]:
        packed = np.packbits(np.asarray(self.voxels) != 0)
        return {"shape": list(self.voxels.shape), "bits": base64.b64encode(zlib.compress(packed, 1)).decode()}


def interaction_from_json(entry: Any, what: str, *, most_voxels: int = 2**31) -> Interaction:
    """Read what ``Interaction.to_json`` wrote, or what somebody says that it wrote.

    Args:
        entry: of JSON.
        what: names the entry in messages.
        most_voxels: of a mask.

    Raises:
        PromptError: naming the key that is wrong. Whether the positions fit an image is for ``validated`` to say.
    """
    if not isinstance(entry, Mapping):
        raise PromptError(f"{what} must be a JSON object, got {entry!r:.80}")
    kind, positive = entry.get("kind"), entry.get("positive", True)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise PromptError(f'{what} needs a "kind", one of {", ".join(_FIELDS)}, got {kind!r:.80}')
    if not isinstance(positive, bool):
        raise PromptError(f'"positive" of {what} must be true or false, got {positive!r:.80}')
    made, fields = _FIELDS[kind]
    if unknown := sorted(map(str, set(entry) - {"kind", "positive", *fields})):
        raise PromptError(f"{what} has an unknown key {unknown[0]!r:.80}; a {kind} has {', '.join(fields)}")
    if missing := [name for name in fields if name not in entry]:
        raise PromptError(f"{what} needs {missing[0]!r}; a {kind} has {', '.join(fields)}")
    if made is Mask:
        return Mask(_unpacked(entry["shape"], entry["bits"], what, most_voxels), positive=positive)
    values = as_rows(entry[fields[0]], f'"{fields[0]}" of {what}', 3)
    return made(values[0] if made is Point else values, positive=positive)


_FIELDS: dict[str, tuple[type[Interaction], tuple[str, ...]]] = {
    "point": (Point, ("voxel",)),
    "box": (Box, ("corners",)),
    "scribble": (Scribble, ("path",)),
    "lasso": (Lasso, ("outline",)),
    "mask": (Mask, ("shape", "bits")),
}


def _unpacked(shape: Any, bits: Any, what: str, most_voxels: int) -> np.ndarray:
    sizes = shape if isinstance(shape, list) and len(shape) == 3 else [None]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise PromptError(f'"shape" of {what} must be three whole numbers above 0, got {shape!r:.80}')
    count = sizes[0] * sizes[1] * sizes[2]
    if count > most_voxels:
        raise PromptError(f"the mask of {what} has {count} voxels, at most {most_voxels} are taken")
    size = -(-count // 8)
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(base64.b64decode(bits, validate=True), size + 1)
    except (TypeError, ValueError, zlib.error) as error:
        raise PromptError(f'"bits" of {what} must be zlib in base64: {error}') from error
    if len(data) != size:
        raise PromptError(f'"bits" of {what} must hold {size} bytes for {count} voxels')
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool).reshape(sizes)


# ---- positions in a volume ------------------------------------------------------------------------------------------


def as_rows(values: object, what: str, width: int) -> np.ndarray:
    """(N, ``width``) float64, finite.

    Raises:
        PromptError: naming ``what``.
    """
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1, width)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} must be rows of {width} numbers, got {values!r}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, got {array.tolist()}")
    return array


def _line(values: object, what: str, fewest: int, shape: Sequence[int], affine: np.ndarray | None) -> np.ndarray:
    line = as_rows(values, what, 3).copy()
    if len(line) < fewest:
        raise PromptError(f"a {what} needs at least {fewest} positions, got {len(line)}")
    _check_inside(line, shape, affine)
    return line


def _check_inside(points: np.ndarray, shape: Sequence[int], affine: np.ndarray | None) -> None:
    indices = nearest_index(points, shape)
    outside = ((indices < 0) | (indices >= np.asarray(shape))).any(axis=1)
    if outside.any():
        point = points[outside][0].tolist()
        advice = _as_millimetres(points[outside], shape, affine) or "move it inside"
        raise PromptError(f"point {point} lies outside the volume of {tuple(shape)} voxels; {advice}")


def _as_millimetres(points: np.ndarray, shape: Sequence[int], affine: np.ndarray | None) -> str | None:
    """What to say of (N, 3) coordinates that would all lie in the volume, were they millimetres; None of others."""
    if affine is None:
        return None
    for system, signs in (("RAS", (1, 1, 1)), ("LPS", (-1, -1, 1))):  # 3D Slicer and NIfTI; DICOM and ITK
        inverse = np.linalg.inv(affine)
        voxels = (points * signs) @ inverse[:3, :3].T + inverse[:3, 3]
        if ((voxels > -0.5) & (voxels < np.asarray(shape) - 0.5)).all():
            first = [round(float(value), 1) for value in voxels[0]]
            return f"as millimetres ({system}) it would lie inside; give voxel indices, here {first}"
    return None


def _ordered_box(box: object, shape: Sequence[int], affine: np.ndarray | None, name: str) -> np.ndarray:
    corners = as_rows(box, "box", 3)
    if corners.shape != (2, 3):
        raise PromptError(f"box must be two corners of three indices, got {corners.tolist()}")
    low, high = corners.min(axis=0), corners.max(axis=0)
    last = np.asarray(shape) - 1
    if (nearest_index(high, shape) < 0).any() or (nearest_index(low, shape) > last).any():
        advice = _as_millimetres(corners, shape, affine) or "move it inside"
        raise PromptError(f"box {corners.tolist()} does not meet the volume of {tuple(shape)} voxels; {advice}")
    clipped = np.stack([low.clip(0, last), high.clip(0, last)])
    if (clipped != (low, high)).any():
        _log.warning(
            "the box of %r leaves the volume of %s voxels: %s was clipped to %s; boxes are given in voxel indices%s",
            *(name, tuple(shape), [low.tolist(), high.tolist()], clipped.tolist()),
            f", and {advice}" if (advice := _as_millimetres(corners, shape, affine)) else "",
        )
    return clipped
