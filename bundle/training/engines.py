"""The ignite engines: MONAI's supervised trainer and evaluator, asking a promptable network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Average, Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from bundle.data.pool import LabelledSlice
from bundle.networks.promptable_sam import PromptBatch
from bundle.training.objectives import Objective
from bundle.training.samples import SampleBatch
from bundle.transforms.contract import Contract
from bundle.transforms.simulation import jitter_box, tight_box

logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """Too many steps in a row gave a loss that is not a number."""


class PromptTrainer(SupervisedTrainer):
    """Train a promptable network with an objective.

    Args:
        objective: maps (network, SampleBatch) to LossTerms.
        gradient_clip: largest norm of the gradient.
        amp: bfloat16 autocast of the network; losses stay in float32.
        skip_limit: consecutive steps with a loss or gradient that is not finite, each skipped, before training stops.
        arguments: as MONAI's SupervisedTrainer.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        gradient_clip: float = 1.0,
        amp: bool = False,
        skip_limit: int = 20,
        **arguments: Any,
    ) -> None:
        # MONAI's own AMP switch brings a CUDA gradient scaler, which bfloat16 does not need.
        loss = Average(output_transform=itemgetter("loss"))
        super().__init__(
            loss_function=objective, amp=False, decollate=False, additional_metrics={"loss": loss}, **arguments
        )
        self.objective, self.gradient_clip, self.bfloat16 = objective, gradient_clip, amp
        self.skip_limit, self.skipped, self.skipped_in_a_row = skip_limit, 0, 0

    def _iteration(self, engine: Engine, batch: SampleBatch) -> dict[str, float]:
        device = torch.device(self.state.device)
        batch = batch.to(device)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            terms = self.objective(self.network, batch)
        terms.total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self._step(bool(torch.isfinite(norm) and torch.isfinite(terms.total)))
        return {"loss": terms.total.item(), "mask_loss": terms.mask.item(), "iou_loss": terms.iou.item()}

    def _step(self, finite: bool) -> None:
        if finite:
            self.optimizer.step()
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        logger.warning("step %d skipped: the loss or its gradient is not finite", self.state.iteration)
        if self.skipped_in_a_row >= self.skip_limit:
            raise NonFiniteLossError(f"{self.skip_limit} steps in a row were not finite; lower the learning rate")


class ObjectQuestions(Dataset):
    """Every object of every slice of a pool, once, each with a fixed box: the validation set.

    Args:
        pool: slices.
        contract: turns a slice into the network input.
        names: per label value, the name of the organ.
        box_shift: sides of the box move outward by uniform draws of up to so many pixels of the model square.
        seed: draws the boxes; the same seed asks every model the same questions.
    """

    def __init__(
        self,
        pool: Sequence[LabelledSlice],
        contract: Contract,
        *,
        names: dict[int, str],
        box_shift: float = 5.0,
        seed: int = 0,
    ) -> None:
        self.questions = [(labelled, i) for labelled in pool for i in labelled.ids if i in names]
        self.contract, self.names, self.box_shift, self.seed = contract, names, box_shift, seed

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (3, S, S), ``mask`` (S, S) bool, ``box`` (4,) in the model square, ``organ`` and ``patient``."""
        labelled, organ = self.questions[index]
        placement = self.contract.placement(*labelled.labels.shape, labelled.pixel_spacing)
        mask = placement.mask_to_square(labelled.labels) == organ
        rng = np.random.default_rng((self.seed, index))
        box = jitter_box(tight_box(mask), rng, max_pixels=self.box_shift, shape=mask.shape)
        return {
            "image": self.contract.to_input(labelled.picture, labelled.intensity, placement),
            "mask": torch.from_numpy(mask),
            "box": torch.as_tensor(box, dtype=torch.float32),
            "organ": self.names[organ],
            "patient": labelled.patient,
        }


class PromptEvaluator(SupervisedEvaluator):
    """Ask the box questions of :class:`ObjectQuestions`; output per question: organ, patient, DSC, predicted IoU."""

    def _iteration(self, engine: Engine, batch: dict[str, Any]) -> list[dict[str, Any]]:
        device = self.state.device
        self.network.eval()
        with torch.inference_mode():
            images, masks = batch["image"].to(device), batch["mask"].to(device)
            prompts = PromptBatch(boxes=batch["box"].to(device), image_index=torch.arange(len(images), device=device))
            prediction = self.network.decode(self.network.encode(images), prompts, multimask=prompts.ambiguous)
            logits, iou = prediction.best()
            predicted = interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
            dice = _dice(predicted, masks)
        rows = zip(batch["organ"], batch["patient"], dice.tolist(), iou.tolist(), strict=True)
        return [{"organ": o, "patient": p, "dice": d, "iou": i} for o, p, d, i in rows]


class MacroDice(Metric):
    """Mean over organs of the mean DSC of an organ's objects; the organs' means stay in ``per_organ``."""

    def reset(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.per_organ: dict[str, float] = {}

    def update(self, output: list[dict[str, Any]]) -> None:
        for row in output:
            self.values.setdefault(row["organ"], []).append(row["dice"])

    def completed(self, engine: Engine, name: str) -> None:
        super().completed(engine, name)
        engine.state.metrics.update({f"{name}_{organ}": value for organ, value in self.per_organ.items()})

    def compute(self) -> float:
        self.per_organ = {organ: float(np.mean(values)) for organ, values in sorted(self.values.items())}
        return float(np.mean(list(self.per_organ.values())))


def _dice(predicted: Tensor, truth: Tensor) -> Tensor:
    overlap = 2 * (predicted & truth).flatten(1).sum(1)
    return overlap / (predicted.flatten(1).sum(1) + truth.flatten(1).sum(1)).clamp(min=1)
