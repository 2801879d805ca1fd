"""The trainer, its handlers, and training from stored embeddings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch.utils.data import DataLoader
from training_room import (
    CONTRACT,
    ORGANS,
    Multiply,
    Scalar,
    make_batch,
    make_network,
    make_pool,
    make_samples,
    make_slice,
    make_stack,
    make_trainer,
    weights_of,
)
from training_room import one_thread as one_thread

from bundle.families.family import FamilyError
from bundle.training import schedules
from bundle.training.batches import collate
from bundle.training.embeddings import FromStore, StoredEmbeddings
from bundle.training.engines import (
    MacroDice,
    NonFiniteLossError,
    PromptEvaluator,
    ValidationBoxes,
    autocast_dtype,
    gradient_scaler,
)
from bundle.training.losses import PromptLoss
from bundle.training.masked import MaskedAutoencoding, MeanScore, Reconstruction, ReconstructionEvaluator
from bundle.training.objectives import IterativeObjective
from bundle.training.samples import EverySample
from bundle.training.semantic import AutomaticEvaluator, annotated_classes
from bundle.training.start import start_network, train_mode

pytestmark = pytest.mark.usefixtures("one_thread")
ONE_BOX = {"steps": 1, "box_probability": 1.0}


def train_scalar(*factors, **options) -> SimpleNamespace:
    network = Scalar()
    trainer = make_trainer(network, Multiply(*factors), steps=len(factors), gradient_clip=float("inf"), **options)
    trainer.run()
    return SimpleNamespace(weight=network.weight.item(), trainer=trainer)


# ---- the trainer ----------------------------------------------------------------------------------------------------


def test_every_loss_of_an_objective_is_one_step_of_the_optimiser():
    assert train_scalar((0.1, 0.2), (0.3,)).weight == pytest.approx(1 - 0.6)


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    run = train_scalar((0.1,), (float("nan"),), (float("inf"),), (0.1,))
    assert run.weight == pytest.approx(0.8) and run.trainer.state.metrics["skipped"] == 2
    assert run.trainer.skipped_in_a_row == 0


def test_too_many_skips_in_a_row_stop_the_run():
    with pytest.raises(NonFiniteLossError, match="2 steps in a row"):
        train_scalar((float("nan"),), (float("nan"),), (0.1,), skip_limit=2)


def test_gradients_are_clipped_to_their_norm():
    network = Scalar()
    make_trainer(network, Multiply((100.0,)), gradient_clip=0.5).run()
    assert network.weight.item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("objects", [1, 2])
def test_accumulation_does_not_change_the_step(objects):
    # One slice shows one organ, so the pieces have different numbers of objects.
    sources = {"labelled": {"slices": [make_slice(0, ids=(1,)), make_slice(1)], "weight": 1.0}}
    plain, pieces = make_network(), make_network()
    for network, parts in ((plain, 1), (pieces, 2)):
        network.eval()
        start_network(network, trainable=["mask_decoder.*"])
        objective = IterativeObjective(PromptLoss(), **ONE_BOX)
        samples = make_samples(sources=sources, objects=objects)
        make_trainer(network, objective, batch_size=3, samples=samples, accumulation=parts, lr=0.1).run()
    torch.testing.assert_close(weights_of(plain), weights_of(pieces), atol=1e-5, rtol=1e-4)


def test_bfloat16_trains_float32_weights():
    network = start_network(make_network(), trainable=["mask_decoder.*"])
    before = weights_of(network)
    make_trainer(network, IterativeObjective(PromptLoss(), **ONE_BOX), amp="bf16", lr=0.1).run()
    assert weights_of(network).dtype == torch.float32 and not torch.equal(before, weights_of(network))


def test_float16_without_cuda_is_refused():
    with pytest.raises(ValueError, match="fp16 needs a CUDA device, got cpu"):
        autocast_dtype("fp16", torch.device("cpu"))
    with pytest.raises(ValueError, match="got 'half'"):
        autocast_dtype("half", torch.device("cuda"))


def test_only_float16_scales_its_gradients():
    assert not gradient_scaler("bf16", torch.device("cpu")).is_enabled()
    assert gradient_scaler("fp16", torch.device("cpu")).is_enabled()


# ---- what trains ----------------------------------------------------------------------------------------------------


def test_only_the_named_parts_learn():
    network = start_network(make_network(), trainable=["mask_decoder.*"])
    frozen, before = weights_of(network.image_encoder), weights_of(network.mask_decoder)
    make_trainer(network, IterativeObjective(PromptLoss(), **ONE_BOX), lr=0.1).run()
    assert torch.equal(weights_of(network.image_encoder), frozen)
    assert not torch.equal(weights_of(network.mask_decoder), before)


def test_batch_statistics_of_a_frozen_encoder_do_not_move():
    network = start_network(make_network(), trainable=["mask_decoder.*"])
    before = [buffer.clone() for buffer in network.image_encoder.buffers()]
    train_mode(network)
    network.prepare(make_batch().images)
    assert all(torch.equal(a, b) for a, b in zip(before, network.image_encoder.buffers(), strict=True))
    assert network.mask_decoder.training


def test_missing_weights_to_start_from_are_explained():
    with pytest.raises(FamilyError, match=r"monai-sam download sam_vit_h"):
        start_network(make_network(), start="sam_vit_h")


# ---- schedules ------------------------------------------------------------------------------------------------------


def rates(make, steps: int = 10) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedules.constant(o, warmup=4),
        lambda o: schedules.cosine(o, warmup=4, total=10),
        lambda o: schedules.poly(o, warmup=4, total=10),
        lambda o: schedules.step(o, warmup=4, every=2, gamma=0.5),
    ],
)
def test_every_schedule_warms_up_to_the_full_rate(make):
    assert rates(make)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_cosine_may_begin_after_a_flat_part():
    found = rates(lambda o: schedules.cosine(o, warmup=2, total=12, floor=0.0, flat=0.3), 13)
    assert found[:6] == pytest.approx([0.5, 1, 1, 1, 1, 1]) and found[-1] == pytest.approx(0, abs=1e-6)
    assert found[5] > found[6] > found[9]


def test_the_cosine_ends_at_its_floor():
    found = rates(lambda o: schedules.cosine(o, total=8, floor=0.1), 9)
    assert found[4] == pytest.approx(0.55) and found[8] == pytest.approx(0.1)


def test_the_polynomial_is_finetune_sams():
    found = rates(lambda o: schedules.poly(o, warmup=2, total=12, power=0.9), 8)
    assert found[7] == pytest.approx((1 - 5 / 10) ** 0.9)


def test_the_step_schedule_multiplies():
    assert rates(lambda o: schedules.step(o, every=3, gamma=0.5), 7) == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25])


# ---- validation -----------------------------------------------------------------------------------------------------


def test_every_labelled_object_is_asked_once_with_the_same_box():
    boxes = ValidationBoxes(make_pool((2, 1)), CONTRACT, names=ORGANS)
    again = ValidationBoxes(make_pool((2, 1)), CONTRACT, names=ORGANS)
    assert [boxes[i]["organ"] for i in range(len(boxes))] == ["liver", "pancreas"] * 3
    assert torch.equal(boxes[3]["box"], again[3]["box"])


@pytest.mark.parametrize("pool", [[], [make_slice(ids=())]])
def test_a_validation_without_objects_is_refused(pool):
    with pytest.raises(ValueError, match="without any object of liver, pancreas; give it labelled patients"):
        ValidationBoxes(pool, CONTRACT, names=ORGANS)


def test_the_macro_dice_weighs_organs_alike_and_their_patients_too():
    metric = MacroDice()
    metric.reset()
    scores = [("liver", "long", 1.0)] * 3 + [("liver", "short", 0.6), ("pancreas", "long", 0.4)]
    metric.update([{"organ": organ, "patient": patient, "dice": dice} for organ, patient, dice in scores])
    assert metric.compute() == pytest.approx(0.6)
    assert metric.per_organ == pytest.approx({"liver": 0.8, "pancreas": 0.4})


def evaluate(network, evaluator=PromptEvaluator, dataset=None, collate_fn=None, **options) -> Engine:
    dataset = ValidationBoxes(make_pool((1, 1)), CONTRACT, names=ORGANS) if dataset is None else dataset
    engine = evaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=2, collate_fn=collate_fn),
        network=network,
        key_val_metric={"val_dice": MacroDice()},
        **options,
    )
    engine.run()
    return engine


class Perfect(torch.nn.Module):
    """Answers the label maps it is given."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, images):
        return 10 * torch.nn.functional.one_hot(self.labels[: len(images)].long(), 3).movedim(-1, 1).float()


