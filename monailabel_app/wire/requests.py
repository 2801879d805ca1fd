"""Every client's dialect of a click, read into prompts in voxel indices of the stored image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bundle.data.limits import LIMITS
from bundle.prompts.interaction_json import interaction_from_json
from bundle.prompts.interactions import Box, Interaction, Mask, Point
from bundle.prompts.on_slices import flattened
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame, nearest_index
from monailabel_app.errors import RequestError
from monailabel_app.wire import fields as wire
from monailabel_app.wire.numbers import check_count, parsed, read_array, read_index, short


@dataclass(frozen=True)
class ClickRequest:
    """What one request asks for.

    Attributes:
        objects: the prompts of each object, as they fit the image; in 2D all of them lie on slice ``index``. Whether
            they leave something to ask is for the session to say, which knows what the object is made of.
        index: the slice of a 2D request along the axis that it is about, None in 3D.
        reset: whether to forget what earlier clicks on these objects left behind.
        client: tells the clients of one user apart, each of which sends all of its own prompts each time; a digest,
            since a session on disk names nobody.
    """

    objects: tuple[ObjectPrompts, ...]
    index: int | None
    reset: bool
    client: str


@dataclass(frozen=True)
class _Grid:
    """The grid of the image, the axis of the request's slices, and what the client says about the one it looks at."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    axis: int
    shown: int | None
    from_interface: bool

    @cached_property
    def frame(self) -> SliceFrame:
        """The slices."""
        return SliceFrame.along(self.shape, self.affine, self.axis)


def read_request(
    params: Mapping[str, Any],
    *,
    shape: Sequence[int],
    affine: np.ndarray,
    dimension: int,
    axis: int,
    names: Iterable[str] = (),
) -> ClickRequest:
    """Read a request of any client.

    Args:
        params: the request's JSON.
        shape: (I, J, K) of the image.
        affine: (4, 4) of the image, voxel index to RAS mm.
        dimension: 2 answers on one slice, 3 in the volume.
        axis: stored axis of the slices, see ``fields.read_axis``.
        names: labels that may stand as keys of their own (the deepedit dialect).

    Raises:
        RequestError: a parameter that cannot be understood, too many points or objects, or no slice to work on.
        PromptError: prompts that do not fit the image, or none.
    """
    i, j, k = (int(size) for size in shape)
    shown = read_index(params, wire.SLICE)
    grid = _Grid((i, j, k), np.asarray(affine, dtype=float), axis, shown, bool(params.get(wire.CLIENT_ID)))
    placed = (_place(prompts, roi, grid) for prompts, roi in _read_objects(params, names, grid))
    found = [prompts.fitted(grid.shape) for prompts in placed]
    index = None
    if dimension == 2:
        index = _choose_slice(found, grid)
        found = [_onto_slice(prompts, index, grid).fitted(grid.shape) for prompts in found]
    client = hashlib.sha256(repr(params.get(wire.CLIENT_ID) or "").encode()).hexdigest()[:16]
    return ClickRequest(tuple(found), index, wire.read_flag(params, wire.RESET_STATE), client)


# ---- objects --------------------------------------------------------------------------------------------------------


def _read_objects(
    params: Mapping[str, Any], names: Iterable[str], grid: _Grid
) -> list[tuple[ObjectPrompts, np.ndarray | None]]:
    """The objects of a request, each with the ROI's numbers; the ROI has no place in the volume yet."""
    roi = _read_roi(params)
    background = _read_points(params, wire.BACKGROUND, grid)
    by_label = {} if _is_single(params) else _read_label_keys(params, names, grid)
    if by_label:
        items = enumerate(by_label.items(), start=1)
        return [(_prompts(points, background, name, value), roi) for value, (name, points) in items]
    foreground = _read_points(params, wire.FOREGROUND, grid)
    points, off_object = _read_labelled_points(params, grid)
    name = str(params.get(wire.LABEL) or "object")
    foreground, background = np.concatenate([foreground, points]), np.concatenate([background, off_object])
    prompts = _prompts(foreground, background, name, 1)
    return [(prompts.with_interactions((*prompts.interactions, *_read_interactions(params))), roi)]


def _is_single(params: Mapping[str, Any]) -> bool:
    """Whether the request names its foreground; deepedit's requests name their labels instead."""
    return any(params.get(key) for key in (wire.FOREGROUND, wire.POINTS, wire.INTERACTIONS))


