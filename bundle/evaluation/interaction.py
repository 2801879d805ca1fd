"""Playing a protocol against a model: a prompt, its answer and its score, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.evaluation.metrics import OrganScore, evaluate_label_map
from bundle.evaluation.protocols import PromptProtocol, Prompts
from bundle.evaluation.stored_prompts import Prompt
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.slice_model import SliceMask


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model answers, with a prompt or without.

    Attributes:
        mask: (H, W) or (I, J, K) bool.
        iou: the model's own estimate of the mask's IoU, None where it gives none.
        encoded: how many times the encoder had to run for it.
        encode_seconds: what that took.
        slice_mask: what a slice model wants to see again with the next prompt, None of other models.
    """

    mask: np.ndarray
    iou: float | None = None
    encoded: int = 0
    encode_seconds: float = 0.0
    slice_mask: SliceMask | None = None

    @classmethod
    def of_slice(cls, answer: SliceMask) -> Prediction:
        """The answer of a slice model."""
        return cls(answer.mask, answer.iou, answer.encoded, answer.encode_seconds, answer)

    @classmethod
    def of_volume(cls, answer: Segmentation) -> Prediction:
        """The answer of a session; its IoU is the mean of the slices' estimates, weighted by the voxels of each."""
        others = tuple(other for other in range(answer.mask.ndim) if other != answer.axis)
        areas = np.count_nonzero(answer.mask, axis=others)[list(answer.scores)]
        estimates = np.array(list(answer.scores.values()))
        iou = np.average(estimates, weights=areas) if areas.any() else estimates.mean()
        return cls(answer.mask, float(iou), answer.encoded, answer.seconds["encode"])


Predict = Callable[[Prompt, Prediction | None], Prediction]
"""Answers a prompt on the image that is open, going on from a former answer; None starts an object anew."""


@dataclass(frozen=True, eq=False)
class Interaction:
    """One prompt, its answer, its score and the seconds that the answer took.

    `seconds` are those without the encoder; `encode_seconds` those of one run of it, None where it did not run.
    """

    prompt: Prompt
    answer: Prediction
    score: OrganScore
    seconds: float
    encode_seconds: float | None = None


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
        rng: see `protocols.object_rng`.
        organ: name for the scores.
        spacing: size of a pixel along the axes of `truth` for NSD and HD95; None is 1.
        tolerance: of NSD, in the unit of the spacing; one for all, or one for each organ.
    """
    prompts = protocol.prompts(truth, rng)
    interactions: list[Interaction] = []
    prompt = next(prompts)
    while prompt is not None:
        previous = interactions[-1].answer if interactions and protocol.mask_prompt else None
        started = time.perf_counter()
        answer = predict(prompt, previous)
        seconds = time.perf_counter() - started
        score = score_mask(answer.mask, truth, organ=organ, spacing=spacing, tolerance=tolerance)
        interactions.append(_timed(prompt, answer, score, seconds))
        prompt = _next(prompts, answer.mask)
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


def _timed(prompt: Prompt, answer: Prediction, score: OrganScore, seconds: float) -> Interaction:
    if not answer.encoded:
        return Interaction(prompt, answer, score, seconds)
    encode_seconds = answer.encode_seconds / answer.encoded
    return Interaction(prompt, answer, score, seconds - answer.encode_seconds, encode_seconds)


def _next(prompts: Prompts, mask: np.ndarray) -> Prompt | None:
    try:
        return prompts.send(mask)
    except StopIteration:
        return None
