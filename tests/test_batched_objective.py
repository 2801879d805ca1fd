"""The objective of whole batches asks as users do, and learns from usable objects alone."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from training_room import CONTRACT, SIZE, make_pool

from bundle.families.builders import prompted_unet
from bundle.networks.interface import MaskPrediction, ModelSpec, Prepared
from bundle.prompts.batch import PromptBatch
from bundle.prompts.simulation_batched import tight_boxes
from bundle.prompts.slice_prompts import CERTAIN
from bundle.prompts.translation import SCRIBBLE_POINTS
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.objective import BatchedObjective
from bundle.training.batched.samples import BatchedSamples, ObjectBatch
from bundle.training.batched.slices import choose, gather_slices
from bundle.training.losses import PromptLoss


@pytest.fixture(scope="module")
def batch() -> ObjectBatch:
    tensors = choose(gather_slices({"labelled": make_pool((2, 2))}), {"labelled": 1.0})
    return BatchedSamples(tensors, CONTRACT, batch_size=8)[2]


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1))


def ask(network, batch, **options):
    (terms,) = BatchedObjective(PromptLoss(), **options)(network, batch)
    return terms


def first_prompts(batch, **options):
    random = BatchRandom.from_key("cpu", len(batch.masks), 0)
    return BatchedObjective(PromptLoss(), **options)._first_prompts(batch, random)


@pytest.mark.parametrize("rounds", [0.0, 1.0])
def test_the_loss_reaches_every_weight(network, batch, rounds):
    terms = ask(network, batch, correction_share=rounds)
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.mask_decoder.mask_head.parameters())


def test_the_same_draw_gives_the_same_loss(network, batch):
    first, again = (ask(network, batch, correction_share=1.0).total for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("rounds", [0.0, 1.0])
def test_what_is_not_usable_changes_nothing(network, batch, rounds):
    usable = batch.usable.clone()
    usable[[0, 5]] = False
    masks = batch.masks.clone()
    masks[[0, 5]] = ~masks[[0, 5]]
    one = ask(network, replace(batch, usable=usable), correction_share=rounds).total
    two = ask(network, replace(batch, usable=usable, masks=masks), correction_share=rounds).total
    torch.testing.assert_close(one, two)


def test_a_batch_without_a_usable_object_costs_nothing(network, batch):
    nothing = replace(batch, usable=torch.zeros_like(batch.usable), masks=torch.zeros_like(batch.masks))
    assert ask(network, nothing, correction_share=1.0).total == 0


def test_boxes_and_points_are_given_to_those_that_ask_with_them(batch):
    prompts = first_prompts(batch, propagated_share=0.0, tight_share=1.0)
    assert torch.equal(prompts.boxes[batch.boxed], tight_boxes(batch.masks)[batch.boxed])
    assert prompts.boxes[~batch.boxed].isnan().all() and prompts.masks.isnan().all()
    assert torch.equal(prompts.point_labels[:, 0], torch.where(batch.boxed, -1, 1))
    x, y = prompts.points[:, 0].long().unbind(dim=1)
    assert batch.masks[torch.arange(len(x)), y, x].all()


def test_some_of_those_without_a_box_are_asked_with_a_scribble(network, batch):
    prompts = first_prompts(batch, scribble_share=1.0, propagated_share=0.0)
    assert prompts.points.shape[1] == SCRIBBLE_POINTS and (prompts.point_labels[batch.boxed] == -1).all()
    rows, columns = (prompts.point_labels == 1).nonzero(as_tuple=True)
    x, y = prompts.points[rows, columns].round().long().unbind(dim=1)
    assert batch.masks[rows, y, x].all() and set(rows.tolist()) == set((~batch.boxed).nonzero()[:, 0].tolist())
    terms = ask(network, batch, scribble_share=0.5, correction_share=1.0)
    terms.total.backward()
    assert terms.total.isfinite() and network.mask_decoder.mask_head.weight.grad.any()


def test_some_boxes_come_from_a_lasso_that_encloses_the_object(network, batch):
    prompts = first_prompts(batch, lasso_share=1.0, propagated_share=0.0)
    drawn = ~prompts.masks.isnan().flatten(1).any(dim=1)
    assert torch.equal(drawn, batch.boxed & batch.usable) and drawn.any()
    area, truth = prompts.masks[drawn, 0] > 0, batch.masks[drawn]
    assert set(prompts.masks[drawn].unique().tolist()) == {-CERTAIN, CERTAIN}
    assert (area | ~truth).all() and torch.equal(prompts.boxes[drawn], tight_boxes(area))
    share = area.flatten(1).sum(dim=1) / truth.flatten(1).sum(dim=1)
    assert (share > 1).all() and (share < 2.5).all()
    terms = ask(network, batch, lasso_share=0.5, correction_share=1.0)
    terms.total.backward()
    assert terms.total.isfinite()


def repeated(batch: ObjectBatch, times: int) -> ObjectBatch:
    """The samples of a batch again and again."""
    rows = [f.name for f in fields(batch) if f.name not in ("draws", "step")]
    return replace(batch, **{name: torch.cat([getattr(batch, name)] * times) for name in rows})


def test_no_box_is_much_too_small(batch):
    batch = repeated(batch, 16)  # one box of ten is too small
    boxes = first_prompts(batch, propagated_share=0.0, tight_share=0.0).boxes[batch.boxed]
    tight = tight_boxes(batch.masks)[batch.boxed]
    sides = (tight[:, 2:] - tight[:, :2] + 1).repeat(1, 2)
    inward = torch.cat([boxes[:, :2] - tight[:, :2], tight[:, 2:] - boxes[:, 2:]], dim=1)
    assert (inward <= 0.07 * sides).all()


def test_a_mask_of_a_neighbour_comes_with_the_box_around_it(batch):
    prompts = first_prompts(batch, propagated_share=1.0)
    propagated = ~prompts.masks.isnan().flatten(1).any(dim=1)
    assert torch.equal(propagated, batch.boxed)
    around = tight_boxes(prompts.masks[propagated, 0] > 0)
    boxes = prompts.boxes[propagated]
    assert (boxes[:, :2] <= around[:, :2]).all() and (boxes[:, 2:] >= around[:, 2:]).all()
    overlap = ((prompts.masks[propagated, 0] > 0) & batch.masks[propagated]).flatten(1).any(dim=1)
    assert overlap.all()


def answers(*masks: torch.Tensor) -> MaskPrediction:
    """Certain logits of the single mask and of the candidates after it; every predicted IoU is 1."""
    logits = 40 * torch.stack(masks, dim=1).float() - 20
    return MaskPrediction(logits, torch.ones(logits.shape[:2]))


def test_a_box_is_judged_by_the_single_mask_and_a_point_by_the_best_candidate(batch):
    judge = BatchedObjective(PromptLoss(iou=0.0))._scored
    right, wrong = batch.masks, ~batch.masks
    by_kind = torch.where(batch.boxed[:, None, None], right, wrong)
    assert judge(answers(by_kind, wrong, ~by_kind, wrong), batch, batch.boxed).mask < 1e-3
    assert judge(answers(wrong, wrong, right, wrong), batch, batch.boxed).mask > 1
    assert judge(answers(right, wrong, wrong, wrong), batch, batch.boxed).mask > 1


@pytest.mark.parametrize(("any_candidate", "seen"), [(0.0, {3.0}), (1.0, {2.0, 3.0, 4.0})])
def test_a_point_is_corrected_from_the_best_or_from_any_candidate(any_candidate, seen):
    single = torch.arange(64) < 32
    logits = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(64, -1, -1, -1)
    prediction = MaskPrediction(logits, torch.tensor([[0.9, 0.1, 0.8, 0.2]]).expand(64, -1))
    objective = BatchedObjective(PromptLoss(), any_candidate=any_candidate)
    answer = objective._answer(prediction, single, BatchRandom.from_key("cpu", 64, 0)).flatten()
    assert (answer[single] == 1).all() and set(answer[~single].tolist()) == seen


class Recorder:
    """Answers nothing right, and keeps what it was asked."""

    spec = ModelSpec(input_shape=(3, SIZE, SIZE), mask_size=SIZE)

    def __init__(self) -> None:
        self.asked: list[PromptBatch] = []

    def prepare(self, images: torch.Tensor) -> Prepared:
        return Prepared({"image": images})

    def predict_all(self, prepared, prompts, *, run=None) -> MaskPrediction:
        self.asked.append(prompts)
        return answers(*[torch.zeros(len(prepared), SIZE, SIZE)] * 4)


def ask_recorder(batch, draws: range, **options) -> list[PromptBatch]:
    recorder = Recorder()
    for draw in draws:
        ask(recorder, replace(batch, draws=torch.tensor([draw])), correction_share=1.0, **options)
    return recorder.asked


def test_only_the_first_correction_of_a_point_may_do_without_a_click(batch):
    later = [asked.point_labels for asked in ask_recorder(batch, range(12), mask_share=1.0)]
    first = torch.stack([labels[:, 1] for labels in later if labels.shape[1] > 1])
    assert (first[:, batch.boxed] == 1).all() and 0.1 < (first[:, ~batch.boxed] == -1).float().mean() < 0.7
    assert max(labels.shape[1] for labels in later) > 3
    assert all((labels[:, 2:] == 1).all() for labels in later)


def test_without_the_mask_before_every_correction_is_a_click(batch):
    later = [asked for asked in ask_recorder(batch, range(4), mask_share=0.0) if asked.point_labels.shape[1] > 1]
    assert all(asked.masks is None and (asked.point_labels[:, 1:] == 1).all() for asked in later)
