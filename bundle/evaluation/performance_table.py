"""The tables of what a user waits for (scripts/benchmark.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bundle.evaluation.tables import Table


def waiting_table(results: Mapping[str, Any]) -> Table:
    """A row for each thing that is waited for, a column for each model on each engine: milliseconds.

    Args:
        results: ``models``, each with its name and the seconds of each thing.
    """
    models: Sequence[Mapping[str, Any]] = results["models"]
    things = list(dict.fromkeys(thing for model in models for thing in model["seconds"]))
    rows = [[thing, *(_milliseconds(model["seconds"].get(thing)) for model in models)] for thing in _in_order(things)]
    rows.append(["memory of the process, MiB", *(str(model["memory_mib"]) for model in models)])
    return Table(["ms", *(model["name"] for model in models)], rows, 1)


def ratio_table(results: Mapping[str, Any]) -> Table:
    """Of each model a click beside its forward passes, and the encoder beside a matrix product."""
    rows = []
    for model in results["models"]:
        seconds, peak = model["seconds"], model["matmul_gflop_s"]
        best = peak.get("bfloat16", peak["float32"])
        of_encoder = seconds.get("precompute, a slice")
        share = "-" if of_encoder is None else f"{model['gflop'] / of_encoder / best:.0%}"
        rows.append(
            [
                model["name"],
                f"{seconds['warm click'] / seconds['its forward passes']:.2f}",
                "-" if of_encoder is None else f"{of_encoder / seconds['warm click']:.1f}",
                "-" if of_encoder is None else f"{1 / of_encoder:.2f}",
                share,
                "bfloat16" if "bfloat16" in peak else "float32",
                f"{model['load']:.0f}",
            ]
        )
    columns = ["", "warm click / its passes", "encoder / warm click", "slices a second"]
    return Table([*columns, "share of the matrix product", "type", "load"], rows, 1)


def volume_table(results: Mapping[str, Any]) -> Table:
    """A warm click of the shipped model in volumes of several sizes."""
    rows = [
        [
            " x ".join(map(str, row["shape"])),
            _milliseconds(row["warm click"]),
            _milliseconds(row["its forward passes"]),
            f"{row['warm click'] / row['its forward passes']:.2f}",
        ]
        for row in results["volumes"]
    ]
    return Table(["volume", "warm click, ms", "its forward passes, ms", "ratio"], rows, 1)


def command_table(results: Mapping[str, Any]) -> Table:
    """Until a command answers, before and now: medians of seconds, and of the ratios of the pairs.

    Args:
        results: ``start``, pairs of runs, each thing with ``before`` and ``now``, of these ``clock`` and ``processor``.
    """
    pairs: Sequence[Mapping[str, Any]] = results["start"]
    rows = []
    for thing in (name for name in pairs[0] if name != "load"):
        cells = [thing]
        for kind in ("processor", "clock"):
            before, now = ([pair[thing][when][kind] for pair in pairs] for when in ("before", "now"))
            ratio = median(a / b for a, b in zip(before, now, strict=True))
            cells += [f"{median(before):.1f}", f"{median(now):.1f}", f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"]
        rows.append(cells)
    columns = [f"{kind}, {what}" for kind in ("processor", "clock") for what in ("before", "now", "ratio")]
    return Table(["seconds", *columns], rows, 1)


def worker_table(results: Mapping[str, Any]) -> Table:
    """A folder of studies by one worker and by two: a row for each pair of runs.

    Args:
        results: ``workers``, pairs of runs, by number of workers ``clock`` and of each worker ``processor``; ``load``
            and ``studies``.
    """
    rows = []
    for number, pair in enumerate(results["workers"], start=1):
        one, two = pair["1"], pair["2"]
        longest = max(two["processor"])
        rows.append(
            [
                str(number),
                str(pair["studies"]),
                f"{pair['load']:.0f}",
                f"{one['processor'][0]:.0f}",
                f"{longest:.0f}",
                f"{one['processor'][0] / longest:.2f}",
                f"{one['clock']:.0f}",
                f"{two['clock']:.0f}",
                f"{one['clock'] / two['clock']:.2f}",
            ]
        )
    columns = [f"{kind}, {what}" for kind in ("processor", "clock") for what in ("one worker", "two", "ratio")]
    return Table(["pair", "studies", "load", *columns], rows, 3)


def _in_order(things: Sequence[str]) -> list[str]:
    """Ours first, the others' ways behind."""
    return sorted(things, key=lambda thing: ":" in thing)


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:,.1f}" if seconds < 0.1 else f"{1000 * seconds:,.0f}"


def batch_table(results: Mapping[str, Any]) -> Table:
    """Milliseconds of one of several objects in a forward pass, see scripts/benchmark_batches.py."""
    families: Mapping[str, Mapping[str, float]] = results["families"]
    counts = list(next(iter(families.values())))
    columns = ["ms of an object", *(f"{count} in a pass" for count in counts)]
    return Table(
        columns, [[name, *(_milliseconds(one[count]) for count in counts)] for name, one in families.items()], 1
    )
