"""Automatic segmentation: every class of an image at once, without prompts, of slices and of stacks of slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bundle.training.batches import SampleBatch
from bundle.training.losses import LossTerms, SemanticLoss, merge_unannotated


class Automatic:
    """Learn the classes of every pixel: finetune-SAM's multi-class decoder, MedicoSAM's convolutional decoders.

    Args:
        loss: of the class logits.
        values: label values; their classes are 1, 2, ... in this order, everything else is background (0).
        decoder: ask ``automatic_decoder`` of a promptable network that has one, instead of the network itself.
    """

    def __init__(self, loss: SemanticLoss, *, values: Sequence[int], decoder: bool = False) -> None:
        self.loss, self.values, self.decoder = loss, tuple(values), decoder

    def __call__(self, network: nn.Module, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield one loss."""
        logits = decoder_logits(network, batch.images) if self.decoder else network(batch.images)
        yield self.loss(logits, classes_of(batch.labels, self.values), annotated_classes(batch, self.values))


class AutomaticEvaluator(SupervisedEvaluator):
    """Segment every image; output per image and organ in it: organ, patient, DSC.

    An organ counts in an image where it is, and where it was looked for and the network claims it.

    Args:
        names: per label value, the name of the organ; classes are in this order.
        arguments: as MONAI's SupervisedEvaluator.
    """

    def __init__(self, *, names: Mapping[int, str], **arguments: Any) -> None:
        super().__init__(decollate=False, **arguments)
        self.names = dict(names)

    def _iteration(self, engine: Engine, batch: SampleBatch) -> list[dict[str, Any]]:
        batch = batch.to(self.state.device)
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(batch.images)
            known = annotated_classes(batch, tuple(self.names))
            predicted = merge_unannotated(logits.float(), known).argmax(dim=1)
        truth = classes_of(batch.labels, tuple(self.names))
        return [
            {"organ": organ, "patient": batch.patients[i], "dice": _dice(predicted[i] == c, truth[i] == c)}
            for i in range(len(truth))
            for c, organ in enumerate(self.names.values(), start=1)
            if (truth[i] == c).any() or (known[i, c] and (predicted[i] == c).any())
        ]


def classes_of(labels: Tensor, values: Sequence[int]) -> Tensor:
    """Label values (B, ...) to classes (B, ...) long; values that are not listed are background."""
    classes = torch.zeros_like(labels, dtype=torch.long)
    for number, value in enumerate(values, start=1):
        classes[labels == value] = number
    return classes


def annotated_classes(batch: SampleBatch, values: Sequence[int]) -> Tensor:
    """(B, 1 + len(values)) bool: the classes that were looked for in each image, background among them."""
    rows = [[True, *(known is None or value in known for value in values)] for known in batch.annotated]
    return torch.tensor(rows, device=batch.images.device)


def decoder_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Class logits (B, C, S, S) of the automatic decoder of a promptable network."""
    logits = network.automatic_decoder(network.image_encoder(images))
    return interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _dice(predicted: Tensor, truth: Tensor) -> float:
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()).clamp(min=1))
