"""Losses of promptable and of automatic networks. All sums are in float32: half-precision sums of Dice overflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, one_hot

from bundle.errors import TrainingError
from bundle.networks.interface import MaskPrediction

ACTIVATIONS = ("softmax", "sigmoid")


@dataclass
class LossTerms:
    """A loss to minimise and what it is made of, each a scalar tensor.

    ``per`` says what it is a mean over, "objects" or "images" of the batch: so much each part of a batch weighs.
    """

    total: Tensor
    mask: Tensor
    iou: Tensor
    per: str = "objects"

    @classmethod
    def mean(cls, terms: Sequence[LossTerms], weights: Sequence[float] | None = None) -> LossTerms:
        """The mean of several losses, of the same objects or, with ``weights``, of so many each."""
        shares = torch.tensor([1.0] * len(terms) if weights is None else weights)
        shares = (shares / shares.sum()).to(terms[0].total.device)
        columns = (torch.stack([getattr(t, name) for t in terms]) for name in ("total", "mask", "iou"))
        return cls(*((column * shares).sum() for column in columns))

    @classmethod
    def plain(cls, total: Tensor) -> LossTerms:
        """A loss of images, without an estimate of quality."""
        return cls(total, total.detach(), total.new_zeros(()), per="images")


class PromptLoss(nn.Module):
    """Dice + cross-entropy + focal of the best mask, and squared error of every predicted IoU.

    Of several candidate masks only the one of lowest loss is trained, as SAM does, so that the candidates may stand for
    different readings of an ambiguous prompt.

    Args:
        dice: weight of the soft Dice loss.
        cross_entropy: weight of the binary cross-entropy.
        focal: weight of the focal loss, gamma 2, alpha 0.25 (SAM and SAM-Med2D use 20 beside 1 for Dice).
        iou: weight of the squared error of the predicted IoU.
        squared: square the terms of Dice's denominator (MedSAM, micro-sam; SAM-Med2D does not).
        smooth: added to Dice's numerator and denominator (1 in SAM-Med2D).
    """

    def __init__(
        self,
        *,
        dice: float = 1.0,
        cross_entropy: float = 1.0,
        focal: float = 0.0,
        iou: float = 1.0,
        squared: bool = True,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        self.weights = {"dice": dice, "cross_entropy": cross_entropy, "focal": focal, "iou": iou}
        self.squared, self.smooth, self.focal = squared, smooth, None
        if focal:
            from monai.losses import FocalLoss  # not on a machine that only trains the default family

            self.focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")

    def forward(self, prediction: MaskPrediction, truth: Tensor) -> LossTerms:
        """Compare predictions with masks.

        Args:
            prediction: logits (N, M, h, w) and predicted IoU (N, M).
            truth: (N, S, S) bool masks; logits are scaled up to them, so that the outline is learned at full detail.
        """
        per_mask, iou_error = self.of_candidates(prediction, truth)
        mask, iou = per_mask.min(dim=1).values.mean(), iou_error.mean()
        return LossTerms(mask + self.weights["iou"] * iou, mask.detach(), iou.detach())

    def difference(self, prediction: MaskPrediction, other: MaskPrediction) -> LossTerms:
        """How far a prediction is from another of the same prompts, over all masks: least where both are the same.

        With squared terms, Dice of two probability maps p and q is ``sum((p - q)**2) / sum(p**2 + q**2)``.

        Args:
            prediction: logits (N, M, h, w) and predicted IoU (N, M).
            other: the same of another network; no gradient reaches it.
        """
        wanted = other.logits.detach().float().sigmoid()
        mask = self._mask_loss(prediction.logits.float(), wanted).mean()
        iou = ((prediction.iou.float() - other.iou.detach().float()) ** 2).mean()
        return LossTerms(mask + self.weights["iou"] * iou, mask.detach(), iou.detach())

    def of_candidates(self, prediction: MaskPrediction, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of every candidate mask (N, M), and the squared error of its predicted IoU (N, M)."""
        logits = prediction.logits.float()
        if logits.shape[-2:] != truth.shape[-2:]:
            logits = interpolate(logits, truth.shape[-2:], mode="bilinear", align_corners=False)
        target = truth[:, None].float().expand_as(logits)
        return self._mask_loss(logits, target), (prediction.iou.float() - true_iou(logits, target)) ** 2

    def _mask_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, M) loss of every candidate."""
        total = logits.new_zeros(logits.shape[:2])
        if weight := self.weights["dice"]:
            total = total + weight * self._dice(logits, target)
        if weight := self.weights["cross_entropy"]:
            entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
            total = total + weight * entropy.flatten(2).mean(2)
        if weight := self.weights["focal"]:
            total = total + weight * self.focal(logits, target).flatten(2).mean(2)
        return total

    def _dice(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, M) soft Dice loss of every candidate (V-Net, Milletari et al. 2016, with squared terms)."""
        shown = logits.sigmoid()
        both = (shown * target).flatten(2).sum(2)
        power = 2 if self.squared else 1
        either = (shown**power).flatten(2).sum(2) + (target**power).flatten(2).sum(2)
        return 1 - (2 * both + self.smooth) / (either + self.smooth)


