"""What scripts/benchmark.py measures with, on things whose duration does not matter."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import torch

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "benchmark.py"))


def test_rows_of_the_same_name_are_replaced_and_others_stay(tmp_path):
    output = tmp_path / "p.json"
    SCRIPT["keep"](output, "models", [{"name": "a", "x": 1}, {"name": "b", "x": 1}], key="name")
    SCRIPT["keep"](output, "models", [{"name": "a", "x": 2}], key="name")
    SCRIPT["keep"](output, "volumes", [{"shape": [1]}], key="shape")
    found = json.loads(output.read_text())
    assert found == {"models": [{"name": "b", "x": 1}, {"name": "a", "x": 2}], "volumes": [{"shape": [1]}]}


def test_forward_passes_are_collected_while_the_block_runs():
    class Network(torch.nn.Module):
        def predict(self, x):
            return x + 1

        def prepare(self, x):
            return x

    network, clock = Network(), SCRIPT["Clock"]("cpu")
    with SCRIPT["forward_seconds"](network, clock) as passes:
        assert network.predict(network.prepare(1)) == 2
    network.predict(1)
    assert len(passes) == 2 and all(seconds >= 0 for seconds in passes)


def test_the_matrix_product_is_timed_in_float32_at_least():
    assert SCRIPT["matmul_rates"](SCRIPT["Clock"]("cpu"))["float32"] > 0
