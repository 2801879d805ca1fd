"""Measure how many training samples a second the two roads make on a CPU: one by one, and whole batches.

    python scripts/benchmark_samples.py --batches 8

Both draw from the same slices of generated phantoms, in turns in one process, as the recipes say it: the shares of
configs/recipes/default.json for single samples, those of configs/recipes/shipped/batched.json for batches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import torch
from monai.bundle import ConfigParser

from bundle.data.labelled_slices import phantom_pool
from bundle.errors import explain_errors
from bundle.families.family import BUNDLE_ROOT, load_family
from bundle.training.batched.samples import BatchedSamples
from bundle.training.batched.slices import choose, gather_slices
from bundle.training.samples import DrawnSamples

RECIPES = BUNDLE_ROOT / "configs" / "recipes"


def main(argv: Sequence[str] | None = None) -> None:
    """Print samples a second of both, and their ratio."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8, help="of each road, after one that is not counted")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, help="JSON file to write as well")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    single, batched = roads(options.batch_size)
    seconds = {"one by one": 0.0, "whole batches": 0.0}
    for number in range(options.batches + 1):
        for name, draw in (("one by one", single), ("whole batches", batched)):
            begun = time.perf_counter()
            draw(number)
            seconds[name] += (time.perf_counter() - begun) if number else 0.0
    rates = {name: options.batches * options.batch_size / taken for name, taken in seconds.items()}
    for name, rate in rates.items():
        print(f"{name + ':':15s} {rate:7.1f} samples/s")
    print(f"{'ratio:':15s} {rates['whole batches'] / rates['one by one']:7.2f}")
    if options.results:
        content = {"threads": options.threads, "batch_size": options.batch_size, "samples_per_second": rates}
        with open(options.results, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1) + "\n")


def roads(batch_size: int) -> tuple[Callable[[int], object], Callable[[int], object]]:
    """What makes the samples of a batch: one by one, and at once."""
    contract = load_family("default").contract
    slices = phantom_pool(range(100, 101), contract=contract, axes=(2,))
    recipe = json.loads((RECIPES / "default.json").read_text("utf-8"))
    prefix = "train#dataset#"
    options = {name.removeprefix(prefix): value for name, value in recipe.items() if name.startswith(prefix)}
    options["augmentation"] = ConfigParser({"it": options["augmentation"]}).get_parsed_content("it")
    drawn = DrawnSamples(contract=contract, **options | {"sources": {"phantom": {"slices": slices, "weight": 1.0}}})
    rates = json.loads((RECIPES / "shipped" / "batched.json").read_text("utf-8"))["augmentation_rates"]
    tensors = choose(gather_slices({"phantom": slices}), {"phantom": 1.0})
    whole = BatchedSamples(tensors, contract, batch_size=batch_size, rates=rates)
    return lambda number: [drawn[number * batch_size + i] for i in range(batch_size)], whole.__getitem__


if __name__ == "__main__":
    main()