class SemanticLoss(nn.Module):
    """Dice + cross-entropy of class logits, where some images lack the labels of some classes.

    What nobody looked for is not background: the probabilities of unannotated classes are added to the background's
    before the comparison (marginal loss, Shi et al. 2021), and their Dice is left out.

    Args:
        dice: weight of the soft Dice loss, squared denominators, mean over the annotated classes without background.
        cross_entropy: weight of the cross-entropy over all classes.
        activation: of the Dice loss: "softmax" (MedicoSAM) or "sigmoid" (finetune-SAM).

    Raises:
        TrainingError: if ``activation`` is unknown.
    """

    def __init__(self, *, dice: float = 1.0, cross_entropy: float = 1.0, activation: str = "softmax") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise TrainingError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.weights, self.activation = {"dice": dice, "cross_entropy": cross_entropy}, activation
        from monai.losses import DiceLoss  # not on a machine that only trains the default family

        self.dice = DiceLoss(squared_pred=True, reduction="none")

    def forward(self, logits: Tensor, target: Tensor, annotated: Tensor) -> LossTerms:
        """Compare class logits with classes.

        Args:
            logits: (B, C, ...) class logits, class 0 is background.
            target: (B, ...) long classes.
            annotated: (B, C) bool, which classes were looked for in each image; background counts always.
        """
        merged = merge_unannotated(logits.float(), annotated)
        log_probabilities = merged.log_softmax(dim=1)
        entropy = -log_probabilities.gather(1, target[:, None]).mean()
        probabilities = merged.sigmoid() if self.activation == "sigmoid" else log_probabilities.exp()
        truth = one_hot(target, logits.shape[1]).movedim(-1, 1).float()
        dice = self.dice(probabilities, truth).flatten(2).mean(2)[:, 1:]
        known = annotated[:, 1:]
        dice = (dice * known).sum() / known.sum().clamp(min=1)
        return LossTerms.plain(self.weights["dice"] * dice + self.weights["cross_entropy"] * entropy)


def merge_unannotated(logits: Tensor, annotated: Tensor) -> Tensor:
    """Move the probability of unannotated classes to the background, in logits (B, C, ...)."""
    shape = (*annotated.shape, *[1] * (logits.ndim - 2))
    known = annotated.clone()
    known[:, 0] = True
    known = known.view(shape)
    background = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(known[:, 1:], -1e4)], dim=1).logsumexp(1, True)
    return torch.cat([background, logits[:, 1:].masked_fill(~known[:, 1:], -1e4)], dim=1)


@torch.no_grad()
def true_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of ``logits > 0`` with a binary target, both (N, M, H, W); (N, M), 0 where the union is empty."""
    predicted, wanted = logits > 0, target > 0.5
    intersection = (predicted & wanted).flatten(2).sum(2)
    union = (predicted | wanted).flatten(2).sum(2)
    return intersection / union.clamp(min=1)