def _read_label_keys(params: Mapping[str, Any], names: Iterable[str], grid: _Grid) -> dict[str, np.ndarray]:
    label = params.get(wire.LABEL)
    known = dict.fromkeys([*names, *([label] if isinstance(label, str) else [])])
    used = [name for name in known if name not in wire.OWN_KEYS and isinstance(params.get(name), list)]
    used = [name for name in used if params[name]]
    check_count(len(used), "objects")
    return {name: _read_points(params, name, grid) for name in used}


def _prompts(foreground: np.ndarray, background: np.ndarray, name: str, label: int) -> ObjectPrompts:
    check_count(len(foreground) + len(background), "points")
    marks = np.repeat([1, 0], [len(foreground), len(background)])
    points = np.concatenate([foreground, background])
    return ObjectPrompts(points=points, point_labels=marks, name=name, label=label)


def _read_interactions(params: Mapping[str, Any]) -> list[Interaction]:
    """Points, boxes, scribbles, lassos and masks as ``Interaction.to_json`` writes them, in their order."""
    entries = parsed(params.get(wire.INTERACTIONS), wire.INTERACTIONS)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise RequestError(f"{wire.INTERACTIONS} must be a list of interactions, got {short(entries)}")
    check_count(len(entries), "points")
    positions, voxels, found = 0, 0, []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, Mapping):  # counted before anything is made of it
            positions += sum(len(entry[key]) for key in ("path", "outline") if isinstance(entry.get(key), list))
            check_count(positions, "positions")
        one = interaction_from_json(entry, f"{wire.INTERACTIONS} {number}", most_voxels=LIMITS.mask_voxels - voxels)
        voxels += one.voxels.size if isinstance(one, Mask) else 0
        found.append(one)
    return found


# ---- numbers --------------------------------------------------------------------------------------------------------


def _read_points(params: Mapping[str, Any], key: str, grid: _Grid) -> np.ndarray:
    """(N, 3) voxel indices; points of two numbers, the other two axes, lie on the slice shown, or in a picture."""
    array = read_array(params, key)
    if array is None:
        return np.zeros((0, 3))
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise RequestError(f"{key} must be a list of [i, j, k], got {short(params[key])}")
    check_count(len(array), "points")
    if array.shape[1] == 3:
        return array
    return np.insert(array, grid.axis, _shown_slice(grid, key), axis=1)


