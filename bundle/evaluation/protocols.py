"""Prompt protocols: which prompts a simulated user gives for one object in a slice, and what each one scores.

A protocol asks a `Predict` for a mask, once or several times. What it draws depends on a seed and the object's key
alone, and every prompt can be stored and replayed, so that two models can be shown the same ones.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from bundle.errors import ProtocolError
from bundle.evaluation.metrics import OrganScore, evaluate_label_map
from bundle.interactive.slice_model import SlicePrompt
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import (
    error_point,
    error_points,
    jitter_box,
    paired_error_points,
    random_point,
    shift_box,
    tight_box,
)

AnyPrompt = TypeVar("AnyPrompt", SlicePrompt, ObjectPrompts)
AnyProtocol = TypeVar("AnyProtocol")

CORRECTION_RULES = ("centre", "random", "paired")


class Answer(Protocol):
    """What a model answers: at least a mask, (H, W) or (I, J, K) bool; `SliceMask` has logits and an IoU as well."""

    @property
    def mask(self) -> np.ndarray:
        """True on the object."""


Predict = Callable[[Any], Answer]
"""Answers a prompt on the image that is open: a `SlicePrompt` on a slice, `ObjectPrompts` in a volume."""


@dataclass(frozen=True, eq=False)
class Interaction:
    """One prompt, its answer, its score and the seconds that the answer took.

    `encode_seconds` are those of one run of the encoder, where the prompt made it run; see `evaluator.without_encoder`.
    """

    prompt: Any
    answer: Answer
    score: OrganScore
    seconds: float
    encode_seconds: float | None = None


Prompts = Generator[Any, np.ndarray, None]
"""Yields prompts and is sent the prediction that each one led to."""


class PromptProtocol(Protocol):
    """Decides the prompts of one object."""

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Prompts:
        """The prompts for the object `truth`, (H, W) bool, which must not be empty."""

    @property
    def mask_prompt(self) -> bool:
        """Whether the former answer goes along with the next prompt, as a mask prompt."""


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
        yield with_points(SlicePrompt(), points, [1] * self.count)


@dataclass(frozen=True)
class CorrectionProtocol:
    """A start, then clicks where the answer is wrong, until nothing is.

    Attributes:
        start: `point` (the centre of the object's largest piece) or `box` (tight).
        clicks: corrections after the start; micro-sam makes 7, the CVPR 2025 challenge 5, SAM-Med2D 8.
        rule: `centre` of the largest wrong region (CVPR 2025, RITM's idea), a `random` wrong pixel (SAM-Med2D), or
            `paired`: one positive and one negative point (micro-sam, MedicoSAM).
        mask_prompt: pass the previous answer along.
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
            prompt = with_points(SlicePrompt(), [_centre(truth)], [1])
        for _ in range(self.clicks):
            prediction = yield prompt
            if not np.any(truth != prediction):
                return
            prompt = with_points(prompt, *self._correction(truth, prediction, rng))
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

    stored: Sequence[SlicePrompt | ObjectPrompts]
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
    "box_shift_80": BoxProtocol(shift=80),
    "box_jitter_20": BoxProtocol(jitter=20),
    "points_1": PointsProtocol(1),
    "points_3": PointsProtocol(3),
    "points_5": PointsProtocol(5),
    "clicks_from_point": CorrectionProtocol("point"),
    "clicks_from_box": CorrectionProtocol("box"),
    "clicks_20": CorrectionProtocol("point", clicks=19),
    "sam_med2d": CorrectionProtocol("point", clicks=4, rule="random"),
    "micro_sam_from_point": CorrectionProtocol("point", clicks=7, rule="paired"),
    "micro_sam_from_box": CorrectionProtocol("box", clicks=7, rule="paired"),
}
"""By name. Shifts and jitter are in pixels of MedSAM's 1024 square: 20 is 5 pixels of a slice of 256, 80 is 20.

`clicks_20` is RITM's count of clicks (NoC). Steps 0, 2 and 4 of `sam_med2d` are its "1, 3 and 5 points", which its
tests place one after the other; `points_3` and `points_5` come at once.
"""


def protocol_named(name: str) -> PromptProtocol:
    """One of `PROTOCOLS`, or `clicks_from_point_3` and its like with as many corrections as asked for.

    Raises:
        ProtocolError: there is none of that name.
    """
    found = find_protocol(name, PROTOCOLS)
    if found is None:
        raise ProtocolError(
            f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}, and clicks_from_point_3 and its like with "
            "another number of corrections"
        )
    return found


