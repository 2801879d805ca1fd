"""What a prompt is: everything that a user did for one object, in voxel indices of the stored image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import PromptError
from bundle.files import read_json_object
from bundle.prompts.interaction_json import interaction_from_json
from bundle.prompts.interactions import Box, Interaction, Point
from bundle.prompts.positions import as_rows

LARGEST_LABEL = 2**32 - 1  # uint32 is the widest type of a label map


@dataclass(frozen=True, eq=False, init=False)
class ObjectPrompts:
    """The prompts of one object: its interactions in the order in which the user made them.

    Attributes:
        interactions: what the user did; the first positive one starts the object, the others change it.
        name: name of the object.
        label: value of the object in a label map.
    """

    interactions: tuple[Interaction, ...]
    name: str
    label: int

    def __init__(
        self,
        interactions: Iterable[Interaction] = (),
        *,
        points: Sequence[Sequence[float]] | np.ndarray = (),
        point_labels: Sequence[int] | np.ndarray | None = None,
        box: Sequence[Sequence[float]] | np.ndarray | None = None,
        name: str = "object",
        label: int = 1,
    ) -> None:
        """Args:
        interactions: in their order.
        points: (N, 3) voxel indices (i, j, k), for those who have nothing but a box and points; the points come last.
        point_labels: (N,), 1 on the object, 0 off it; by default 1.
        box: (2, 3) voxel indices of two opposite corners, both inclusive.
        name: of the object.
        label: of the object.

        Raises:
            PromptError: labels that do not fit the points.
        """
        given = (*interactions, *(() if box is None else (Box(box),)), *_clicks(points, point_labels))
        for attribute, value in (("interactions", given), ("name", name), ("label", label)):
            object.__setattr__(self, attribute, value)

    def of(self, kind: type[Interaction]) -> list[Interaction]:
        """The interactions of one kind, in their order."""
        return [one for one in self.interactions if isinstance(one, kind)]

    @property
    def points(self) -> np.ndarray:
        """(N, 3) float voxel indices of the points, in their order."""
        return np.array([point.voxel for point in self.of(Point)], dtype=float).reshape(-1, 3)

    @property
    def point_labels(self) -> np.ndarray:
        """(N,) int of the points, 1 on the object, 0 off it."""
        return np.array([point.positive for point in self.of(Point)], dtype=int)

    @property
    def box(self) -> np.ndarray | None:
        """(2, 3) corners of the first box around the object, lowest first once it is valid; None without one."""
        return next((box.corners for box in self.of(Box) if box.positive), None)

    def count_kinds(self) -> dict[str, int]:
        """How many interactions there are of each kind that there is."""
        return dict(Counter(one.kind for one in self.interactions))

    def with_points(self, points: Sequence[Sequence[float]] | np.ndarray, labels: Sequence[int]) -> ObjectPrompts:
        """The same prompts with more points behind them."""
        return self.with_interactions((*self.interactions, *_clicks(points, labels)))

    def with_box(self, box: Sequence[Sequence[float]] | np.ndarray) -> ObjectPrompts:
        """The same prompts with a box around the object before them."""
        return self.with_interactions((Box(box), *self.interactions))

    def with_interactions(self, interactions: Iterable[Interaction]) -> ObjectPrompts:
        """The same object with other interactions."""
        return replace(self, interactions=tuple(interactions))

    def fitted(self, shape: Sequence[int], *, affine: np.ndarray | None = None) -> ObjectPrompts:
        """Return the prompts as arrays, with the corners of boxes in order and clipped to the volume.

        There need not be any on the object: it may have a mask already, from which they take something off.

        Args:
            shape: (I, J, K) of the volume.
            affine: (4, 4) of the volume, voxel index to RAS+ mm; with it, prompts outside of the volume that would lie
                inside as millimetres are refused as such.

        Raises:
            PromptError: where there is none, for a value that is not a number, a position outside of the volume, or a
                box that does not meet it.
        """
        if not self.interactions:
            raise PromptError(
                f"no prompt for {self.name!r}; give at least one foreground point or a box, scribble, lasso or mask"
            )
        valid = [one.validated(shape, affine=affine, name=self.name) for one in self.interactions]
        return self.with_interactions(valid)

    def validated(self, shape: Sequence[int], *, affine: np.ndarray | None = None) -> ObjectPrompts:
        """As ``fitted``, for what a model is asked.

        Raises:
            PromptError: also where nothing of them lies on the object.
        """
        fitted = self.fitted(shape, affine=affine)
        if not any(one.positive for one in fitted.interactions):
            points = all(one.kind == "point" for one in fitted.interactions)
            given = "only background points" if points else "nothing on the object"
            raise PromptError(f"{given} for {self.name!r}; add a foreground point or a box")
        return fitted


def _clicks(points: Sequence[Sequence[float]] | np.ndarray, labels: Sequence[int] | np.ndarray | None) -> list[Point]:
    labels = np.ones(len(points), dtype=int) if labels is None else np.asarray(labels).reshape(-1)
    if len(labels) != len(points):
        raise PromptError(f"points must match point labels, got {len(points)} points and {len(labels)} labels")
    if not np.isin(labels, (0, 1)).all():
        raise PromptError(f"point labels must be 1 (object) or 0 (background), got {labels.tolist()}")
    return [Point(point, positive=bool(label)) for point, label in zip(points, labels, strict=True)]


def read_prompts(path: str | Path, *, picture: bool = False) -> list[ObjectPrompts]:
    """Read a prompts file.

    The file is JSON: ``{"objects": [{"name": "liver", "label": 1, "box": [[i, j, k], [i, j, k]],
    "points": [[i, j, k], ...], "point_labels": [1, ...], "interactions": [...]}, ...]}`` with voxel indices of the
    image; ``label`` defaults to the position in the list plus 1, ``point_labels`` to 1. Objects of one name become
    "name (label)". Interactions are what
    ``interaction_from_json`` reads, in their order, such as ``{"kind": "scribble", "path": [[i, j, k], ...]}``; box and
    points come before them.

    Args:
        path: of the file, in UTF-8 or UTF-16.
        picture: whether the image is one slice along its last axis; then indices may also be pairs (i, j).

    Raises:
        PromptError: naming the file and what is wrong in it.
    """
    path = Path(path)
    objects = read_json_object(path, f"prompts file {path}", PromptError).get("objects")
    if not isinstance(objects, list) or not objects:
        raise PromptError(f'prompts file {path} needs a list "objects" with at least one object')
    prompts = [_parse_object(entry, position, picture) for position, entry in enumerate(objects, start=1)]
    labels = [prompt.label for prompt in prompts]
    if len(set(labels)) < len(labels):
        raise PromptError(f"prompts file {path} gives two objects the same label: {labels}")
    times = Counter(prompt.name for prompt in prompts)
    return [replace(one, name=f"{one.name} ({one.label})") if times[one.name] > 1 else one for one in prompts]


def _parse_object(entry: Any, position: int, picture: bool) -> ObjectPrompts:
    known = {"name", "label", "box", "points", "point_labels", "interactions"}
    if not isinstance(entry, Mapping):
        raise PromptError(f"object {position} must be a JSON object, got {entry!r}")
    if unknown := sorted(set(entry) - known):
        raise PromptError(f"object {position} has an unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    label = entry.get("label", position)
    if type(label) is not int or not 0 < label <= LARGEST_LABEL:
        raise PromptError(
            f"label of object {position} must be a whole number of at least 1 and below 2**32, got {label!r:.80}"
        )
    points = _indices(entry.get("points", []), f"points of object {position}", picture)
    prompts = ObjectPrompts(
        points=points,
        point_labels=_point_labels(entry.get("point_labels", [1] * len(points)), position),
        box=None if entry.get("box") is None else _indices(entry["box"], f"box of object {position}", picture),
        name=str(entry.get("name") or f"object {position}"),
        label=label,
    )
    others = _read_interactions(entry.get("interactions", []), position, picture)
    return prompts.with_interactions((*prompts.interactions, *others))


def _read_interactions(entries: Any, position: int, picture: bool) -> list[Interaction]:
    if not isinstance(entries, list):
        raise PromptError(f"interactions of object {position} must be a list, got {entries!r:.80}")
    found = []
    for number, entry in enumerate(entries, start=1):
        what = f"interaction {number} of object {position}"
        if isinstance(entry, Mapping):
            entry = {key: _on_picture(value, what, picture) for key, value in entry.items()}
        found.append(interaction_from_json(entry, what))
    return found


def _on_picture(value: Any, what: str, picture: bool) -> Any:
    """Positions (i, j) of a picture as voxel indices; anything else as it is."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(index, int | float) for index in value):
        return _indices([value], what, picture)[0].tolist()
    pairs = isinstance(value, list) and value and all(isinstance(row, list) and len(row) == 2 for row in value)
    return _indices(value, what, picture).tolist() if pairs else value


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
    return as_rows(rows, what, 3)
