"""The simulated user of a training batch: first prompts, and corrections of the network's answers.

Which kinds of prompts a batch gets is decided by the number of the step, so that all processes and all pieces of a
batch get the same; where they lie is decided per object by the draw number of its image. So neither the number of
processes nor the accumulation of gradients changes what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bundle.networks.interface import MaskPrediction, ModelSpec
from bundle.prompts.batch import PromptBatch, batch_of
from bundle.prompts.simulation import LabelledPoints
from bundle.prompts.slice_prompts import SlicePrompt
from bundle.prompts.translation import translated
from bundle.training.batches import SampleBatch
from bundle.transforms.placement import Placement

# Given the mask of an object and its generator: a box (4,), or a point (2,).
Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# Given mask, answer and generator: the clicks that correct the answer.
Correct = Callable[[np.ndarray, np.ndarray, np.random.Generator], LabelledPoints]


class SimulatedUser:
    """Prompts the objects of one batch.

    Args:
        batch: its masks are what the user wants.
        seed: of the training.

    Attributes:
        choices: generator of what holds for the whole batch.
    """

    def __init__(self, batch: SampleBatch, seed: int) -> None:
        self.masks = batch.masks.cpu().numpy()
        self.index, self.device = batch.image_index, batch.image_index.device
        self.choices = np.random.default_rng((seed, batch.step))
        self.generators = _object_generators(batch, seed)

    def boxes(self, draw: Draw) -> PromptBatch:
        """One box per object."""
        return PromptBatch(boxes=self._draw(draw), image_index=self.index)

    def points(self, draw: Draw) -> PromptBatch:
        """One point on each object."""
        points = self._draw(draw)[:, None]
        labels = torch.ones(len(points), 1, dtype=torch.long, device=self.device)
        return PromptBatch(points=points, point_labels=labels, image_index=self.index)

    def drawn(self, draw: Callable[[np.ndarray, np.random.Generator], SlicePrompt], spec: ModelSpec) -> PromptBatch:
        """A scribble or lasso of each object, as it is translated for the network in use."""
        height, width = self.masks.shape[-2:]
        kinds = {"understood": spec.prompts, "scribble_points": spec.scribble_points}
        asked = [
            translated(draw(mask, rng), height, width, **kinds)
            for mask, rng in zip(self.masks, self.generators, strict=True)
        ]
        square = Placement.of(height, width, size=height)
        prompts = batch_of(asked, square, mask_size=spec.mask_size, device=self.device)
        return replace(prompts, image_index=self.index)

    def corrections(self, prediction: MaskPrediction, correct: Correct) -> tuple[Tensor, Tensor]:
        """Clicks on the error of the best masks: points (N, P, 2) and labels (N, P)."""
        triples = zip(self.masks, self.answers(prediction), self.generators, strict=True)
        points, labels = zip(*(correct(truth, answer, rng) for truth, answer, rng in triples), strict=True)
        return (
            torch.as_tensor(np.stack(points), dtype=torch.float32, device=self.device),
            torch.as_tensor(np.stack(labels), dtype=torch.long, device=self.device),
        )

    def answers(self, prediction: MaskPrediction) -> np.ndarray:
        """(N, S, S) bool: the mask of highest predicted IoU of each object."""
        logits, _ = prediction.best()
        logits = interpolate(logits.detach().float(), self.masks.shape[-2:], mode="bilinear", align_corners=False)
        return logits[:, 0].cpu().numpy() > 0

    def _draw(self, draw: Draw) -> Tensor:
        drawn = [draw(mask, rng) for mask, rng in zip(self.masks, self.generators, strict=True)]
        return torch.as_tensor(np.stack(drawn), dtype=torch.float32, device=self.device)


def with_points(prompts: PromptBatch, points: Tensor, labels: Tensor, masks: Tensor | None) -> PromptBatch:
    """Prompts with more points, and another mask prompt or none."""
    if prompts.points is not None and prompts.point_labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.point_labels, labels], dim=1)
    return replace(prompts, points=points, point_labels=labels, masks=masks)


def _object_generators(batch: SampleBatch, seed: int) -> list[np.random.Generator]:
    draws: Sequence[int] = batch.draws.tolist()
    generators, seen = [], [0] * len(draws)
    for image in batch.image_index.tolist():
        generators.append(np.random.default_rng((seed, draws[image], seen[image])))
        seen[image] += 1
    return generators
