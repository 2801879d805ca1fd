"""Losses of promptable and automatic networks."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss

from bundle.networks.interface import MaskPrediction
from bundle.training.losses import PromptLoss, SemanticLoss, merge_unannotated, true_iou

TRUTH = torch.zeros(1, 16, 16, dtype=torch.bool)
TRUTH[:, 4:12, 4:12] = True


def logits_of(mask: torch.Tensor, certainty: float = 20.0) -> torch.Tensor:
    return torch.where(mask, certainty, -certainty)


def prediction(*masks: torch.Tensor, iou: float = 1.0) -> MaskPrediction:
    return MaskPrediction(torch.stack([logits_of(m) for m in masks], dim=1), torch.full((1, len(masks)), iou))


def test_a_perfect_answer_costs_nothing():
    terms = PromptLoss(focal=20.0)(prediction(TRUTH), TRUTH)
    assert terms.total.item() == pytest.approx(0, abs=1e-4)


def test_only_the_best_candidate_is_trained():
    both = prediction(TRUTH, ~TRUTH)
    both.logits.requires_grad_(True)
    terms = PromptLoss(iou=0)(both, TRUTH)
    terms.total.backward()
    assert terms.mask.item() == pytest.approx(0, abs=1e-4) and both.logits.grad[0, 1].abs().max() == 0


def test_every_predicted_iou_is_compared_with_the_true_one():
    terms = PromptLoss()(prediction(TRUTH, ~TRUTH, iou=0.5), TRUTH)
    assert terms.iou.item() == pytest.approx(0.25)


def test_true_iou_of_half_a_mask_is_a_half():
    half = TRUTH.clone()
    half[:, :, 8:] = False
    assert true_iou(logits_of(half)[:, None], TRUTH[:, None].float()).item() == pytest.approx(0.5)


def test_dice_of_a_large_mask_stays_finite_in_half_precision():
    logits = torch.full((1, 1, 512, 512), 8.0, dtype=torch.float16)
    terms = PromptLoss()(MaskPrediction(logits, torch.ones(1, 1)), torch.ones(1, 512, 512, dtype=torch.bool))
    assert terms.total.dtype == torch.float32 and torch.isfinite(terms.total)


def test_smoothing_is_that_of_sam_med2d():
    terms = PromptLoss(cross_entropy=0, iou=0, squared=False, smooth=1.0)(prediction(torch.zeros_like(TRUTH)), TRUTH)
    assert terms.total.item() == pytest.approx(1 - 1 / (64 + 1), abs=1e-4)


TARGET = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
ALL = torch.ones(2, 3, dtype=torch.bool)


def semantic_logits(seed: int = 1) -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_perfect_classes_cost_nothing(activation):
    logits = 40 * torch.nn.functional.one_hot(TARGET, 3).movedim(-1, 1).float() - 20
    assert SemanticLoss(activation=activation)(logits, TARGET, ALL).total.item() == pytest.approx(0, abs=1e-4)


def test_cross_entropy_of_full_annotation_is_torchs_own():
    ours = SemanticLoss(dice=0)(semantic_logits(), TARGET, ALL).total
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(semantic_logits(), TARGET))


def test_an_unannotated_class_counts_as_background():
    known = ALL.clone()
    known[:, 2] = False
    merged = merge_unannotated(semantic_logits(), known).softmax(1)
    plain = semantic_logits().softmax(1)
    torch.testing.assert_close(merged[:, 0], plain[:, 0] + plain[:, 2])
    assert merged[:, 2].max() == 0


def test_what_the_network_says_of_an_unannotated_class_is_not_judged():
    known = torch.tensor([[True, True, False]])
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 2] = 30.0  # it sees the third class everywhere; nobody looked for it
    assert SemanticLoss(dice=0)(logits, torch.zeros(1, 8, 8, dtype=torch.long), known).total.item() < 1e-6


def test_classes_of_a_stack_are_compared_in_three_dimensions():
    logits, target = torch.randn(1, 3, 2, 8, 8), torch.zeros(1, 2, 8, 8, dtype=torch.long)
    assert SemanticLoss()(logits, target, ALL[:1]).total.ndim == 0


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="softmax, sigmoid"):
        SemanticLoss(activation="relu")


def test_the_loss_is_that_of_the_best_candidate_and_of_every_iou():
    torch.manual_seed(0)
    prediction = MaskPrediction(torch.randn(3, 3, 8, 8), torch.rand(3, 3))
    truth = torch.rand(3, 16, 16) > 0.5
    masks, iou_errors = PromptLoss().of_candidates(prediction, truth)
    terms = PromptLoss()(prediction, truth)
    torch.testing.assert_close(terms.mask, masks.amin(dim=1).mean())
    torch.testing.assert_close(terms.total, terms.mask + iou_errors.mean())


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_the_dice_of_candidates_is_monais(squared, smooth):
    generator = torch.Generator().manual_seed(2)
    logits, target = torch.randn(3, 2, 8, 8, generator=generator), torch.rand(3, 2, 8, 8, generator=generator) > 0.6
    theirs = DiceLoss(sigmoid=True, squared_pred=squared, reduction="none", smooth_nr=smooth, smooth_dr=smooth)
    loss = PromptLoss(squared=squared, smooth=smooth)
    torch.testing.assert_close(loss._dice(logits, target.float()), theirs(logits, target.float()).flatten(1))
