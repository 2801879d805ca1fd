"""The iterative objective in 3D: a start, then clicks on the errors, of which the last answer is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bundle.networks.interface import MaskPrediction
from bundle.networks.prompted_unet_3d import PromptedUNet3D
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.cube_samples import CubeBatch
from bundle.training.batched.cube_user import corrected, first_maps
from bundle.training.losses import LossTerms, PromptLoss

_PROMPTS = 1  # random numbers of prompts; those of samples have another number


class CubeObjective:
    """Learn from every kind of start, and from corrections.

    Args:
        loss: of the scored answer.
        correction_share: share of the steps that score the answer after corrections; the others that to the start.
        between: corrections at most.
        hollow_box: see ``first_maps``.
        seed: with the draw number it decides all prompts.
        compiled: compile the network (torch.compile), which pays on a GPU.
    """

    def __init__(
        self,
        loss: PromptLoss | None = None,
        *,
        correction_share: float = 0.4,
        between: int = 3,
        hollow_box: float = 0.0,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        self.answers = _compiled() if compiled else _answers
        self.loss = loss or PromptLoss(cross_entropy=2.0, squared=False, smooth=1.0)
        self.correction_share, self.between, self.hollow_box, self.seed = correction_share, between, hollow_box, seed

    def __call__(self, network: PromptedUNet3D, batch: CubeBatch) -> Iterator[LossTerms]:
        """Yield the loss of one answer, the mean over usable objects."""
        key = self.seed, int(batch.draws[0]), _PROMPTS
        choices = np.random.default_rng(key)  # what holds for the whole batch
        random = BatchRandom.from_key(batch.images.device, len(batch.masks), *key)
        rounds = int(choices.integers(1, self.between + 1)) if choices.random() < self.correction_share else 0
        maps = first_maps(batch.masks, random, hollow_box=self.hollow_box)
        for _ in range(rounds):
            # Gradients stay on although they are unused: toggling them would compile a second time.
            logits, _iou = self.answers(network, batch.images, maps)
            maps = corrected(maps, logits.detach().float(), batch.masks, random)
        prediction = MaskPrediction(*self.answers(network, batch.images, maps))
        masks, errors = self.loss.of_candidates(prediction, batch.masks)
        share = batch.usable / batch.usable.sum().clamp(min=1)
        mask, iou = (masks[:, 0] * share).sum(), (errors[:, 0] * share).sum()
        yield LossTerms(mask + self.loss.weights["iou"] * iou, mask.detach(), iou.detach())


def _answers(network: PromptedUNet3D, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, 1, S, S, S) and predicted IoU (B, 1)."""
    prediction = network.predict(network.prepare(images), maps)
    return prediction.logits, prediction.iou


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    """Compiled once for all networks of one shape."""
    return torch.compile(_answers, dynamic=False)
