"""Objectives: what they ask, and which parameters learn from the answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_room import GRID, SIZE, make_batch, make_network
from training_room import one_thread as one_thread

from bundle.families.builders import prompted_unet
from bundle.networks.interface import MaskPrediction, Prepared
from bundle.prompts.batch import PromptBatch
from bundle.prompts.simulation import tight_box
from bundle.training.losses import PromptLoss, SemanticLoss
from bundle.training.masked import MaskedAutoencoding, Reconstruction
from bundle.training.objectives import IterativeObjective, JointObjective, SamMed2dObjective
from bundle.training.semantic import Automatic
from bundle.training.start import with_automatic_decoder

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder(torch.nn.Module):
    """A network that keeps the prompts it is asked, and always answers an empty mask."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_encoder = torch.nn.Linear(1, 1)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.asked: list[PromptBatch] = []
        self.multimask: list[bool] = []

    def prepare(self, images):
        return Prepared({"embedding": images.new_zeros(len(images), 256, GRID, GRID) + self.scale})

    def predict(self, prepared, prompts, *, multimask=None):
        assert multimask is None, "which masks answer is the network's to say, in training as in use"
        self.asked.append(prompts)
        self.multimask.append(prompts.ambiguous)
        n, count = len(prompts), 3 if prompts.ambiguous else 1
        logits = -self.scale * torch.ones(n, count, 4 * GRID, 4 * GRID)
        return MaskPrediction(logits, self.scale * torch.rand(n, count, generator=torch.Generator().manual_seed(n)))


def ask(objective, batch=None) -> SimpleNamespace:
    network = Recorder()
    terms = list(objective(network, make_batch() if batch is None else batch))
    return SimpleNamespace(asked=network.asked, multimask=network.multimask, terms=terms)


def test_a_single_box_lies_around_its_object():
    batch = make_batch()
    asked = ask(
        IterativeObjective(PromptLoss(), steps=1, box_probability=1.0, box_jitter=4, wide_jitter=4), batch
    ).asked
    assert len(asked) == 1
    for box, mask in zip(asked[0].boxes.numpy(), batch.masks.numpy(), strict=True):
        moved = (box - tight_box(mask)) * np.array([-1, -1, 1, 1])
        assert (moved >= 0).all() and (moved <= 4).all()


def test_a_share_of_the_boxes_stays_tight():
    batch = make_batch()
    asked = ask(IterativeObjective(PromptLoss(), steps=1, box_probability=1.0, tight_share=1.0), batch).asked
    assert np.array_equal(asked[0].boxes.numpy(), [tight_box(mask) for mask in batch.masks.numpy()])


def test_a_single_point_lies_in_its_object_and_gets_candidates():
    batch = make_batch()
    out = ask(IterativeObjective(PromptLoss(), steps=1, box_probability=0.0), batch)
    for (x, y), mask in zip(out.asked[0].points[:, 0].long().tolist(), batch.masks, strict=True):
        assert mask[y, x]
    assert out.multimask == [True]


def test_corrections_in_between_are_asked_but_not_scored():
    """Every round's points are those of the one before and one more; the loss is that of two rounds, with gradients."""
    counts = set()
    for step in range(8):
        scored = []

        def loss(prediction, truth, scored=scored):
            scored.append(prediction.logits.requires_grad)
            return PromptLoss()(prediction, truth)

        objective = IterativeObjective(loss, steps=2, between=2, box_probability=1.0)
        asked = ask(objective, make_batch(1, step=step)).asked
        points = [0 if prompts.points is None else prompts.points.shape[1] for prompts in asked]
        assert points == list(range(len(asked))) and scored == [True, True]
        counts.add(len(asked))
    assert counts == {2, 3, 4}


def test_a_share_of_the_batches_is_corrected():
    objective = IterativeObjective(PromptLoss(), steps=2, correction_probability=0.5)
    rounds = [len(ask(objective, make_batch(1, step=step)).asked) for step in range(20)]
    assert set(rounds) == {1, 2} and 4 < rounds.count(2) < 16


def test_windows_are_asked_with_boxes_and_whole_slices_with_points():
    batch = make_batch(4)
    batch.windows = torch.tensor([True, False, False, True])
    objective = IterativeObjective(PromptLoss(), steps=1, box_probability=0.0, window_box_probability=1.0)
    out = ask(objective, batch)
    boxes, points = out.asked
    windows = batch.masks[torch.isin(batch.image_index, torch.tensor([0, 3]))]
    assert boxes.points is None and points.boxes is None
    assert len(boxes) == len(windows) and len(boxes) + len(points) == len(batch.masks)
    for box, mask in zip(boxes.boxes.numpy(), windows.numpy(), strict=True):
        assert (box[:2] <= tight_box(mask)[:2]).all() and (box[2:] >= tight_box(mask)[2:]).all()