@pytest.mark.parametrize("items", [make_pool((2,)), [make_stack(2), make_stack(2)]])
def test_a_perfect_automatic_network_scores_one(items):
    dataset = EverySample(items, CONTRACT)
    labels = torch.stack([dataset[i].labels for i in range(2)])
    engine = evaluate(Perfect(labels), AutomaticEvaluator, dataset, collate, names=ORGANS)
    assert engine.state.metrics["val_dice"] == pytest.approx(1.0)
    assert engine.state.metrics["val_dice_pancreas"] == pytest.approx(1.0)


def test_an_automatic_network_is_scored_by_patient():
    dataset = EverySample(make_pool((1, 1)), CONTRACT)
    engine = evaluate(
        Perfect(dataset[0].labels[None].repeat(2, 1, 1)), AutomaticEvaluator, dataset, collate, names=ORGANS
    )
    rows = [row["patient"] for row in engine.state.output]
    assert rows == ["p0", "p0", "p1", "p1"]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_score_of_reconstruction_does_not_depend_on_the_batches(batch_size):
    network, dataset = Reconstruction(make_network()), EverySample(make_pool((3,)), CONTRACT)
    evaluator = ReconstructionEvaluator(
        objective=MaskedAutoencoding(),
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=batch_size, collate_fn=collate),
        network=network,
        key_val_metric={"val_score": MeanScore()},
    )
    evaluator.run()
    (terms,) = MaskedAutoencoding()(network, collate([dataset[i] for i in range(3)]))
    assert evaluator.state.metrics["val_score"] == pytest.approx(-terms.total.item(), rel=1e-4)


