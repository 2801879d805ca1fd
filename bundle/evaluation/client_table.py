"""The table of what another project's client got from our server (scripts/nninteractive_client.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.evaluation.tables import Table


def client_table(results: Mapping[str, Any]) -> Table:
    """A row for each organ and start.

    Args:
        results: ``rows`` of organ, start, DSC and seconds of the start and each click, and the DSC with a server that
            was killed between (``after_crash``); ``forward_seconds`` of one answer of the network on one slice.
    """
    most = max(len(row["dsc"]) for row in results["rows"])
    columns = ["organ", "start", "DSC", *(f"click {number}" for number in range(1, most))]
    columns += ["server killed", "start: passes", "click: passes"]
    rows = []
    for row in results["rows"]:
        scores = [f"{value:.3f}" for value in row["dsc"]] + ["-"] * (most - len(row["dsc"]))
        passes = [seconds / results["forward_seconds"] for seconds in row["seconds"]]
        clicks = f"{np.mean(passes[1:]):.0f}" if passes[1:] else "-"
        same = "same" if row["after_crash"] == row["dsc"] else f"{row['after_crash'][-1]:.3f}"
        rows.append([row["organ"], row["start"], *scores, same, f"{passes[0]:.0f}", clicks])
    return Table(columns, rows, 2)
