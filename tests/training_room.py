"""Small things that the tests of training share: slices with two organs, a contract, a network, a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from torch.utils.data import DataLoader

from bundle.data.labelled_slices import LabelledSlice, LabelledStack
from bundle.families.builders import prompted_unet, sam_tiny_vit, semantic_sam
from bundle.families.family import Family, load_family
from bundle.networks.promptable_sam import PromptableSam
from bundle.training.batches import SampleBatch, collate
from bundle.training.draws import DrawNumbers
from bundle.training.engines import PromptTrainer
from bundle.training.losses import LossTerms
from bundle.training.samples import DrawnSamples
from bundle.training.start import trainable_parameters
from bundle.transforms.contract import Contract, View

ROOT = Path(__file__).resolve().parents[1]
SIZE, GRID = 64, 8
ORGANS = {1: "liver", 2: "pancreas"}
CONTRACT = Contract.from_config({**load_family("default").contract_def, "size": SIZE})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks: a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(contract: Contract) -> Contract:
    """A family's own contract at the size of the tests' networks."""
    return replace(contract, size=SIZE)


def make_slice(seed: int = 0, *, patient: str = "p0", ids: tuple[int, ...] = (1, 2), annotated=None) -> LabelledSlice:
    """A 48 x 48 picture of noise with a bright disc (1) and a darker bar (2)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    x, y = rng.integers(12, 20, 2)
    labels = np.zeros((48, 48), np.uint8)
    labels[(rows - y) ** 2 + (columns - x) ** 2 <= 64] = 1
    labels[34:42, 8:40] = 2
    labels[~np.isin(labels, ids)] = 0
    picture = np.clip(60 + 90 * (labels == 1) + 40 * (labels == 2) + rng.normal(0, 8, (48, 48)), 0, 255)
    views = (View(0, 255),) * 3
    return LabelledSlice(
        picture.astype(np.uint8),
        labels,
        ids,
        views,
        "windowed",
        (1.0, 1.0),
        patient,
        f"{patient}-2-{seed:04d}",
        annotated,
    )


def make_pool(slices_per_patient: tuple[int, ...] = (4, 4, 4)) -> list[LabelledSlice]:
    """Slices of several patients."""
    return [
        make_slice(100 * p + i, patient=f"p{p}") for p, count in enumerate(slices_per_patient) for i in range(count)
    ]


def make_stack(depth: int = 3) -> LabelledStack:
    """Neighbouring slices of one patient."""
    return LabelledStack(tuple(make_slice(i) for i in range(depth)))


def make_samples(**options) -> DrawnSamples:
    """Drawn samples of the pool."""
    sources = options.pop("sources", {"labelled": {"slices": make_pool(), "weight": 1.0}})
    return DrawnSamples(sources, options.pop("contract", CONTRACT), **options)


def make_batch(count: int = 2, *, step: int = 1, **options) -> SampleBatch:
    """The first draws."""
    samples = make_samples(**options)
    batch = collate([samples[i] for i in range(count)])
    batch.step = step
    return batch


def make_network(seed: int = 0, **options) -> PromptableSam:
    """A TinyViT SAM of 64 px."""
    torch.manual_seed(seed)
    return sam_tiny_vit(image_size=SIZE, grid=GRID, neck="pyramid", window_sizes=(4, 4, 4), **options)


def make_network_like(family: Family, classes: int | None = None) -> torch.nn.Module:
    """A tiny network of a family's kind: its tuning, its classes, its dimensions, the way it is asked."""
    definition = family.network_def
    torch.manual_seed(0)
    if definition["_target_"].endswith("semantic_sam"):
        network = semantic_sam("vit_b", image_size=SIZE, classes=classes, dimensions=definition["dimensions"])
        network.image_encoder.blocks = network.image_encoder.blocks[:1]
        return network
    tuning = definition.get("tuning", ())
    if definition["_target_"].endswith("prompted_unet"):
        return prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1), tuning=tuning)
    network = make_network(classes=classes, tuning=tuning)
    network.spec = replace(network.spec, candidates=definition.get("candidates", network.spec.candidates))
    network.prompt_encoder.mask_prompt = definition.get("mask_prompt", "logits")
    return network


