"""Prompt protocols: which prompts a simulated user gives for one object in a slice, and what each one scores.

A protocol asks a `Predict` for a mask, once or several times. What it draws depends on a seed and the object's key
alone, and every prompt can be stored and replayed, so that two models can be shown the same ones.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from bundle.evaluation.metrics import OrganScore, evaluate_label_map
from bundle.transforms.simulation import (
    error_point,
    error_points,
    jitter_box,
    paired_error_points,
    random_point,
    shift_box,
    tight_box,
)

CORRECTION_RULES = ("centre", "random", "paired")


class ProtocolError(ValueError):
    """A protocol that does not exist or makes no sense."""


@dataclass(frozen=True, eq=False)
class SlicePrompt:
    """All prompts of one object in a slice so far.

    Attributes:
        points: (N, 2) float32 `(x, y)` pixels of the slice.
        labels: (N,) int64, 1 on the object and 0 off it.
        box: (4,) float32 `(x0, y0, x1, y1)`, corners inclusive; None without a box.
    """

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    box: np.ndarray | None = None

    def with_points(self, points: Sequence[Sequence[float]], labels: Sequence[int]) -> SlicePrompt:
        """The same prompt with more points; points of label -1 (padding) are left out."""
        points, labels = np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels, np.int64)
        real = labels >= 0
        return replace(
            self,
            points=np.concatenate([self.points, points[real]]),
            labels=np.concatenate([self.labels, labels[real]]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {
            "points": self.points.tolist(),
            "labels": self.labels.tolist(),
            "box": None if self.box is None else self.box.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SlicePrompt:
        """The prompt that `to_json` wrote."""
        box = values["box"]
        prompt = cls(box=None if box is None else np.asarray(box, np.float32))
        return prompt.with_points(values["points"], values["labels"])


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """What a model answers: `mask` (H, W) bool, its own `predicted_iou` (None without), and low-resolution `logits`
    of any type, which are handed back with the next prompt as the mask prompt."""

    mask: np.ndarray
    predicted_iou: float | None = None
    logits: Any = None


Predict = Callable[[SlicePrompt, Any], SliceAnswer]
"""Answers a prompt on the current slice; the second argument is the previous answer's logits, None at first."""


@dataclass(frozen=True, eq=False)
class Interaction:
    """One prompt, its answer, its score and the seconds that the answer took."""

    prompt: SlicePrompt
    answer: SliceAnswer
    score: OrganScore
    seconds: float


Prompts = Generator[SlicePrompt, np.ndarray, None]
"""Yields prompts and is sent the prediction that each one led to."""


class PromptProtocol(Protocol):
    """Decides the prompts of one object."""

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """The prompts for the object `truth`, (H, W) bool, which must not be empty."""

    @property
    def mask_prompt(self) -> bool:
        """Whether the previous answer's logits go along with the next prompt."""


# ---- the protocols --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxProtocol:
    """One box around the object.

    Attributes:
        shift: pixels by which every side lies outward of the tight box.
        jitter: each side moves outward by its own draw from 0 to so many pixels, after the shift.
        reference: pixels are those of a picture with this longer side: MedSAM counts in its square of 1024.
    """

    shift: float = 0.0
    jitter: float = 0.0
    reference: float = 1024.0
    mask_prompt = False

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """One prompt."""
        pixel = max(truth.shape) / self.reference
        box = shift_box(tight_box(truth), self.shift * pixel, truth.shape)
        yield SlicePrompt(box=jitter_box(box, rng, max_pixels=self.jitter * pixel, shape=truth.shape))


@dataclass(frozen=True)
class PointsProtocol:
    """`count` points on the object at once: the centre of its largest piece, then random pixels of it."""

    count: int = 1
    mask_prompt = False

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """One prompt."""
        points = [_centre(truth), *(random_point(truth, rng) for _ in range(self.count - 1))]
        yield SlicePrompt().with_points(points, [1] * self.count)


