"""The tables of docs/performance.md."""

from __future__ import annotations

from bundle.evaluation.performance_table import (
    command_table,
    ratio_table,
    volume_table,
    waiting_table,
    worker_table,
)

SAM = {
    "name": "sam, torch",
    "seconds": {
        "warm click": 0.02,
        "its forward passes": 0.016,
        "precompute, a slice": 2.0,
        "a: b": 3.0,
        "undo": 0.0001,
    },
    "gflop": 80.0,
    "matmul_gflop_s": {"float32": 80.0},
    "memory_mib": 900,
    "load": 1.4,
}
UNET = SAM | {
    "name": "default, torch",
    "seconds": {"warm click": 0.2, "its forward passes": 0.19},
    "matmul_gflop_s": {"float32": 80.0, "bfloat16": 160.0},
}


def test_each_thing_is_a_row_and_what_a_model_has_not_is_a_dash():
    table = waiting_table({"models": [UNET, SAM]})
    assert table.columns == ["ms", "default, torch", "sam, torch"]
    assert [row[0] for row in table.rows][-2:] == ["a: b", "memory of the process, MiB"]  # the others' ways come last
    assert ["warm click", "200", "20.0"] in table.rows and ["undo", "-", "0.1"] in table.rows


def test_the_share_of_the_matrix_product_is_that_of_the_encoder():
    rows = ratio_table({"models": [UNET, SAM]}).rows
    assert rows[0] == ["default, torch", "1.05", "-", "-", "-", "bfloat16", "1"]
    assert rows[1] == ["sam, torch", "1.25", "100.0", "0.50", "50%", "float32", "1"]


def test_volumes_of_several_sizes():
    table = volume_table({"volumes": [{"shape": [512, 512, 50], "warm click": 0.25, "its forward passes": 0.2}]})
    assert table.rows == [["512 x 512 x 50", "250", "200", "1.25"]]


def test_the_ratio_of_a_start_is_the_median_of_those_of_the_pairs():
    pairs = [(10.0, 0.2), (12.0, 0.5), (8.0, 0.1)]
    runs = [{"before": {"clock": 4, "processor": a}, "now": {"clock": 2, "processor": b}} for a, b in pairs]
    table = command_table({"start": [{"load": 3.0, "help": run} for run in runs]})
    assert table.rows == [["help", "10.0", "0.2", "50", "4.0", "2.0", "2.00"]]
    assert table.columns[:4] == ["seconds", "processor, before", "processor, now", "processor, ratio"]


def test_two_workers_are_as_fast_as_the_one_that_works_longer():
    pair = {"load": 8.2, "studies": 24}
    pair |= {"1": {"clock": 300.0, "processor": [110.0]}, "2": {"clock": 200.0, "processor": [55.0, 50.0]}}
    assert worker_table({"workers": [pair]}).rows == [["1", "24", "8", "110", "55", "2.00", "300", "200", "1.50"]]