class Scalar(torch.nn.Module):
    """One weight, which the objective below multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))


class Multiply:
    """Yields ``factor * weight`` for each factor of the step."""

    def __init__(self, *factors: tuple[float, ...]) -> None:
        self.factors = factors

    def __call__(self, network, batch):
        for factor in self.factors[batch.step - 1]:
            yield LossTerms.plain(factor * network.weight)


def make_trainer(network, objective, *, steps=1, epochs=1, batch_size=2, lr=1.0, samples=None, handlers=(), **options):
    """A trainer with plain gradient descent over drawn samples."""
    samples = make_samples() if samples is None else samples
    draws = DrawNumbers(steps * batch_size)
    loader = DataLoader(samples, batch_size=batch_size, sampler=draws, collate_fn=collate)
    optimizer = torch.optim.SGD(trainable_parameters(network), lr=lr)
    return PromptTrainer(
        objective=objective,
        device=torch.device("cpu"),
        max_epochs=epochs,
        epoch_length=steps,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        inferer=SimpleInferer(),
        train_handlers=list(handlers),
        **options,
    )


def weights_of(module: torch.nn.Module) -> torch.Tensor:
    """All parameters in one row, detached."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def small_run_files(folder: Path, recipe: str, *, dataset: str | None = None, **overrides) -> list[str]:
    """The config files of a recipe with two steps, one epoch and a tiny network.

    It trains on generated slices, or on the first few items of a dataset of configs/datasets.
    """
    data = {"organs": "$training_room.ORGANS"} | _generated_slices(recipe) if dataset is None else _first_items(recipe)
    small = _small(recipe) | data
    (folder / "small.json").write_text(json.dumps(small | {"output_dir": str(folder)} | overrides))
    configs = ROOT / "configs"
    layers = [configs / "train.json", configs / "recipes" / f"{recipe}.json", folder / "small.json"]
    if dataset is not None:
        layers.insert(2, configs / "datasets" / f"{dataset}.json")
    return [str(layer) for layer in layers]


SMALL_MATERIAL = {
    "phantoms": [100],
    "phantom_pool#shape": [32, 32, 8],
    "regions#step": 1,
    "other_regions#slices": "@mr",
}
AUTOMATIC = ("finetune_sam", "few_shot", "semantic_2d", "semantic_3d")


def _small(recipe: str) -> dict:
    network = {"_target_": "training_room.make_network_like", "family": "@family"}
    if recipe in AUTOMATIC:
        network["classes"] = "$@network_options['classes']"
    inner = {"medico_sam": "promptable", "mae": "whole_network"}.get(recipe, "network_def")
    return {
        "+imports": ["$import training_room"],
        "start": None,
        "contract": "$training_room.small(@family.contract)",
        inner: network,
        **(SMALL_MATERIAL if recipe == "default" else {}),
        **({"depth": 2} if recipe == "semantic_3d" else {}),
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 1 if recipe == "semantic_3d" else 2,
        "train#dataloader#num_workers": 0,
        "val_interval": 1,
        "threads": 1,
    }


def _generated_slices(recipe: str) -> dict:
    generated = {
        "training_pool": "$training_room.make_pool((2, 1))",
        "validation_pool": "$training_room.make_pool((1,))",
    }
    if recipe == "default":
        volumes = ("ct", "mr", "unlabelled_mr", "demo")
        return generated | {name: generated["validation_pool"] for name in volumes}
    if recipe == "few_shot":
        return generated | {"training_slices": generated.pop("training_pool").replace("2, 1", "3, 3")}
    if recipe == "semantic_3d":
        return {
            "training_slices": "$training_room.make_pool((4,))",
            "validation_slices": "$training_room.make_pool((2,))",
        }
    return generated


def _first_items(recipe: str) -> dict:
    training = "training_slices" if recipe in ("few_shot", "semantic_3d") else "training_pool"
    validation = "validation_slices" if recipe == "semantic_3d" else "validation_pool"
    return {f"{training}#items": "$@training_items[:2]", f"{validation}#items": "$@validation_items[:1]"}