def _read_labelled_points(params: Mapping[str, Any], grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    points = _read_points(params, wire.POINTS, grid)
    marks = read_array(params, wire.POINT_LABELS)
    marks = np.ones(len(points)) if marks is None else marks.reshape(-1)
    if len(marks) != len(points):
        raise RequestError(
            f"{wire.POINT_LABELS} must hold one number for each of {wire.POINTS}, got {len(marks)} and {len(points)}"
        )
    if not np.isin(marks, (1, 0, -1)).all():
        got = short(marks.tolist())
        raise RequestError(f"{wire.POINT_LABELS} must be 1 (object), 0 (background) or -1 (none), got {got}")
    return points[marks == 1], points[marks == 0]


def _read_roi(params: Mapping[str, Any]) -> np.ndarray | None:
    roi = read_array(params, wire.ROI)
    if roi is not None and roi.shape not in ((4,), (6,)):
        raise RequestError(
            f"{wire.ROI} must be [i0, i1, j0, j1, k0, k1] or [x0, y0, x1, y1], got {short(params[wire.ROI])}"
        )
    return roi


# ---- slices ---------------------------------------------------------------------------------------------------------


def _place(prompts: ObjectPrompts, roi: np.ndarray | None, grid: _Grid) -> ObjectPrompts:
    """Give the box of a ROI to an object: six numbers span a range of slices, four lie on one."""
    if roi is None:
        return prompts
    if len(roi) == 6:
        box = np.sort(roi.reshape(3, 2), axis=1).T
    else:
        on = prompts.points[prompts.point_labels == 1]
        index = _slice_of(on[-1, grid.axis], grid) if len(on) else _shown_slice(grid, wire.ROI)
        box = np.insert(roi.reshape(2, 2), grid.axis, index, axis=1)
    return prompts.with_box(box)


def _shown_slice(grid: _Grid, key: str) -> int:
    """The slice of a prompt that has no third index."""
    depth = grid.shape[grid.axis]
    if depth == 1:
        return 0
    if grid.shown is None or not 0 <= grid.shown < depth:
        raise RequestError(f'{key} has no third index in an image of {depth} slices; send "{wire.SLICE}" as well')
    return grid.shown


def _choose_slice(objects: Sequence[ObjectPrompts], grid: _Grid) -> int:
    """The slice of a 2D request: the one shown if anything lies on it, else the last one's, else the ROI's."""
    drawn = [one for prompts in objects for one in prompts.interactions if not _is_roi(one)]
    if grid.shown is not None and any(_lies_on(one, grid.shown, grid) for one in drawn):
        return grid.shown
    on_object = [one for one in drawn if one.positive]
    if on_object:
        return _slice_of_drawn(on_object[-1], grid)
    boxes = [prompts.box for prompts in objects if prompts.box is not None]
    if boxes:
        return _slice_of_box(boxes[0], grid)
    return _slice_of_drawn(drawn[-1], grid) if drawn else (grid.shown or 0)


def _is_roi(one: Interaction) -> bool:
    return isinstance(one, Box) and one.positive


def _lies_on(one: Interaction, index: int, grid: _Grid) -> bool:
    """Whether an interaction lies on a slice; a point between two slices on the one that the request is about."""
    if isinstance(one, Point):
        return bool(abs(one.voxel[grid.axis] - index) <= 0.5)
    return index in one.on_slices(grid.frame)


def _slice_of_drawn(one: Interaction, grid: _Grid) -> int:
    """The slice of an interaction, the middle one of several."""
    indices = sorted(one.on_slices(grid.frame))
    return indices[(len(indices) - 1) // 2]


def _slice_of(position: float, grid: _Grid) -> int:
    return int(nearest_index(position, grid.shape[grid.axis]))


def _slice_of_box(box: np.ndarray, grid: _Grid) -> int:
    """The slice that a ROI alone asks for.

    A ROI of one slice says it itself. For a thick one Slicer sends as ``slice`` not an index but the distance in mm
    of its Red slice, which is axial, from the origin, rounded and without sign; a script sends an index. Each reading
    counts only if it falls inside the ROI, Slicer's first if its interface asks; otherwise the middle of the ROI.
    """
    low, high = (_slice_of(edge, grid) for edge in box[:, grid.axis])
    middle = (low + high) // 2
    if low == high or grid.shown is None:
        return middle
    as_index = grid.shown if low <= grid.shown <= high else None
    as_height = _slice_at_height(grid.shown, low, high, box.mean(axis=0), grid)
    readings = (as_height, as_index) if grid.from_interface else (as_index, as_height)
    return next((reading for reading in readings if reading is not None), middle)


def _slice_at_height(height: int, low: int, high: int, centre: np.ndarray, grid: _Grid) -> int | None:
    """The axial slice of low..high whose centre lies ``height`` mm above or below the origin.

    Returns:
        None if none or several do, and of slices of another plane: each of them reaches over many heights.
    """
    if grid.frame.plane != "axial":
        return None
    slices = np.arange(low, high + 1)
    voxels = np.tile(centre, (len(slices), 1))
    voxels[:, grid.axis] = slices
    positions, step = voxels @ grid.affine[2, :3] + grid.affine[2, 3], abs(grid.affine[2, grid.axis])
    distance = np.abs(np.abs(positions) - height)
    near = slices[distance <= 0.5 + step / 2]
    # Slices thinner than a millimetre lie side by side; two places apart are +height and -height.
    if len(near) == 0 or near[-1] - near[0] >= len(near):
        return None
    return None if step == 0 else int(slices[distance.argmin()])


def _onto_slice(prompts: ObjectPrompts, index: int, grid: _Grid) -> ObjectPrompts:
    """The part of an object's prompts that lies on a slice; a ROI of other slices says nothing about this one."""
    here: list[Interaction] = []
    drawn = any(_lies_on(one, index, grid) for one in prompts.interactions if not _is_roi(one))
    for one in prompts.interactions:
        if isinstance(one, Point) and _lies_on(one, index, grid):
            here.append(Point(_at(one.voxel, index, grid), positive=one.positive))
        elif _is_roi(one):
            low, high = one.corners[:, grid.axis]
            if not drawn or low - 0.5 <= index <= high + 0.5:
                here.append(Box(_at(one.corners, index, grid)))
        elif not isinstance(one, Point):
            here += flattened(one, grid.frame, index)
    return prompts.with_interactions(here)


def _at(positions: np.ndarray, index: int, grid: _Grid) -> np.ndarray:
    """Positions, (..., 3), moved to a slice."""
    moved = np.array(positions, dtype=float)
    moved[..., grid.axis] = index
    return moved
