"""How fast a decoder trains, with the frozen encoder run at every step and from stored embeddings."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bundle.data.labelled_slices import phantom_pool
from bundle.families.family import build_network, load_family
from bundle.training.batches import SampleBatch, collate
from bundle.training.embeddings import FromStore, StoredEmbeddings
from bundle.training.interface import Objective
from bundle.training.losses import PromptLoss
from bundle.training.objectives import IterativeObjective
from bundle.training.samples import DrawnSamples
from bundle.training.start import start_network, train_mode, trainable_parameters


@dataclass(frozen=True)
class Benchmark:
    """What is measured.

    Attributes:
        family: whose network and contract.
        image_size: another input size than the family's, None for its own.
        batch_size: images of a step, one box each.
        steps: how many are timed.
        threads: of torch.
    """

    family: str = "tiny_vit"
    image_size: int | None = None
    batch_size: int = 4
    steps: int = 5
    threads: int = 2


def measure(benchmark: Benchmark, folder: str | Path) -> tuple[float, float]:
    """Images per second with the encoder at every step, and from embeddings that ``folder`` already holds."""
    torch.set_num_threads(benchmark.threads)
    network, batch = _network_and_batch(benchmark)
    objective = IterativeObjective(PromptLoss(), steps=1, box_probability=1.0)
    stored = FromStore(objective, StoredEmbeddings(folder))
    list(stored(network, batch))  # fills the store
    return _rate(objective, network, batch, benchmark), _rate(stored, network, batch, benchmark)


def _network_and_batch(benchmark: Benchmark) -> tuple[nn.Module, SampleBatch]:
    family = load_family(benchmark.family)
    size = benchmark.image_size or family.contract.size
    options = {} if benchmark.image_size is None else {"image_size": size}
    network = start_network(build_network(family, random=True, options=options), trainable=["mask_decoder.*"])
    contract = replace(family.contract, size=size)
    sources = {"phantom": {"slices": phantom_pool([0], contract=contract), "weight": 1.0}}
    samples = DrawnSamples(sources, contract, objects=1)
    return network, collate([samples[i] for i in range(benchmark.batch_size)])


def _rate(objective: Objective, network: nn.Module, batch: SampleBatch, benchmark: Benchmark) -> float:
    optimizer = torch.optim.AdamW(trainable_parameters(network), lr=1e-4)
    train_mode(network)
    started = time.perf_counter()
    for step in range(benchmark.steps):
        for terms in objective(network, replace(batch, step=step)):
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
    return benchmark.steps * len(batch.images) / (time.perf_counter() - started)
