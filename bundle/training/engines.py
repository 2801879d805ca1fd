"""The ignite engines: MONAI's supervised trainer and evaluator, asking a promptable network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Average, Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from bundle import _moved
from bundle.data.labelled_slice import LabelledSlice
from bundle.engines.choice import computes_in_bfloat16
from bundle.errors import NonFiniteLossError, TrainingError
from bundle.prompts.batch import PromptBatch
from bundle.prompts.label_boxes import SliceBoxd
from bundle.training.distributed import average_gradients, average_numbers, gather
from bundle.training.embeddings import PreparedOnce, StoredEmbeddings
from bundle.training.interface import Batch, Objective
from bundle.training.losses import LossTerms
from bundle.training.slice_dictionary import Preprocessing, as_dictionary
from bundle.training.start import train_mode
from bundle.transforms.contract import Contract
from bundle.transforms.network_input import NetworkInputd

logger = logging.getLogger(__name__)


class PromptTrainer(SupervisedTrainer):
    """Train a network with an objective; each loss that the objective yields is one step of the optimiser.

    Pieces of a batch and processes weigh as many objects or images as they have, whichever the loss is a mean over, so
    that neither changes the loss of prompts, of reconstruction, or of classes that were all looked for in each image.
    The Dice of images that lack the labels of different numbers of classes is the mean within each piece.

    Args:
        objective: maps (network, batch) to LossTerms.
        gradient_clip: largest norm of the gradient.
        amp: autocast of the network to "bf16" (or True) or, on CUDA only, "fp16"; losses stay in float32.
        scaler: of fp16 gradients, from ``gradient_scaler``; give the same one to RunState.
        accumulation: a batch is computed in so many pieces, to save memory; their gradients are summed.
        skip_limit: consecutive steps with a loss or gradient that is not finite, each skipped, before training stops.
            The number of all of them is ``skipped`` in the state's metrics.
        arguments: as MONAI's SupervisedTrainer.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        gradient_clip: float = 1.0,
        amp: bool | str = False,
        scaler: torch.amp.GradScaler | None = None,
        accumulation: int = 1,
        skip_limit: int = 20,
        **arguments: Any,
    ) -> None:
        loss = Average(output_transform=itemgetter("loss"))
        # MONAI's own AMP switch knows float16 only.
        super().__init__(
            loss_function=objective, amp=False, decollate=False, additional_metrics={"loss": loss}, **arguments
        )
        device = torch.device(self.state.device)
        self.objective, self.gradient_clip, self.accumulation = objective, gradient_clip, accumulation
        self.autocast_dtype = autocast_dtype(amp, device)
        self.gradient_scaler = scaler or gradient_scaler(amp, device)
        self.skip_limit, self.skipped_in_a_row = skip_limit, 0
        self.state.metrics["skipped"] = 0  # among the metrics, so that curve, logs and bar show it

    def _iteration(self, engine: Engine, batch: Batch) -> dict[str, float]:
        batch.step = self.state.iteration
        torch.manual_seed(int(batch.draws[0]))  # a resumed run drops out the same
        batch = batch.to(self.state.device)
        train_mode(self.network)
        pieces = batch.split(self.accumulation)
        shares = self._shares(pieces)
        losses = [iter(self.objective(self.network, piece)) for piece in pieces]
        reports = []
        while (report := self._step(losses, shares)) is not None:
            reports.append(report)
        names = ("loss", "mask_loss", "iou_loss")
        return {
            name: sum(values) / len(reports) for name, values in zip(names, zip(*reports, strict=True), strict=True)
        }

    def _shares(self, pieces: Sequence[Batch]) -> list[dict[str, float]]:
        """Per piece its share of the objects and of the images of a step; averaged over processes they sum up to 1."""
        counts = [{"objects": len(piece.masks), "images": len(piece.draws)} for piece in pieces]
        totals = [float(sum(count[name] for count in counts)) for name in counts[0]]
        means = dict(zip(counts[0], average_numbers(totals, torch.device(self.state.device)), strict=True))
        return [{name: count[name] / max(1.0, means[name]) for name in count} for count in counts]

    def _step(self, losses: Sequence[Iterator[LossTerms]], shares: Sequence[dict[str, float]]) -> list[float] | None:
        """One step of the optimiser on the next loss of every piece; None when there are no more."""
        self.optimizer.zero_grad(set_to_none=True)
        report = [0.0, 0.0, 0.0]
        for piece, share_per in zip(losses, shares, strict=True):
            terms = self._next_loss(piece)
            if terms is None:
                return None
            share = share_per[terms.per]
            self.gradient_scaler.scale(terms.total * share).backward()
            for i, value in enumerate((terms.total, terms.mask, terms.iou)):
                report[i] += share * value.item()
        average_gradients(self.network.parameters())
        self.gradient_scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self._update(bool(torch.isfinite(norm)))
        return report

    def _next_loss(self, piece: Iterator[LossTerms]) -> LossTerms | None:
        device = torch.device(self.state.device)
        with torch.autocast(device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            return next(piece, None)

    def _update(self, finite: bool) -> None:
        # A loss that is not finite has a gradient that is not finite, on every process after averaging.
        if finite:
            self.gradient_scaler.step(self.optimizer)
            self.skipped_in_a_row = 0
        self.gradient_scaler.update()
        if finite:
            return
        self.state.metrics["skipped"] += 1
        self.skipped_in_a_row += 1
        logger.warning("step %d skipped: the loss or its gradient is not finite", self.state.iteration)
        if self.skipped_in_a_row >= self.skip_limit:
            raise NonFiniteLossError(f"{self.skip_limit} steps in a row were not finite; lower the learning rate")


def autocast_dtype(amp: bool | str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision: None without, bfloat16 for True or "bf16", float16 for "fp16".

    Raises:
        TrainingError: on another word, or on float16 without CUDA.
    """
    types = {False: None, True: torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp not in types:
        raise TrainingError(f"amp must be true, false, bf16 or fp16, got {amp!r}")
    if amp == "fp16" and device.type != "cuda":
        raise TrainingError(f"fp16 needs a CUDA device, got {device.type}; take bf16")
    return types[amp]


def fast_amp(device: torch.device) -> str | bool:
    """The mixed precision that is faster on a device: "bf16" on CUDA and where a CPU has instructions for it."""
    return "bf16" if device.type == "cuda" or computes_in_bfloat16(device) else False


def gradient_scaler(amp: bool | str, device: torch.device) -> torch.amp.GradScaler:
    """A gradient scaler, which does nothing unless ``amp`` is fp16."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


class ValidationBoxes(Dataset):
    """Every object of every slice of a pool, once, each with a fixed box: the validation set.

    Args:
        pool: slices.
        contract: turns a slice into the network input.
        names: per label value, the name of the organ.
        preprocessing: MONAI transform that adds a ``box`` to the dictionary of a slice (``as_dictionary``, with the
            object's mask as ``label`` and its number as ``draw``) and makes the network's input of both; by default
            ``boxes_of_contract``.

    Raises:
        TrainingError: there is no object: without a score no checkpoint would be chosen.
    """

    def __init__(
        self,
        pool: Sequence[LabelledSlice],
        contract: Contract,
        *,
        names: dict[int, str],
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.objects = [(labelled, i) for labelled in pool for i in labelled.ids if i in names]
        if not self.objects:
            raise TrainingError(
                f"validation has {len(pool)} slices without any object of {', '.join(names.values()) or 'no organ'}; "
                "give it labelled patients, by another split or another data list"
            )
        self.names, self.preprocessing = names, preprocessing or boxes_of_contract(contract)

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (3, S, S), ``mask`` (S, S) bool, ``box`` (4,) in the model square, ``organ`` and ``patient``.

        A family that zooms is shown the window around the box, as in use.
        """
        labelled, organ = self.objects[index]
        data = as_dictionary(labelled)
        data = self.preprocessing({**data, "label": data["label"] == organ, "draw": index})
        return {
            "image": torch.as_tensor(data["image"]),
            "mask": torch.as_tensor(data["label"])[0],
            "box": torch.as_tensor(data["box"], dtype=torch.float32),
            "organ": self.names[organ],
            "patient": labelled.patient,
        }


def boxes_of_contract(contract: Contract) -> Compose:
    """Boxes whose sides lie up to 5 pixels of the model square outward of the object, and the input that they show."""
    box = SliceBoxd("label", jitter=5.0, pixels_of=contract.size)
    return Compose([box, NetworkInputd("image", contract, label_keys="label")])


class PromptEvaluator(SupervisedEvaluator):
    """Predict from the boxes of :class:`ValidationBoxes`; output per object: organ, patient, DSC, predicted IoU.

    Args:
        embeddings: of a frozen encoder; None runs the encoder.
        arguments: as MONAI's SupervisedEvaluator.
    """

    def __init__(self, *, embeddings: StoredEmbeddings | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.asked = self.network if embeddings is None else PreparedOnce(self.network, embeddings)

    def _iteration(self, engine: Engine, batch: dict[str, Any]) -> list[dict[str, Any]]:
        device = self.state.device
        self.network.eval()
        with torch.inference_mode():
            images, masks = batch["image"].to(device), batch["mask"].to(device)
            prompts = PromptBatch(boxes=batch["box"].to(device), image_index=torch.arange(len(images), device=device))
            prediction = self.asked.predict(self.asked.prepare(images), prompts)
            logits, iou = prediction.best()
            predicted = interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
            dice = _dice(predicted, masks)
        rows = zip(batch["organ"], batch["patient"], dice.tolist(), iou.tolist(), strict=True)
        return [{"organ": o, "patient": p, "dice": d, "iou": i} for o, p, d, i in rows]


class MacroDice(Metric):
    """Mean DSC of all processes' objects: over those of a patient, then over an organ's patients, then over organs.

    So one long scan does not outweigh many short ones, as in training. 0 without any object; the organs' means stay in
    ``per_organ``.
    """

    def reset(self) -> None:
        self.rows: list[tuple[str, str, float]] = []
        self.per_organ: dict[str, float] = {}

    def update(self, output: list[dict[str, Any]]) -> None:
        self.rows += [(row["organ"], row["patient"], row["dice"]) for row in output]

    def completed(self, engine: Engine, name: str) -> None:
        super().completed(engine, name)
        for old in [metric for metric in engine.state.metrics if metric.startswith(f"{name}_")]:
            del engine.state.metrics[old]  # of an organ that only an earlier epoch claimed
        engine.state.metrics.update({f"{name}_{organ}": value for organ, value in self.per_organ.items()})

    def compute(self) -> float:
        organs: dict[str, dict[str, list[float]]] = {}
        for organ, patient, value in gather(self.rows):
            organs.setdefault(organ, {}).setdefault(patient, []).append(value)
        self.per_organ = {
            organ: float(np.mean([np.mean(values) for values in patients.values()]))
            for organ, patients in sorted(organs.items())
        }
        return float(np.mean(list(self.per_organ.values()))) if organs else 0.0


def _dice(predicted: Tensor, truth: Tensor) -> Tensor:
    overlap = 2 * (predicted & truth).flatten(1).sum(1)
    return overlap / (predicted.flatten(1).sum(1) + truth.flatten(1).sum(1)).clamp(min=1)


__getattr__ = _moved.renamed(__name__)  # former names