def test_organs_that_nobody_looked_for_are_not_classes():
    batch = make_batch(2)
    batch.annotated = ((2,), None)
    assert annotated_classes(batch, (1, 2)).tolist() == [[True, False, True], [True, True, True]]


# ---- stored embeddings ----------------------------------------------------------------------------------------------


def train_decoder(tmp_path, *, stored: bool) -> SimpleNamespace:
    network = start_network(make_network(), trainable=["mask_decoder.*"])
    runs = []
    network.image_encoder.neck.register_forward_hook(lambda *_: runs.append(1))
    objective = IterativeObjective(PromptLoss(), **ONE_BOX)  # clicks follow the answer's last pixel
    embeddings = StoredEmbeddings(tmp_path) if stored else None
    samples = make_samples(objects=1)
    objective = FromStore(objective, embeddings) if stored else objective
    make_trainer(network, objective, steps=10, lr=0.05, samples=samples).run()
    return SimpleNamespace(network=network, runs=len(runs), embeddings=embeddings)


def test_training_from_stored_embeddings_gives_the_same_decoder(tmp_path):
    plain, stored = train_decoder(tmp_path, stored=False), train_decoder(tmp_path, stored=True)
    torch.testing.assert_close(weights_of(stored.network), weights_of(plain.network), atol=1e-5, rtol=1e-4)
    assert plain.runs == 10 and stored.runs <= 12  # 12 slices, 20 draws


def test_a_second_run_finds_the_embeddings_on_disk(tmp_path):
    train_decoder(tmp_path, stored=True)
    assert train_decoder(tmp_path, stored=True).runs == 0


def test_another_encoder_does_not_find_them(tmp_path):
    embeddings, images = StoredEmbeddings(tmp_path), make_batch(1).images
    networks = [start_network(make_network(seed), trainable=["mask_decoder.*"]).eval() for seed in (0, 1)]
    first, second = (embeddings.prepare(network, images).tensors["embedding"] for network in networks)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first, networks[0].prepare(images).tensors["embedding"])


def test_an_encoder_that_trains_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frozen image encoder, but"):
        StoredEmbeddings(tmp_path).prepare(make_network(), make_batch(1).images)


def test_validation_takes_the_stored_embeddings(tmp_path):
    network = start_network(make_network(), trainable=["mask_decoder.*"])
    plain = evaluate(network).state.metrics
    stored = evaluate(network, embeddings=StoredEmbeddings(tmp_path)).state.metrics
    assert np.isclose(plain["val_dice"], stored["val_dice"], atol=1e-4) and len(list(tmp_path.glob("*.prepared"))) == 2