@dataclass(frozen=True)
class CorrectionProtocol:
    """A start, then clicks where the answer is wrong, until nothing is.

    Attributes:
        start: `point` (the centre of the object's largest piece) or `box` (tight).
        clicks: corrections after the start; micro-sam makes 7, the CVPR 2025 challenge 5, SAM-Med2D 8.
        rule: `centre` of the largest wrong region (CVPR 2025, RITM's idea), a `random` wrong pixel (SAM-Med2D), or
            `paired`: one positive and one negative point (micro-sam, MedicoSAM).
        mask_prompt: pass the previous answer's logits along.
    """

    start: str = "point"
    clicks: int = 8
    rule: str = "centre"
    mask_prompt: bool = True

    def __post_init__(self) -> None:
        if self.start not in ("point", "box"):
            raise ProtocolError(f"start must be point or box, got {self.start!r}")
        if self.rule not in CORRECTION_RULES:
            raise ProtocolError(f"rule must be one of {', '.join(CORRECTION_RULES)}, got {self.rule!r}")

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """Up to `clicks` + 1 prompts, each the former one with more points."""
        prompt = SlicePrompt(box=tight_box(truth))
        if self.start == "point":
            prompt = SlicePrompt().with_points([_centre(truth)], [1])
        for _ in range(self.clicks):
            prediction = yield prompt
            if not np.any(truth != prediction):
                return
            prompt = prompt.with_points(*self._correction(truth, prediction, rng))
        yield prompt

    def _correction(
        self, truth: np.ndarray, prediction: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.rule == "random":
            return error_points(truth, prediction, 1, rng)
        if self.rule == "paired":
            return paired_error_points(truth, prediction, rng)
        x, y, label = error_point(truth, prediction)
        return np.array([[x, y]]), np.array([label])


@dataclass(frozen=True)
class ReplayProtocol:
    """The prompts that were stored from another run, whatever this model answers."""

    stored: Sequence[SlicePrompt]
    mask_prompt: bool = False

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """The stored prompts."""
        for prompt in self.stored:  # noqa: UP028 - `yield from` would send the predictions to the tuple
            yield prompt


PROTOCOLS: dict[str, PromptProtocol] = {
    "box": BoxProtocol(),
    "box_shift_5": BoxProtocol(shift=5),
    "box_shift_10": BoxProtocol(shift=10),
    "box_shift_20": BoxProtocol(shift=20),
    "box_jitter_20": BoxProtocol(jitter=20),
    "points_1": PointsProtocol(1),
    "points_3": PointsProtocol(3),
    "points_5": PointsProtocol(5),
    "clicks_from_point": CorrectionProtocol("point"),
    "clicks_from_box": CorrectionProtocol("box"),
    "micro_sam_from_point": CorrectionProtocol("point", clicks=7, rule="paired"),
    "micro_sam_from_box": CorrectionProtocol("box", clicks=7, rule="paired"),
}
"""By name. Shifts and jitter are in pixels of MedSAM's 1024 square: 20 is 5 pixels of a slice of 256."""


def protocol_named(name: str) -> PromptProtocol:
    """One of `PROTOCOLS`.

    Raises:
        ProtocolError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


# ---- running one ----------------------------------------------------------------------------------------------------


def run_protocol(
    protocol: PromptProtocol,
    predict: Predict,
    truth: np.ndarray,
    *,
    rng: np.random.Generator,
    organ: str = "object",
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
) -> list[Interaction]:
    """Prompts `predict` as the protocol says and scores each answer.

    Args:
        protocol: decides the prompts.
        predict: answers them; a slice must be set already.
        truth: (H, W) bool, not empty.
        rng: see `object_rng`.
        organ: name for the scores.
        spacing: size of a pixel (rows, columns) for NSD and HD95; None is 1.
        tolerance: of NSD, in the unit of the spacing.
    """
    prompts = protocol.prompts(truth, rng)
    interactions, logits = [], None
    prompt = next(prompts)
    while prompt is not None:
        started = time.perf_counter()
        answer = predict(prompt, logits)
        seconds = time.perf_counter() - started
        score = score_mask(answer.mask, truth, organ=organ, spacing=spacing, tolerance=tolerance)
        interactions.append(Interaction(prompt, answer, score, seconds))
        logits = answer.logits if protocol.mask_prompt else None
        prompt = _send(prompts, answer.mask)
    return interactions


def score_mask(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    organ: str = "object",
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
) -> OrganScore:
    """All scores of one bool mask, 2D or 3D; see `metrics.evaluate_label_map`."""
    (score,) = evaluate_label_map(prediction, truth, spacing=spacing, labels={organ: 1}, tolerance_mm=tolerance)
    return score


def object_rng(seed: int, key: str) -> np.random.Generator:
    """Draws that depend on the seed and the object alone, so neither order nor number of objects changes them."""
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


def _send(prompts: Prompts, prediction: np.ndarray) -> SlicePrompt | None:
    try:
        return prompts.send(prediction)
    except StopIteration:
        return None


def _centre(truth: np.ndarray) -> np.ndarray:
    """Where a user clicks first: the middle of the largest piece, as if everything were still missed."""
    x, y, _ = error_point(truth, np.zeros_like(truth))
    return np.array([x, y], np.float32)
