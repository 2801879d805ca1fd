"""Promptable objectives: how a network is asked about the objects of a batch, and what it is told about its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from bundle.errors import TrainingError
from bundle.networks.interface import MaskPrediction, Prepared, PromptableNetwork
from bundle.prompts.batch import PromptBatch
from bundle.prompts.simulation import (
    LabelledPoints,
    error_point,
    error_points,
    interior_point,
    jitter_box,
    paired_error_points,
    random_point,
    tight_box,
)
from bundle.prompts.simulation_strokes import lasso_prompt, scribble_prompt
from bundle.training.batches import SampleBatch
from bundle.training.interface import Objective
from bundle.training.losses import LossTerms, PromptLoss
from bundle.training.simulated_user import Correct, SimulatedUser, with_points

STARTS = ("random", "alternate")


class IterativeObjective:
    """Learn from corrections: box or point first, then clicks on the error and the previous mask.

    Every round is scored, the mean of all is one loss, and each next round is prompted where the last answer was wrong,
    as a user would do. The network answers with the masks that it answers in use (``PromptableSam.decode``): of SAM the
    candidates when the prompt is one point (it is ambiguous), and the best of them learns. One round is
    training with single prompts: MedSAM's jittered box with ``box_probability`` 1, box or point with 0.5.

    Args:
        loss: of one round.
        steps: number of rounds that are scored (micro-sam and MedicoSAM use 8).
        correction_probability: share of batches that go on after the first round.
        between: before each round but the first, up to so many more corrections are asked for without being scored:
            many clicks at the price of few gradients.
        start: "random" by ``box_probability``, or "alternate": a point in even steps, a box in odd ones (micro-sam).
        box_probability: share of batches that start from a box rather than a point.
        window_box_probability: the same for the images of a batch that show the window around an object; those and the
            whole slices are then asked apart, each as they are in use. None asks all alike.
        corrections: "error" clicks once in the error (its centre, or any pixel of it); "pair" clicks on what was missed
            and on what was invented (micro-sam).
        mask_probability: share of batches whose corrections see the previous mask (0.5 in micro-sam).
        any_candidate: share of batches whose ambiguous start is corrected from any of its candidates instead of the
            best: larger mistakes than the network makes of what it knows, such as it makes of what it does not.
        box_jitter: sides of the box move outward by up to so many pixels of the model square, ...
        wide_jitter: ... or up to so many in a fifth of the objects: a hand is mostly careful, and sometimes not, ...
        box_share: ... and by up to this share of the box's own side in addition (0.025 in micro-sam).
        wide_share: the same for the boxes of wide reach: a hand that draws around a small organ may double its box.
        tight_share: share of objects whose box stays tight. With boxes that only ever lie outside of the object, a
            small network learns to shrink every box by the mean distance instead of looking for the edge.
        scribble_probability, lasso_probability: shares of batches that start from a scribble along the object, or from
            a lasso around it, instead.
        seed: with step and draw numbers it decides all prompts.

    Raises:
        TrainingError: if ``start`` or ``corrections`` is unknown.
    """

    def __init__(
        self,
        loss: PromptLoss,
        *,
        steps: int = 3,
        correction_probability: float = 1.0,
        between: int = 0,
        start: str = "random",
        box_probability: float = 0.5,
        window_box_probability: float | None = None,
        corrections: str = "error",
        mask_probability: float = 0.5,
        any_candidate: float = 0.0,
        box_jitter: float = 5.0,
        wide_jitter: float = 20.0,
        box_share: float = 0.0,
        wide_share: float | None = None,
        tight_share: float = 0.0,
        scribble_probability: float = 0.0,
        lasso_probability: float = 0.0,
        seed: int = 0,
    ) -> None:
        if start not in STARTS:
            raise TrainingError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
        if corrections not in _CORRECTIONS:
            raise TrainingError(f"corrections must be one of {', '.join(_CORRECTIONS)}, got {corrections!r}")
        self.loss, self.steps, self.between, self.seed = loss, steps, between, seed
        self.correction_probability = correction_probability
        self.start, self.correct = start, _CORRECTIONS[corrections]
        self.box_probability, self.mask_probability = box_probability, mask_probability
        self.window_box_probability, self.any_candidate = window_box_probability, any_candidate
        self.box_jitter, self.wide_jitter, self.box_share = box_jitter, wide_jitter, box_share
        self.wide_share = box_share if wide_share is None else wide_share
        self.tight_share = tight_share
        self.scribble_probability, self.lasso_probability = scribble_probability, lasso_probability

    def __call__(self, network: PromptableNetwork, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield the mean loss of all rounds."""
        if self.window_box_probability is None:
            yield self._rounds(network, batch, self.box_probability)
            return
        parts = batch.by_view()
        shares = [self.window_box_probability if part.windows[0] else self.box_probability for part in parts]
        terms = [self._rounds(network, part, share) for part, share in zip(parts, shares, strict=True)]
        yield LossTerms.mean(terms, [len(part.masks) for part in parts])

    def _rounds(self, network: PromptableNetwork, batch: SampleBatch, box_probability: float) -> LossTerms:
        user = SimulatedUser(batch, self.seed)
        drawn = self._drawn(user, network)
        prompts = self._first_prompts(user, batch.step, box_probability) if drawn is None else drawn
        with_mask = user.choices.random() < self.mask_probability
        rounds = self.steps if user.choices.random() < self.correction_probability else 1
        prepared = network.prepare(batch.images)
        terms = []
        for step in range(rounds):
            prediction = network.predict(prepared, prompts)
            terms.append(self.score(prediction, prompts, batch))
            if step + 1 < rounds:
                prompts = self._corrected(user, prompts, self._candidate(user, prediction), with_mask)
                prompts = self._corrected_unscored(user, prompts, network, prepared, with_mask)
        return LossTerms.mean(terms)

    def score(self, prediction: MaskPrediction, prompts: PromptBatch, batch: SampleBatch) -> LossTerms:
        """The loss of a round.

        Args:
            prediction: of N objects.
            prompts: that it answers.
            batch: with the N objects' masks.
        """
        return self.loss(prediction, batch.masks)

    def _candidate(self, user: SimulatedUser, prediction: MaskPrediction) -> MaskPrediction:
        """What the user corrects: the prediction, or one of its candidates alone."""
        if not self.any_candidate or user.choices.random() >= self.any_candidate:
            return prediction
        chosen = [int(user.choices.integers(prediction.logits.shape[1]))]
        return MaskPrediction(prediction.logits[:, chosen], prediction.iou[:, chosen])

    def _corrected(
        self, user: SimulatedUser, prompts: PromptBatch, prediction: MaskPrediction, with_mask: bool
    ) -> PromptBatch:
        mask = prediction.best()[0].detach().float() if with_mask else None
        return with_points(prompts, *user.corrections(prediction, self.correct), mask)

    @torch.no_grad()
    def _corrected_unscored(
        self, user: SimulatedUser, prompts: PromptBatch, network: PromptableNetwork, prepared: Prepared, with_mask: bool
    ) -> PromptBatch:
        for _ in range(user.choices.integers(self.between + 1) if self.between else 0):
            prediction = network.predict(prepared, prompts)
            prompts = self._corrected(user, prompts, prediction, with_mask)
        return prompts

    def _drawn(self, user: SimulatedUser, network: PromptableNetwork) -> PromptBatch | None:
        """A scribble or lasso to start from; None, and nothing drawn, where none is asked for."""
        if not self.scribble_probability + self.lasso_probability:
            return None
        which = user.choices.random()
        if which < self.scribble_probability:
            return user.drawn(scribble_prompt, network.spec)
        if which < self.scribble_probability + self.lasso_probability:
            return user.drawn(lasso_prompt, network.spec)
        return None

    def _first_prompts(self, user: SimulatedUser, step: int, box_probability: float) -> PromptBatch:
        box = step % 2 == 1 if self.start == "alternate" else user.choices.random() < box_probability
        if box:
            return user.boxes(self._box)
        return user.points(interior_point if user.choices.random() < 0.5 else random_point)

    def _box(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        box = tight_box(mask)
        if self.tight_share and rng.random() < self.tight_share:
            return box
        wide = rng.random() < 0.2
        reach, share = (self.wide_jitter, self.wide_share) if wide else (self.box_jitter, self.box_share)
        return jitter_box(box, rng, max_pixels=reach + share * (box[2:] - box[:2]), shape=mask.shape)


class SamMed2dObjective:
    """SAM-Med2D's nine losses of a batch, each with its own step of the optimiser (Cheng et al. 2023, train.py).

    The first trains all trainable parts from a box or a point. The others train the mask decoder alone on the same
    embedding: their prompts are 1, 3, 5 or 9 new clicks on the error beside the previous mask, in two of them the
    previous mask alone. Their network answers every prompt with three candidates, of which the one of highest predicted
    IoU is trained, and sees a mask after the sigmoid; the family's network does both in use, too.

    Args:
        loss: of one answer.
        iterations: losses after the first.
        clicks: numbers of clicks to draw from.
        box_jitter: boxes are shifted by up to so many pixels, at most by half of their shorter side.
        seed: with step and draw numbers it decides all prompts.
    """

    def __init__(
        self,
        loss: PromptLoss,
        *,
        iterations: int = 8,
        clicks: tuple[int, ...] = (1, 3, 5, 9),
        box_jitter: int = 5,
        seed: int = 0,
    ) -> None:
        self.loss, self.iterations, self.clicks = loss, iterations, tuple(clicks)
        self.box_jitter, self.seed = box_jitter, seed

    def __call__(self, network: PromptableNetwork, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield ``1 + iterations`` losses."""
        user = SimulatedUser(batch, self.seed)
        start = user.boxes(self._box) if user.choices.random() < 0.5 else user.points(random_point)
        prepared = network.prepare(batch.images)
        prediction = self._best(network.predict(prepared, start))
        yield self.loss(prediction, batch.masks)
        prepared = prepared.map(Tensor.detach)
        alone = {int(user.choices.integers(1, max(2, self.iterations - 1))), self.iterations - 1}
        for iteration in range(self.iterations):
            prompts = self._next_prompts(user, prediction, mask_alone=iteration in alone)
            with _frozen(network.prompt_encoder):
                prediction = self._best(network.predict(prepared, prompts))
            yield self.loss(prediction, batch.masks)

    def _next_prompts(self, user: SimulatedUser, prediction: MaskPrediction, *, mask_alone: bool) -> PromptBatch:
        mask = prediction.logits.detach().float()
        prompts = PromptBatch(masks=mask, image_index=user.index)
        count = int(user.choices.choice(self.clicks))
        if mask_alone:
            return prompts
        clicks = user.corrections(prediction, lambda truth, answer, rng: error_points(truth, answer, count, rng))
        return with_points(prompts, *clicks, mask)

    def _box(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The box of the largest component, shifted as a whole."""
        box = tight_box(_largest_component(mask))
        reach = min(self.box_jitter, int(0.5 * min(box[2:] - box[:2] + 1)))
        shift = rng.integers(-reach, reach, 2) if reach else np.zeros(2)
        return (box + np.tile(shift, 2)).astype(np.float32)

    @staticmethod
    def _best(prediction: MaskPrediction) -> MaskPrediction:
        logits, iou = prediction.best()
        return MaskPrediction(logits, iou[:, None])


class JointObjective:
    """A promptable objective, then an automatic one, each with its own optimiser step (micro-sam's joint trainer).

    Args:
        promptable: as IterativeObjective.
        automatic: as ``bundle.training.semantic.Automatic`` with ``decoder``.
    """

    def __init__(self, promptable: Objective, automatic: Objective) -> None:
        self.promptable, self.automatic = promptable, automatic

    def __call__(self, network: PromptableNetwork, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield the losses of both."""
        yield from self.promptable(network, batch)
        yield from self.automatic(network, batch)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradient reaches the parameters of ``module`` from what is computed within."""
    training = [p for p in module.parameters() if p.requires_grad]
    for parameter in training:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in training:
            parameter.requires_grad_(True)


def _click(truth: np.ndarray, answer: np.ndarray, rng: np.random.Generator) -> LabelledPoints:
    """A click on the error, its centre or any pixel of it; on the object where there is no error."""
    click = error_point(truth, answer, rng if rng.random() < 0.5 else None)
    x, y, label = (*interior_point(truth, rng), 1) if click is None else click
    return LabelledPoints(np.array([[x, y]], np.float32), np.array([label]))


def _largest_component(mask: np.ndarray) -> np.ndarray:
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return components == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


_CORRECTIONS: dict[str, Correct] = {"error": _click, "pair": paired_error_points}