def find_protocol(name: str, known: Mapping[str, AnyProtocol]) -> AnyProtocol | None:
    """The protocol of that name, with so many corrections where the name of one with corrections ends in a number."""
    counted = re.fullmatch(r"(clicks_from_\w+)_([1-9]\d*)", name)
    if counted is None or counted[1] not in known:
        return known.get(name)
    return replace(known[counted[1]], clicks=int(counted[2]))


# ---- storing prompts ------------------------------------------------------------------------------------------------


def with_points(prompt: AnyPrompt, points: Sequence[Sequence[float]], labels: Sequence[int]) -> AnyPrompt:
    """The same prompt, of a slice or a volume, with more points; points of label -1 (padding) are left out."""
    labels = np.asarray(labels, dtype=int)
    real = labels >= 0
    return prompt.with_points(np.asarray(points, dtype=float)[real], labels[real]) if real.any() else prompt


def prompt_to_json(prompt: SlicePrompt | ObjectPrompts) -> dict[str, Any]:
    """Points, point labels and box as plain lists; the mask prompt is the model's own and is not stored."""
    return {
        "points": prompt.points.tolist(),
        "point_labels": prompt.point_labels.tolist(),
        "box": None if prompt.box is None else prompt.box.tolist(),
    }


def prompt_from_json(values: Mapping[str, Any], kind: type[AnyPrompt] = SlicePrompt) -> AnyPrompt:
    """The prompt that `prompt_to_json` wrote, of a slice, or of a volume where `kind` is `ObjectPrompts`."""
    prompt = kind(box=None if values["box"] is None else np.asarray(values["box"]))
    return with_points(prompt, values["points"], values["point_labels"])


# ---- running one ----------------------------------------------------------------------------------------------------


def run_protocol(
    protocol: PromptProtocol,
    predict: Predict,
    truth: np.ndarray,
    *,
    rng: np.random.Generator,
    organ: str = "object",
    spacing: Sequence[float] | None = None,
    tolerance: float | Mapping[str, float] = 2.0,
) -> list[Interaction]:
    """Prompts `predict` as the protocol says and scores each answer.

    Args:
        protocol: decides the prompts.
        predict: answers them on one image.
        truth: (H, W) or (I, J, K) bool, not empty.
        rng: see `object_rng`.
        organ: name for the scores.
        spacing: size of a pixel along the axes of `truth` for NSD and HD95; None is 1.
        tolerance: of NSD, in the unit of the spacing; one for all, or one for each organ.
    """
    prompts = protocol.prompts(truth, rng)
    interactions: list[Interaction] = []
    prompt = next(prompts)
    while prompt is not None:
        if protocol.mask_prompt and interactions:
            prompt = replace(prompt, previous=interactions[-1].answer)
        started = time.perf_counter()
        answer = predict(prompt)
        seconds = time.perf_counter() - started
        score = score_mask(answer.mask, truth, organ=organ, spacing=spacing, tolerance=tolerance)
        interactions.append(Interaction(prompt, answer, score, seconds))
        prompt = _send(prompts, answer.mask)
    return interactions


def score_mask(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    organ: str = "object",
    spacing: Sequence[float] | None = None,
    tolerance: float | Mapping[str, float] = 2.0,
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
