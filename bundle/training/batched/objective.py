"""The iterative objective for whole batches: every kind of prompt in one batch, drawn where the masks are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle import _moved
from bundle.errors import TuningError
from bundle.networks.interface import MaskPrediction, PromptableNetwork
from bundle.prompts.batch import PromptBatch
from bundle.prompts.simulation_batched import (
    DEEPEST,
    deepest_points,
    error_clicks,
    lasso_areas,
    move_sides,
    random_points,
    scribbles,
    tight_boxes,
)
from bundle.prompts.slice_prompts import CERTAIN
from bundle.prompts.translation import SCRIBBLE_POINTS
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.samples import ObjectBatch
from bundle.training.losses import LossTerms, PromptLoss
from bundle.training.simulated_user import with_points

_PROMPTS = 1  # random numbers of prompts; those of samples have another number
_LASSO_MARGIN = 0.1  # of the root of the object's area, by which a lasso keeps away from it
_GROWN = 0.05  # by which share of its sides a box grows from slice to slice, see PropagationRule


class BatchedObjective:
    """Learn from boxes, points, answers of neighbouring slices, and corrections, all of them in each batch.

    As ``IterativeObjective``: every scored round counts alike, and the candidates are asked for when the prompt is one
    point. A part of the boxes comes with a mask that fits badly, as the answer of the slice before does in a volume.

    Args:
        loss: of one round.
        correction_share: share of the steps that go on after the first round.
        between: before the scored correction up to so many others are made without being scored.
        mask_share: share of the corrected steps that see the previous mask; always in use.
        any_candidate: share of the objects whose ambiguous answer is corrected from any of its candidates.
        propagated_share: share of the boxes that come with the mask of a neighbour.
        scribble_share: share of the objects asked without a box that are asked with a scribble instead of one point.
        lasso_share: share of the boxes that come from a lasso: what it encloses is the mask, the box lies around it.
        tight_share: share of boxes that stay tight.
        wide_share: share of the others whose sides move by up to half of the box's own side beside what the batch says
            of a careful hand.
        compiled: compile the network's decoder (torch.compile), which pays on a GPU.
        seed: with the draw number it decides all prompts.
    """

    def __init__(
        self,
        loss: PromptLoss,
        *,
        correction_share: float = 0.4,
        between: int = 3,
        mask_share: float = 0.9,
        any_candidate: float = 0.5,
        propagated_share: float = 0.2,
        scribble_share: float = 0.0,
        lasso_share: float = 0.0,
        tight_share: float = 0.3,
        wide_share: float = 0.2,
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        self.loss, self.correction_share, self.between = loss, correction_share, between
        self.mask_share, self.any_candidate, self.propagated_share = mask_share, any_candidate, propagated_share
        self.tight_share, self.wide_share, self.seed = tight_share, wide_share, seed
        self.compiled, self.scribble_share, self.lasso_share = compiled, scribble_share, lasso_share

    def __call__(self, network: PromptableNetwork, batch: ObjectBatch) -> Iterator[LossTerms]:
        """Yield the mean loss of all rounds.

        Raises:
            TuningError: for a network that always answers with its candidates: here its single mask would be trained.
        """
        if network.spec.candidates != "ambiguous":
            raise TuningError(
                "batched training trains SAM's single mask for boxes, which this family's network never answers; "
                "take a recipe without recipes/shipped"
            )
        key = self.seed, int(batch.draws[0]), _PROMPTS
        choices = np.random.default_rng(key)  # what holds for the whole batch
        random = BatchRandom.from_key(batch.images.device, len(batch.masks), *key)
        rounds = 2 if choices.random() < self.correction_share else 1
        with_mask = choices.random() < self.mask_share
        run = _compiled() if self.compiled else None
        prepared = network.prepare(batch.images)
        prompts = self._first_prompts(batch, random)
        # Only one point alone has several meanings; what else is asked the network's single mask answers.
        single = batch.boxed | ((prompts.point_labels >= 0).sum(dim=1) > 1)
        terms = []
        for step in range(rounds):
            prediction = network.predict_all(prepared, prompts, run=run)
            if step:  # nothing is ambiguous any more
                prediction = MaskPrediction(prediction.logits[:, :1], prediction.iou[:, :1])
            terms.append(self._scored(prediction, batch, single))
            if step + 1 < rounds:
                prompts = self._corrected(prompts, prediction, batch, single, random, with_mask)
                single = torch.ones_like(single)
                for _ in range(choices.integers(self.between + 1)):
                    # Keep gradients on although they are unused: toggling them would trigger a recompilation.
                    prediction = network.predict_all(prepared, prompts, run=run)
                    prompts = self._corrected(prompts, prediction, batch, single, random, with_mask)
        yield LossTerms.mean(terms)

    def _scored(self, prediction: MaskPrediction, batch: ObjectBatch, single: Tensor) -> LossTerms:
        """The loss of the single mask, or of the best of the candidates; the mean over usable objects."""
        masks, iou_errors = self.loss.of_candidates(prediction, batch.masks)
        mask, iou = masks[:, 0], iou_errors[:, 0]
        if masks.shape[1] > 1:
            mask = torch.where(single, mask, masks[:, 1:].amin(dim=1))
            iou = torch.where(single, iou, iou_errors[:, 1:].mean(dim=1))
        share = batch.usable / batch.usable.sum().clamp(min=1)
        mask, iou = (mask * share).sum(), (iou * share).sum()
        return LossTerms(mask + self.loss.weights["iou"] * iou, mask.detach(), iou.detach())

    # --- first prompts -----------------------------------------------------------------------------------------------

    def _first_prompts(self, batch: ObjectBatch, random: BatchRandom) -> PromptBatch:
        """A box for those that are asked with one, some with a neighbour's mask; a point for the others."""
        masks = batch.masks
        point = torch.where(
            random.bernoulli(0.5)[:, None],
            deepest_points(masks, random.generator, slack=0.4),
            random_points(masks, random.generator),
        )
        points, labels = point[:, None], torch.where(batch.boxed, -1, 1)[:, None]
        if self.scribble_share:
            points, labels = self._some_scribbles(points, labels, masks, random)
        propagated = batch.boxed & random.bernoulli(self.propagated_share)
        before = _neighbours_answer(masks, random)
        boxes = self._boxes(tight_boxes(masks), batch.box_error, masks.shape[-1], random)
        around = tight_boxes(before > 0)
        around = move_sides(around, (_GROWN * _sides(around)).clamp(min=1.0), masks.shape[-1])
        propagated &= ~around.isnan().any(dim=1)
        boxes = torch.where(propagated[:, None], around, boxes)
        if self.lasso_share:
            lassoed = batch.boxed & ~propagated & batch.usable & random.bernoulli(self.lasso_share)
            area = _enclosed(masks, random)
            boxes = torch.where(lassoed[:, None], tight_boxes(area), boxes)
            before = torch.where(lassoed.view(-1, 1, 1), torch.where(area, CERTAIN, -CERTAIN), before)
            propagated = propagated | lassoed
        return PromptBatch(
            points=points,
            point_labels=labels,
            boxes=torch.where(batch.boxed[:, None], boxes, torch.nan),
            masks=torch.where(propagated.view(-1, 1, 1, 1), before[:, None], torch.nan),
            image_index=torch.arange(len(masks), device=masks.device),
        )

    def _some_scribbles(
        self, points: Tensor, labels: Tensor, masks: Tensor, random: BatchRandom
    ) -> tuple[Tensor, Tensor]:
        """Points (N, 1, 2) and labels (N, 1) with a scribble's points instead for some: (N, P, 2) and (N, P)."""
        line, on_line = scribbles(masks, random.generator, count=SCRIBBLE_POINTS)
        chosen = (labels[:, 0] == 1) & random.bernoulli(self.scribble_share)
        padded = torch.cat([labels, labels.new_full((len(labels), SCRIBBLE_POINTS - 1), -1)], dim=1)
        return (
            torch.where(chosen[:, None, None], line, points.expand_as(line)),
            torch.where(chosen[:, None], on_line, padded),
        )

    def _boxes(self, tight: Tensor, box_error: Tensor, size: int, random: BatchRandom) -> Tensor:
        """Boxes as hands draw them: tight, a few pixels outward, carelessly wide, and sometimes a little too small."""
        wide = random.bernoulli(self.wide_share)[:, None] * random.uniform(0, 0.5, 1) * _sides(tight)
        outward = random.uniform(0, 1, 4) * (box_error[:, None] + wide)
        short = random.bernoulli(0.1)[:, None] * random.uniform(0, 0.06, 4) * _sides(tight)
        moved = torch.where(random.bernoulli(self.tight_share)[:, None], 0.0, outward - short)
        return move_sides(tight, moved, size)

    # --- corrections -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _corrected(
        self,
        prompts: PromptBatch,
        prediction: MaskPrediction,
        batch: ObjectBatch,
        single: Tensor,
        random: BatchRandom,
        with_mask: bool,
    ) -> PromptBatch:
        """A click on the error of each answer beside the prompts before, and the answer as a mask."""
        answer = self._answer(prediction, single, random)
        points, labels = error_clicks(batch.masks, answer > 0, random.generator)
        # In use one point is asked again, with the mask that it found and without another click.
        if with_mask:
            labels = torch.where(~single & random.bernoulli(0.4), -1, labels)
        mask = answer[:, None] if with_mask else None
        return with_points(prompts, points[:, None], labels[:, None], mask)

    def _answer(self, prediction: MaskPrediction, single: Tensor, random: BatchRandom) -> Tensor:
        """(N, S, S) float32 logits that the user sees: the single mask, or a candidate, mostly of highest IoU."""
        best = prediction.iou[:, 1:].argmax(dim=1)
        candidates = prediction.iou.shape[1] - 1
        any_of_them = random.uniform(0, candidates).long().clamp(max=candidates - 1)
        chosen = 1 + torch.where(random.bernoulli(self.any_candidate), any_of_them, best)
        chosen = torch.where(single, 0, chosen)
        return prediction.logits.detach().float()[torch.arange(len(chosen), device=chosen.device), chosen]


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    """Compiled once for all networks of one shape, so that a second training does not wait for it."""
    return torch.compile(_predict_masks, dynamic=False)


