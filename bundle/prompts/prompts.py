"""What a prompt is: points and boxes of one object, as voxel indices of the stored image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import PromptError
from bundle.files import read_json
from bundle.transforms.frames import nearest_index

_log = logging.getLogger(__name__)


def _no_points() -> np.ndarray:
    return np.zeros((0, 3))


def _no_labels() -> np.ndarray:
    return np.zeros(0, dtype=int)


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """The prompts of one object.

    Attributes:
        points: (N, 3) float voxel indices (i, j, k) of the stored image.
        point_labels: (N,) int, 1 on the object, 0 off it.
        box: (2, 3) float voxel indices of two opposite corners, both inclusive, lowest first; None without a box.
            A box that is one voxel thick along an axis is a 2D box on that slice.
        name: name of the object.
        label: value of the object in a label map.
    """

    points: np.ndarray = field(default_factory=_no_points)
    point_labels: np.ndarray = field(default_factory=_no_labels)
    box: np.ndarray | None = None
    name: str = "object"
    label: int = 1

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None) -> ObjectPrompts:
        """Return the prompts as arrays, with the corners of the box in order and clipped to the volume.

        Args:
            shape: (I, J, K) of the volume.
            affine: (4, 4) of the volume, voxel index to RAS+ mm; with it, prompts outside of the volume that would lie
                inside as millimetres are refused as such.

        Raises:
            PromptError: for a prompt without a point or box, a value that is not a number, a point outside the volume,
                a box that does not meet it, or labels that do not fit the points.
        """
        points = _array(self.points, "points", 3)
        labels = np.asarray(self.point_labels).reshape(-1)
        if len(labels) != len(points):
            raise PromptError(f"points must match point labels, got {len(points)} points and {len(labels)} labels")
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(f"point labels must be 1 (object) or 0 (background), got {labels.tolist()}")
        if len(points) == 0 and self.box is None:
            raise PromptError(f"no prompt for {self.name!r}; give at least one foreground point or a box")
        if self.box is None and not (labels == 1).any():
            raise PromptError(f"only background points for {self.name!r}; add a foreground point or a box")
        _check_inside(points, shape, affine)
        box = None if self.box is None else _ordered_box(self.box, shape, affine, self.name)
        return replace(self, points=points, point_labels=labels.astype(int), box=box)


def _array(values: object, what: str, width: int) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1, width)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} must be rows of {width} numbers, got {values!r:.200}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, got {array.tolist()}")
    return array


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
    corners = _array(box, "box", 3)
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


def read_prompts(path: str | Path, *, picture: bool = False) -> list[ObjectPrompts]:
    """Read a prompts file.

    The file is JSON: ``{"objects": [{"name": "liver", "label": 1, "box": [[i, j, k], [i, j, k]],
    "points": [[i, j, k], ...], "point_labels": [1, ...]}, ...]}`` with voxel indices of the image; ``label``
    defaults to the position in the list plus 1, ``point_labels`` to 1.

    Args:
        path: of the file, in UTF-8 or UTF-16.
        picture: whether the image is one slice along its last axis; then indices may also be pairs (i, j).

    Raises:
        PromptError: naming the file and what is wrong in it.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except OSError as error:
        raise PromptError(f"prompts file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PromptError(f"prompts file {path} is not JSON: {error}") from error
    objects = content.get("objects") if isinstance(content, Mapping) else None
    if not isinstance(objects, list) or not objects:
        raise PromptError(f'prompts file {path} needs a list "objects" with at least one object')
    prompts = [_parse_object(entry, position, picture) for position, entry in enumerate(objects, start=1)]
    labels = [prompt.label for prompt in prompts]
    if len(set(labels)) < len(labels):
        raise PromptError(f"prompts file {path} gives two objects the same label: {labels}")
    return prompts


def _parse_object(entry: Any, position: int, picture: bool) -> ObjectPrompts:
    known = {"name", "label", "box", "points", "point_labels"}
    if not isinstance(entry, Mapping):
        raise PromptError(f"object {position} must be a JSON object, got {entry!r}")
    if unknown := sorted(set(entry) - known):
        raise PromptError(f"object {position} has an unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    label = entry.get("label", position)
    if isinstance(label, bool) or not isinstance(label, int) or label < 1:
        raise PromptError(f"label of object {position} must be a whole number of at least 1, got {label!r}")
    points = _indices(entry.get("points", []), f"points of object {position}", picture)
    return ObjectPrompts(
        points=points,
        point_labels=_point_labels(entry.get("point_labels", [1] * len(points)), position),
        box=None if entry.get("box") is None else _indices(entry["box"], f"box of object {position}", picture),
        name=str(entry.get("name", f"object {position}")),
        label=label,
    )


def _point_labels(labels: Any, position: int) -> np.ndarray:
    if not isinstance(labels, list) or not all(type(label) is int and label in (0, 1) for label in labels):
        raise PromptError(
            f"point_labels of object {position} must be a list of 1 (object) and 0 (background), got {labels!r:.80}"
        )
    return np.asarray(labels, dtype=int)


def _indices(rows: Any, what: str, picture: bool) -> np.ndarray:
    """(N, 3) voxel indices; the pairs (i, j) of a picture lie on its only slice."""
    if isinstance(rows, list) and rows and all(isinstance(row, list) and len(row) == 2 for row in rows):
        if not picture:
            raise PromptError(
                f"{what} must be rows of 3 indices, got pairs {rows!r}; add the slice, of a picture 0: "
                f"{[[*row, 0] for row in rows]}"
            )
        rows = [[*row, 0] for row in rows]
    return _array(rows, what, 3)
