"""The rounds of the demonstration: prompts drawn from a known label, corrected click by click, and scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bundle.data.volume import Volume
from bundle.evaluation.metrics import evaluate_label_map
from bundle.interactive.label_map import LabelMap
from bundle.interactive.segmentation import Segmentation
from bundle.prompts.simulation import error_point, error_voxel, interior_point, tight_box
from monailabel_app.demo.slicer_user import Answer, SlicerUser
from monailabel_app.wire import fields

TOLERANCE_MM = 2.0
CORRECTIONS_2D = 2
CORRECTIONS_3D = 1
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are None where a line has no such click.

    ``nsd`` is at 2 mm; ``following_seconds`` is the mean of the clicks after the first.
    """

    organ: str
    prompt: str
    dsc: float
    nsd: float
    first_seconds: float | None
    following_seconds: float | None


@dataclass
class OrganResult:
    """What the app answered for one organ.

    Attributes:
        name: the organ.
        index: slice k of the 2D rounds, the one with most of the organ.
        box: the 2D box, [i0, i1, j0, j1, k, k].
        clicks: (i, j, k, 1 on or 0 off the organ) of the corrections of the 2D box.
        volume_box: the 3D box, [i0, i1, j0, j1, k0, k1].
        volume_clicks: as `clicks`, of the corrections of the 3D box.
        on_slice: answer to the 2D box after its corrections.
        in_volume: answer to the 3D box after its correction.
        rows: its lines of the table.
    """

    name: str
    index: int
    box: list[int]
    clicks: list[tuple[int, int, int, int]]
    volume_box: list[int] = field(default_factory=list)
    volume_clicks: list[tuple[int, int, int, int]] = field(default_factory=list)
    on_slice: Answer | None = None
    in_volume: Answer | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass
class _Prompt:
    """All that the user has placed so far."""

    model: str
    roi: list[int] | None = None
    slice_index: int | None = None
    foreground: list[Index] = field(default_factory=list)
    background: list[Index] = field(default_factory=list)

    def add(self, point: Index, mark: int) -> None:
        (self.foreground if mark else self.background).append(point)


def segment_organ(user: SlicerUser, truth: Volume, name: str, value: int) -> OrganResult:
    """Segment one organ in three rounds: a box on its largest slice, a point there, and a box around all of it.

    Args:
        user: has the volume open.
        truth: label map on the volume's grid.
        name: the organ.
        value: its label.
    """
    organ = truth.array == value
    index = int(organ.sum(axis=(0, 1)).argmax())
    flat, roi = _roi(organ[:, :, index : index + 1], index), _roi(organ)
    point_j, point_i = interior_point(organ[:, :, index])
    start = (round(float(point_i)), round(float(point_j)), index)
    box = _Prompt("sam_2d", roi=flat, slice_index=index)
    point = _Prompt("sam_2d", slice_index=index, foreground=[start])
    volume = _Prompt("sam_3d", roi=roi)
    result = OrganResult(name, index, flat, [], volume_box=roi)
    for title, prompt, corrections in (
        ("2D box", box, CORRECTIONS_2D),
        ("2D point", point, CORRECTIONS_2D),
        ("3D box", volume, CORRECTIONS_3D),
    ):
        answers = _correct(user, prompt, organ, name, corrections)
        result.rows += _rows(name, title, answers, organ, truth.spacing, prompt.slice_index)
        if prompt is box:
            result.on_slice = answers[-1]
        result.in_volume = answers[-1]
    result.clicks, result.volume_clicks = _clicks(box), _clicks(volume)
    return result


def _clicks(prompt: _Prompt) -> list[tuple[int, int, int, int]]:
    return [(*at, 1) for at in prompt.foreground] + [(*at, 0) for at in prompt.background]


def merge(shape: Sequence[int], objects: Mapping[str, int], answers: Iterable[Answer]) -> np.ndarray:
    """One (I, J, K) label map of the answers for several objects, which may overlap.

    Args:
        shape: (I, J, K).
        objects: name -> value, in the order of the answers.
        answers: the last one for each object.
    """
    gathered = LabelMap(shape)
    for (name, value), answer in zip(objects.items(), answers, strict=True):
        scores = {int(index): iou for index, iou in answer.params[fields.PREDICTED_IOU][name].items()}
        gathered.add(Segmentation(answer.mask, scores, axis=2), value)
    return gathered.labels


def _roi(mask: np.ndarray, first_slice: int = 0) -> list[int]:
    i0, j0, k0, i1, j1, k1 = (int(value) for value in tight_box(mask))
    return [i0, i1, j0, j1, k0 + first_slice, k1 + first_slice]


def _correct(user: SlicerUser, prompt: _Prompt, organ: np.ndarray, name: str, corrections: int) -> list[Answer]:
    """The first answer, then one for each correction, as long as something is wrong."""
    answers = [_click(user, prompt, name, reset=True)]
    while len(answers) <= corrections:
        wrong = _largest_error(organ, answers[-1].mask, prompt.slice_index)
        if wrong is None:
            break
        prompt.add(*wrong)
        answers.append(_click(user, prompt, name))
    return answers


def _click(user: SlicerUser, prompt: _Prompt, name: str, *, reset: bool = False) -> Answer:
    return user.click(
        prompt.model,
        name,
        foreground=prompt.foreground,
        background=prompt.background,
        roi=prompt.roi,
        slice_index=prompt.slice_index,
        reset=reset,
    )


def _largest_error(organ: np.ndarray, mask: np.ndarray, index: int | None) -> tuple[Index, int] | None:
    """Where the user would click next, and whether on the organ (1) or off it (0)."""
    if index is None:
        found = error_voxel(organ, mask)
        return None if found is None else ((round(found[0]), round(found[1]), round(found[2])), found[3])
    wrong = error_point(organ[:, :, index], mask[:, :, index])
    # The array is (I, J): its rows are i, its columns j.
    return None if wrong is None else ((round(wrong.y), round(wrong.x), index), wrong.label)


def _rows(
    name: str, title: str, answers: list[Answer], organ: np.ndarray, spacing: np.ndarray, index: int | None
) -> list[Row]:
    first, following = answers[0], answers[1:]
    rows = [Row(name, title, *_score(first.mask, organ, spacing, index), round(first.seconds, 3), None)]
    if following:
        mean = round(float(np.mean([answer.seconds for answer in following])), 3)
        title = f"{title} + {len(following)} click{'s' if len(following) > 1 else ''}"
        rows.append(Row(name, title, *_score(following[-1].mask, organ, spacing, index), None, mean))
    return rows


def _score(mask: np.ndarray, organ: np.ndarray, spacing: np.ndarray, index: int | None) -> tuple[float, float]:
    """DSC and NSD, in 2D on the slice."""
    if index is not None:
        mask, organ, spacing = mask[:, :, index], organ[:, :, index], spacing[:2]
    score = evaluate_label_map(mask, organ, spacing=spacing, labels={"organ": 1}, tolerance_mm=TOLERANCE_MM)[0]
    return round(score.dsc, 4), round(score.nsd, 4)
