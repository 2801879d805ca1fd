"""Measure what a network takes for one of several objects that it is asked in one forward pass, beside one by one.

    python scripts/benchmark_batches.py --results docs/results/batches.json

A network that prepares a slice answers objects on one slice (its encoder has run), one that sees image and prompt
together a window for each. Seconds of the processor, of the clock on a GPU: the least of `--rounds`, the numbers of
objects in turns. Weights are random where none are shipped; that changes no time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import numpy as np
import torch
from torch import nn

from bundle.errors import explain_errors
from bundle.evaluation.performance_table import batch_table
from bundle.families.family import Family, build_network, load_family
from bundle.files import write_text
from bundle.prompts.batch import batch_of
from bundle.prompts.slice_prompts import SlicePrompt

OBJECTS = (1, 2, 4, 8)
SIDE = 256
PROMPT = SlicePrompt(box=np.array([60.0, 60.0, 180.0, 180.0]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, and write what it is made of."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["default", "tiny_vit", "sam_vit_b"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, help="JSON file to write as well")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {"device": options.device, "families": {}}
    for name in options.families:
        family = load_family(name)
        network = build_network(family, random=name != "default").to(options.device)
        found["families"][name] = seconds_of(network, family, options.rounds)
    print(batch_table(found).as_markdown())
    if options.results:
        write_text(options.results, json.dumps(found, indent=1) + "\n")


@torch.inference_mode()
def seconds_of(network: nn.Module, family: Family, rounds: int) -> dict[str, Any]:
    """Objects in a pass -> seconds of one of them."""
    device = next(network.parameters()).device
    placement = family.contract.placement(SIDE, SIDE, (1.0, 1.0))
    images = torch.randn(max(OBJECTS), 3, *network.spec.input_shape[1:], device=device)
    keeps = network.spec.keeps_prepared
    prepared = network.prepare(images[:1]) if keeps else None

    def answer(count: int) -> float:
        prompts = batch_of([PROMPT] * count, placement, mask_size=network.spec.mask_size, device=device)
        prompts.image_index = None if keeps else torch.arange(count, device=device)
        begun = _now(device)
        network.predict(prepared if keeps else network.prepare(images[:count]), prompts)
        return _now(device) - begun

    answer(OBJECTS[0])
    taken = [{count: answer(count) for count in OBJECTS} for _ in range(rounds)]
    return {str(count): min(one[count] for one in taken) / count for count in OBJECTS}


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
