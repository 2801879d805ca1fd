"""The benchmark of the two roads to a training sample."""

from __future__ import annotations

import json
import runpy


def test_it_draws_as_many_samples_on_both_roads(repository, tmp_path, capsys):
    script = runpy.run_path(str(repository / "scripts" / "benchmark_samples.py"))
    script["main"](["--batches", "1", "--batch-size", "2", "--results", str(tmp_path / "samples.json")])
    rates = json.loads((tmp_path / "samples.json").read_text("utf-8"))["samples_per_second"]
    assert set(rates) == {"one by one", "whole batches"} and min(rates.values()) > 0
    assert f"{rates['whole batches'] / rates['one by one']:.2f}" in capsys.readouterr().out