def test_views_weigh_as_many_objects_as_they_have():
    batch = make_batch(4)
    batch.windows = torch.tensor([True, False, False, False])
    objective = IterativeObjective(PromptLoss(), steps=1, box_probability=1.0, window_box_probability=1.0)
    parts = batch.by_view()
    alone = [next(objective(Recorder(), part)).total for part in parts]
    counts = [len(part.masks) for part in parts]
    expected = sum(n * loss for n, loss in zip(counts, alone, strict=True)) / sum(counts)
    torch.testing.assert_close(next(objective(Recorder(), batch)).total, expected)


@pytest.mark.parametrize("kind", ["scribble", "lasso"])
def test_a_network_learns_a_step_from_scribbles_and_lassos(kind):
    torch.manual_seed(0)
    network, batch = prompted_unet(image_size=SIZE, widths=(8, 16), depths=(1, 1)), make_batch()
    asked = []
    predict = network.predict
    network.predict = lambda prepared, prompts: asked.append(prompts) or predict(prepared, prompts)
    objective = IterativeObjective(PromptLoss(), steps=2, **{f"{kind}_probability": 1.0})
    (terms,) = objective(network, batch)
    terms.total.backward()
    assert terms.total.isfinite() and network.mask_decoder.mask_head.weight.grad.any()
    first = asked[0]
    if kind == "lasso":
        area = first.masks[:, 0] > 0
        assert (area & batch.masks).sum() > 0.8 * batch.masks.sum() and not first.boxes.isnan().any()
        return
    for points, labels, mask in zip(first.points, first.point_labels, batch.masks, strict=True):
        x, y = points[labels == 1].round().long().unbind(dim=1)
        assert len(x) and mask[y, x].all()


def test_without_scribbles_and_lassos_nothing_else_is_drawn():
    plain, other = (
        ask(IterativeObjective(PromptLoss(), steps=1, **options)).asked[0]
        for options in ({}, {"scribble_probability": 0.0, "lasso_probability": 0.0})
    )
    assert (plain.boxes is None) == (other.boxes is None)
    assert torch.equal(plain.tokens()[0], other.tokens()[0])


def test_box_or_point_is_drawn_by_the_step():
    objective = IterativeObjective(PromptLoss(), steps=1)
    boxes = [ask(objective, make_batch(1, step=step)).asked[0].boxes is not None for step in range(20)]
    assert 3 < sum(boxes) < 17


def test_point_and_box_alternate():
    objective = IterativeObjective(PromptLoss(), steps=1, start="alternate")
    boxes = [ask(objective, make_batch(1, step=step)).asked[0].boxes is not None for step in range(4)]
    assert boxes == [False, True, False, True]


def test_each_round_adds_a_click_where_the_answer_was_wrong():
    batch = make_batch()
    asked = ask(IterativeObjective(PromptLoss(), steps=3, box_probability=1.0), batch).asked
    assert [0 if a.points is None else a.points.shape[1] for a in asked] == [0, 1, 2]
    for (x, y), label, mask in zip(
        asked[1].points[:, 0].long().tolist(), asked[1].point_labels, batch.masks, strict=True
    ):
        assert label.item() == 1 and mask[y, x]  # the answer was empty, so what is missing is clicked


def test_pairs_of_clicks_are_one_positive_and_one_negative():
    asked = ask(IterativeObjective(PromptLoss(), steps=8, corrections="pair", start="alternate")).asked
    assert len(asked) == 8
    assert asked[-1].point_labels[0].tolist() == [1, 0] * 7


def test_the_mask_prompt_comes_with_its_probability():
    never = ask(IterativeObjective(PromptLoss(), steps=2, mask_probability=0.0)).asked
    always = ask(IterativeObjective(PromptLoss(), steps=2, mask_probability=1.0)).asked
    assert never[1].masks is None and always[0].masks is None
    assert always[1].masks.shape[1:] == (1, 4 * GRID, 4 * GRID)


def test_any_candidate_of_an_ambiguous_start_may_be_corrected():
    """The mask that comes back with the correction says which candidate it was: candidate k answers -1 - k."""

    class Numbered(Recorder):
        def predict(self, prepared, prompts):
            answer = super().predict(prepared, prompts)
            numbers = torch.arange(answer.iou.shape[1]).float()
            return MaskPrediction(answer.logits - numbers[:, None, None], answer.iou * 0 - numbers)

    def corrected(share, box_probability=0.0):
        objective = IterativeObjective(
            PromptLoss(), steps=2, box_probability=box_probability, mask_probability=1.0, any_candidate=share
        )
        networks = [Numbered() for _ in range(12)]
        for step, network in enumerate(networks):
            list(objective(network, make_batch(2, step=step)))
        return {round(float(network.asked[1].masks.mean()), 3) for network in networks}

    assert corrected(0.0) == {-1.0}
    assert corrected(1.0) == {-1.0, -2.0, -3.0}
    assert corrected(1.0, box_probability=1.0) == {-1.0}  # a box has one answer


