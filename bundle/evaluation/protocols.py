"""Simulated users: which prompts are given for one object, on a slice or in a volume.

A protocol is a start (a box, points) and rounds of clicks where the answer is wrong, whatever the dimension: on a slice
its prompts are `SlicePrompt`s in pixels `(x, y)`, in a volume `ObjectPrompts` in voxel indices `(i, j, k)`. What is
drawn depends on a seed and the object's key alone, and every prompt can be stored and replayed, so that two models can
be shown the same ones.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bundle.errors import ProtocolError
from bundle.evaluation.stored_prompts import Prompt, with_points
from bundle.interactive.slice_model import SlicePrompt
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import (
    LabelledPoints,
    error_point,
    error_points,
    error_voxel,
    jitter_box,
    paired_error_points,
    random_point,
    shift_box,
    tight_box,
)
from bundle.prompts.simulation_strokes import lasso_prompt, scribble_prompt

Prompts = Generator[Prompt, np.ndarray, None]
"""Yields prompts and is sent the mask that each one led to."""

WHOLE, CENTRAL, LARGEST = "whole", "central", "largest"
STANDARD_CLICKS = {2: 8, 3: 5}
"""Corrections of a protocol that does not say how many, by dimension: 5 are those of the CVPR 2025 challenge."""


class PromptProtocol(Protocol):
    """Decides the prompts of one object."""

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """The prompts for the object `truth`, (H, W) or (I, J, K) bool, which must not be empty."""

    @property
    def mask_prompt(self) -> bool:
        """Whether the former answer goes along with the next prompt; if not, each prompt is answered anew."""


def _check_choice(name: str, value: str, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise ProtocolError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


# ---- starts ---------------------------------------------------------------------------------------------------------


class Start(Protocol):
    """Where a user begins."""

    def __call__(self, truth: np.ndarray, rng: np.random.Generator, axis: int) -> Prompt:
        """The first prompt for the object `truth`; `axis` is the one that a volume's slices are stacked along."""