def _predict_masks(decoder: nn.Module, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    return decoder.predict_masks(**inputs)


def _sides(boxes: Tensor) -> Tensor:
    """(N, 4): width, height, width, height of boxes with inclusive corners."""
    return (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _enclosed(masks: Tensor, random: BatchRandom) -> Tensor:
    """(N, S, S) bool what a lasso encloses, drawn as loosely as ``simulation_strokes.lasso_around`` draws it."""
    scale = masks.flatten(1).sum(dim=1).sqrt()
    loose = _LASSO_MARGIN * (1 + 0.5 * random.field(1, 12, masks.shape[-1])[:, 0])
    return lasso_areas(masks, (scale.view(-1, 1, 1) * loose).clamp(1, DEEPEST))


def _neighbours_answer(masks: Tensor, random: BatchRandom) -> Tensor:
    """(N, S, S) logits of the object as the slice before may have shown it: larger or smaller, moved, and bent.

    It is more often larger, because where an object ends each slice shows less of it.
    """
    count, size = len(masks), masks.shape[-1]
    boxes = tight_boxes(masks).nan_to_num(0.0)
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 + 0.5) / size * 2 - 1
    growth = random.log_uniform(0.8, 1.6, 2)
    shift = random.uniform(-0.05, 0.05, 2)
    place = (torch.arange(size, device=masks.device) + 0.5) / size * 2 - 1
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1).expand(count, -1, -1, -1)
    grid = (grid - middle.view(-1, 1, 1, 2)) / growth.view(-1, 1, 1, 2) + (middle + shift).view(-1, 1, 1, 2)
    grid = grid + 0.02 * random.field(2, 5, size).movedim(1, -1)
    soft = F.grid_sample(masks[:, None].float(), grid, mode="bilinear", align_corners=False)
    soft = F.avg_pool2d(soft, 5, stride=1, padding=2, count_include_pad=False)[:, 0]
    return (2 * soft - 1) * random.uniform(4, 10, 1, 1)


__getattr__ = _moved.renamed(__name__)  # former names