def test_prompts_do_not_depend_on_how_a_batch_is_cut():
    objective = IterativeObjective(PromptLoss(), steps=2, box_probability=1.0)
    batch = make_batch(4)
    whole = ask(objective, batch).asked[0].boxes
    pieces = [ask(objective, piece).asked[0].boxes for piece in batch.split(2)]
    assert torch.equal(whole, torch.cat(pieces))


def test_the_same_step_asks_the_same_again():
    objective = IterativeObjective(PromptLoss(), seed=5)
    first, second = ask(objective).asked[-1], ask(objective).asked[-1]
    assert torch.equal(first.points, second.points)


def test_sam_med2d_makes_nine_losses_with_two_masks_alone():
    out = ask(SamMed2dObjective(PromptLoss()))
    assert len(out.terms) == 9
    alone = [a.points is None and a.boxes is None for a in out.asked]
    assert sum(alone) == 2 and alone[-1]
    counts = {a.points.shape[1] for a in out.asked[1:] if a.points is not None}
    assert counts <= {1, 3, 5, 9}
    assert all((a.masks < 0).all() for a in out.asked[1:])  # logits; their network takes the sigmoid itself


def test_sam_med2d_trains_adapters_in_its_first_loss_only():
    network = make_network(tuning=[{"kind": "conv_adapter", "part": "encoder"}])
    adapters = [p for name, p in network.named_parameters() if ".Adapter." in name]
    prompts, decoder = list(network.prompt_encoder.parameters()), list(network.mask_decoder.parameters())
    reached = []
    for terms in SamMed2dObjective(PromptLoss(), iterations=2)(network, make_batch(1)):
        network.zero_grad(set_to_none=True)
        terms.total.backward()
        reached.append([any(p.grad is not None for p in part) for part in (adapters, prompts, decoder)])
    assert reached == [[True, True, True], [False, False, True], [False, False, True]]
    assert all(p.requires_grad for p in prompts)


def test_joint_training_yields_both_losses():
    network = with_automatic_decoder(make_network(), classes=3)
    automatic = Automatic(SemanticLoss(), values=(1, 2), decoder=True)
    terms = list(JointObjective(IterativeObjective(PromptLoss(), steps=1), automatic)(network, make_batch(1)))
    assert len(terms) == 2
    terms[1].total.backward()
    assert network.automatic_decoder.out_conv.weight.grad is not None


def test_automatic_training_compares_the_classes_of_the_values():
    batch = make_batch(2)
    logits = torch.full((2, 3, SIZE, SIZE), -20.0)
    for number, value in enumerate((2, 1), start=1):  # class 1 is label 2
        logits[:, number][batch.labels == value] = 20.0
    logits[:, 0][batch.labels == 0] = 20.0
    (terms,) = Automatic(SemanticLoss(), values=(2, 1))(lambda images: logits, batch)
    assert terms.total.item() == pytest.approx(0, abs=1e-3)


def test_masked_autoencoding_reconstructs_what_was_blanked():
    network = Reconstruction(make_network())
    seen = []
    network.image_encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    (terms,) = MaskedAutoencoding(ratio=0.75)(network, make_batch(2, objects=0))
    patches = seen[0].unfold(2, 16, 16).unfold(3, 16, 16).abs().sum(dim=(1, 4, 5)) == 0
    assert patches.float().mean().item() == 0.75
    terms.total.backward()
    assert network.head.weight.grad is not None


def test_a_perfect_reconstruction_costs_nothing():
    batch = make_batch(1, objects=0)
    patches = torch.nn.functional.pixel_unshuffle(batch.images, 16)
    variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
    answer = torch.nn.functional.pixel_shuffle((patches - mean) / (variance + 1e-6).sqrt(), 16)
    (terms,) = MaskedAutoencoding()(lambda images: answer, batch)
    assert terms.total.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("options", [{"start": "guess"}, {"corrections": "guess"}])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match="got 'guess'"):
        IterativeObjective(PromptLoss(), **options)


def test_a_patch_must_divide_the_square():
    with pytest.raises(ValueError, match="divide the model square of 64 px, got 24"):
        next(MaskedAutoencoding(patch=24)(Reconstruction(make_network()), make_batch(1, objects=0)))