@dataclass(frozen=True)
class Box:
    """One box around the object. On a slice it is `(x0, y0, x1, y1)`; in a volume it is drawn across `axis`.

    Attributes:
        outline: what the box goes around in a volume: the `whole` object as it is seen along the axis, or its section
            on the `central` or `largest` slice.
        flat: on that slice alone, instead of through all slices of the object.
        shift: pixels by which every side of the drawn box lies outward of the tight one.
        jitter: each of these sides moves outward by its own draw from 0 to so many pixels, after the shift.
        reference: pixels are those of a picture with this longer side: MedSAM counts in its square of 1024.
    """

    outline: str = WHOLE
    flat: bool = False
    shift: float = 0.0
    jitter: float = 0.0
    reference: float = 1024.0

    def __post_init__(self) -> None:
        _check_choice("outline", self.outline, (WHOLE, CENTRAL, LARGEST))
        if self.flat and self.outline == WHOLE:
            raise ProtocolError("a flat box needs one slice, got outline 'whole'; take 'central' or 'largest'")

    def __call__(self, truth: np.ndarray, rng: np.random.Generator, axis: int) -> Prompt:
        """A prompt with the box alone."""
        if truth.ndim == 2:
            return SlicePrompt(box=self._drawn_around(truth, rng))
        if self.outline == WHOLE:
            index, section = None, truth.any(axis=axis)
        else:
            index, section = _section(truth, self.outline, axis)
        x0, y0, x1, y1 = self._drawn_around(section, rng)
        ends = [index, index] if self.flat else tight_box(truth).reshape(2, 3)[:, axis]
        return ObjectPrompts(box=np.insert([[y0, x0], [y1, x1]], axis, ends, axis=1))

    def _drawn_around(self, section: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pixel = max(section.shape) / self.reference
        box = shift_box(tight_box(section), self.shift * pixel, section.shape)
        if not self.jitter:  # draws nothing, so that what is drawn for the clicks does not depend on the start
            return box
        return jitter_box(box, rng, max_pixels=self.jitter * pixel, shape=section.shape)


@dataclass(frozen=True)
class Points:
    """Points on the object at once: the centre of its largest piece, then random ones.

    Attributes:
        count: how many.
        on: in a volume, the `whole` object or its `central` slice alone.
    """

    count: int = 1
    on: str = WHOLE

    def __post_init__(self) -> None:
        _check_choice("on", self.on, (WHOLE, CENTRAL))

    def __call__(self, truth: np.ndarray, rng: np.random.Generator, axis: int) -> Prompt:
        """A prompt with the points alone."""
        if truth.ndim == 3 and self.on == CENTRAL:
            index, section = _section(truth, CENTRAL, axis)
            points = np.insert(np.array(self._drawn_in(section, rng))[:, ::-1], axis, index, axis=1)
        else:
            points = self._drawn_in(truth, rng)
        nothing = SlicePrompt() if truth.ndim == 2 else ObjectPrompts()
        return with_points(nothing, points, [1] * self.count)

    def _drawn_in(self, mask: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        # A user clicks first where it is farthest to the edge, as if everything were still missed.
        centre = _centre_of_error(mask, np.zeros_like(mask), rng).points[0]
        return [centre, *(random_point(mask, rng) for _ in range(self.count - 1))]


def central_slice(truth: np.ndarray, axis: int = 2) -> int:
    """The slice that holds the object's middle voxel along `axis`, as the CVPR 2025 challenge's boxes take it."""
    areas = _areas(truth, axis)
    return int(np.searchsorted(np.cumsum(areas), areas.sum() // 2, side="right"))


def _section(truth: np.ndarray, which: str, axis: int) -> tuple[int, np.ndarray]:
    """The index of a slice and the object's mask on it, (rows, columns) in the order of the remaining axes."""
    index = central_slice(truth, axis) if which == CENTRAL else int(_areas(truth, axis).argmax())
    return index, truth.take(index, axis=axis)


def _areas(mask: np.ndarray, axis: int) -> np.ndarray:
    """Voxels of each slice along `axis`."""
    return np.count_nonzero(mask, axis=tuple(other for other in range(mask.ndim) if other != axis))


# ---- rounds of clicks -----------------------------------------------------------------------------------------------


def _centre_of_error(truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator) -> LabelledPoints:
    """One click at the centre of the largest wrong region (CVPR 2025, RITM's idea)."""
    *point, label = (error_point if truth.ndim == 2 else error_voxel)(truth, prediction)
    return LabelledPoints(np.array([point], np.float32), np.array([label]))


def _random_error(truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator) -> LabelledPoints:
    """One random wrong pixel (SAM-Med2D)."""
    return error_points(truth, prediction, 1, rng)


CORRECTION_RULES: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], LabelledPoints]] = {
    "centre": _centre_of_error,
    "random": _random_error,
    "paired": paired_error_points,
}
"""Truth, an answer that differs from it and draws -> the next clicks. `paired` is micro-sam's: one on and one off."""


@dataclass(frozen=True)
class ClickProtocol:
    """A start, then rounds of clicks where the answer is wrong, until nothing is.

    Attributes:
        start: `Box`, `Points`, `scribble_prompt`, `lasso_prompt` or another.
        clicks: rounds after the start; micro-sam makes 7, the CVPR 2025 challenge 5, SAM-Med2D 8. None takes
            `STANDARD_CLICKS`.
        rule: of `CORRECTION_RULES`.
        mask_prompt: the former answer goes along with the next prompt.
        axis: array axis that a volume's slices are stacked along.
    """

    start: Start
    clicks: int | None = 0
    rule: str = "centre"
    mask_prompt: bool = True
    axis: int = 2

    def __post_init__(self) -> None:
        _check_choice("rule", self.rule, CORRECTION_RULES)

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """Up to `clicks` + 1 prompts, each the former one with more points."""
        prompt = self.start(truth, rng, self.axis)
        for _ in range(STANDARD_CLICKS[truth.ndim] if self.clicks is None else self.clicks):
            prediction = yield prompt
            if np.array_equal(truth, prediction):
                return
            prompt = with_points(prompt, *CORRECTION_RULES[self.rule](truth, prediction, rng))
        yield prompt


@dataclass(frozen=True)
class ReplayProtocol:
    """The prompts that were stored from another run, whatever this model answers."""

    stored: Sequence[Prompt]
    mask_prompt: bool = True

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """The stored prompts."""
        for prompt in self.stored:  # noqa: UP028 - `yield from` would send the predictions to the tuple
            yield prompt


PROTOCOLS: dict[str, ClickProtocol] = {
    "box": ClickProtocol(Box()),
    "box_shift_5": ClickProtocol(Box(shift=5)),
    "box_shift_10": ClickProtocol(Box(shift=10)),
    "box_shift_20": ClickProtocol(Box(shift=20)),
    "box_shift_80": ClickProtocol(Box(shift=80)),
    "box_jitter_20": ClickProtocol(Box(jitter=20)),
    "slice_box": ClickProtocol(Box(CENTRAL, flat=True)),
    "middle_box": ClickProtocol(Box(CENTRAL)),
    "point": ClickProtocol(Points(1)),
    "points_1": ClickProtocol(Points(1)),
    "points_3": ClickProtocol(Points(3)),
    "points_5": ClickProtocol(Points(5)),
    "slice_point": ClickProtocol(Points(1, CENTRAL)),
    "scribble": ClickProtocol(scribble_prompt),
    "lasso": ClickProtocol(lasso_prompt),
    "clicks_from_point": ClickProtocol(Points(1), clicks=None),
    "clicks_from_box": ClickProtocol(Box(), clicks=None),
    "clicks_from_slice_box": ClickProtocol(Box(CENTRAL, flat=True), clicks=None),
    "clicks_from_scribble": ClickProtocol(scribble_prompt, clicks=None),
    "clicks_from_lasso": ClickProtocol(lasso_prompt, clicks=None),
    "clicks_20": ClickProtocol(Points(1), clicks=19),
    "cvpr25": ClickProtocol(Box(CENTRAL), clicks=5),
    "sam_med2d": ClickProtocol(Points(1), clicks=4, rule="random"),
    "micro_sam_from_point": ClickProtocol(Points(1), clicks=7, rule="paired"),
    "micro_sam_from_box": ClickProtocol(Box(), clicks=7, rule="paired"),
}
"""By name. Shifts and jitter are in pixels of MedSAM's 1024 square: 20 is 5 pixels of a slice of 256, 80 is 20.

`clicks_20` is RITM's count of clicks (NoC), `cvpr25` the CVPR 2025 challenge's box and five clicks. Steps 0, 2 and 4 of
`sam_med2d` are its "1, 3 and 5 points", which its tests place one after the other; `points_3` and `points_5` come at
once.
"""


def protocol_named(name: str, *, axis: int = 2) -> ClickProtocol:
    """One of `PROTOCOLS`, or `clicks_from_point_3` and its like with as many corrections as asked for.

    Args:
        name: of the protocol.
        axis: array axis that a volume's slices are stacked along.

    Raises:
        ProtocolError: there is none of that name.
    """
    counted = re.fullmatch(r"(clicks_from_\w+)_([1-9]\d*)", name)
    if counted is not None and counted[1] in PROTOCOLS:
        return replace(PROTOCOLS[counted[1]], clicks=int(counted[2]), axis=axis)
    if name not in PROTOCOLS:
        raise ProtocolError(
            f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}, and clicks_from_point_3 and its like with "
            "another number of corrections"
        )
    return replace(PROTOCOLS[name], axis=axis)


def object_rng(seed: int, key: str) -> np.random.Generator:
    """Draws that depend on the seed and the object alone, so neither order nor number of objects changes them."""
    return np.random.default_rng([seed, zlib.crc32(key.encode())])
