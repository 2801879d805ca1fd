"""Training objectives: how a network is asked about the objects of a batch, and what it is told about its answers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bundle.networks.promptable_sam import MaskPrediction, PromptBatch
from bundle.training.losses import LossTerms, PromptLoss
from bundle.training.samples import SampleBatch
from bundle.transforms.simulation import error_point, interior_point, jitter_box, random_point, tight_box


class Objective(Protocol):
    """Maps a network and a batch to a loss."""

    def __call__(self, network: nn.Module, batch: SampleBatch) -> LossTerms:
        """Ask, compare, and return the terms of the loss."""
        ...


class IterativeObjective:
    """Learn from corrections: box or point first, then clicks on the error and the previous mask.

    Every step is scored, and each next step is prompted where the last answer was wrong, as a user would do. Step 0
    starts from a jittered box or a point; later steps add one click in the largest error region, and hand the previous
    logits back as a mask prompt. Candidates are asked for when the prompt is one point (it is ambiguous), as in SAM.

    Args:
        loss: of one step.
        steps: number of rounds, 1 is training with single prompts (micro-sam and MedicoSAM use 8, SAM-Med2D 9).
        box_probability: share of batches that start from a box rather than a point.
        mask_probability: share of batches whose corrections see the previous mask (0.5 in micro-sam).
        box_jitter: sides of the box move outward by up to so many pixels of the model square, ...
        wide_jitter: ... or up to so many in a fifth of the objects: a hand is mostly careful, and sometimes not.
        seed: with the draw numbers of a batch it decides all its prompts.
    """

    def __init__(
        self,
        loss: PromptLoss,
        *,
        steps: int = 3,
        box_probability: float = 0.5,
        mask_probability: float = 0.5,
        box_jitter: float = 5.0,
        wide_jitter: float = 20.0,
        seed: int = 0,
    ) -> None:
        self.loss, self.steps, self.seed = loss, steps, seed
        self.box_probability, self.mask_probability = box_probability, mask_probability
        self.box_jitter, self.wide_jitter = box_jitter, wide_jitter

    def __call__(self, network: nn.Module, batch: SampleBatch) -> LossTerms:
        rng = np.random.default_rng((self.seed, *batch.draws.tolist()))
        masks = batch.masks.cpu().numpy()
        prompts = self._first_prompts(masks, rng, batch.image_index)
        with_mask = rng.random() < self.mask_probability
        embeddings = network.encode(batch.images)
        terms = []
        for step in range(self.steps):
            prediction = network.decode(embeddings, prompts, multimask=prompts.ambiguous)
            terms.append(self.loss(prediction, batch.masks))
            if step + 1 < self.steps:
                prompts = self._correct(prompts, prediction, masks, rng, with_mask)
        return LossTerms(*(torch.stack([getattr(t, name) for t in terms]).mean() for name in ("total", "mask", "iou")))

    def _first_prompts(self, masks: np.ndarray, rng: np.random.Generator, index: Tensor) -> PromptBatch:
        device = index.device
        if rng.random() < self.box_probability:
            boxes = torch.tensor(np.stack([self._box(mask, rng) for mask in masks]), dtype=torch.float32)
            return PromptBatch(boxes=boxes.to(device), image_index=index)
        draw = interior_point if rng.random() < 0.5 else random_point
        points = torch.tensor(np.stack([draw(mask, rng) for mask in masks]), dtype=torch.float32)
        labels = torch.ones(len(masks), 1, dtype=torch.long)
        return PromptBatch(points=points[:, None].to(device), point_labels=labels.to(device), image_index=index)

    def _box(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        reach = self.wide_jitter if rng.random() < 0.2 else self.box_jitter
        return jitter_box(tight_box(mask), rng, max_pixels=reach, shape=mask.shape)

    def _correct(
        self, prompts: PromptBatch, prediction: MaskPrediction, masks: np.ndarray, rng: np.random.Generator, mask: bool
    ) -> PromptBatch:
        logits, _ = prediction.best()
        logits = logits.detach().float()
        answers = interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0].cpu().numpy() > 0
        clicks = [_click(truth, answer, rng) for truth, answer in zip(masks, answers, strict=True)]
        points = torch.tensor([[c[:2]] for c in clicks], dtype=torch.float32, device=logits.device)
        labels = torch.tensor([[c[2]] for c in clicks], dtype=torch.long, device=logits.device)
        if prompts.points is not None and prompts.point_labels is not None:
            points = torch.cat([prompts.points, points], dim=1)
            labels = torch.cat([prompts.point_labels, labels], dim=1)
        return PromptBatch(points, labels, prompts.boxes, logits if mask else None, prompts.image_index)


def _click(truth: np.ndarray, answer: np.ndarray, rng: np.random.Generator) -> tuple[float, float, int]:
    """A click on the error, its centre or any pixel of it; on the object where there is no error."""
    click = error_point(truth, answer, rng if rng.random() < 0.5 else None)
    return (*interior_point(truth, rng), 1) if click is None else click
