"""The trainer that clients find under ``/info/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from monailabel_app.learning.gate import HELD_OUT, REPLAY
from monailabel_app.learning.learner import Learner
from monailabel_app.learning.options import OPTIONS, option_table


class FinetuneTask(TrainTask):
    """Fine-tuning on the accepted labels."""

    def __init__(self, learner: Learner) -> None:
        super().__init__("Tunes the network on the accepted labels; it is used only if it is not worse than before")
        self._learner = learner

    def info(self) -> dict[str, Any]:
        """Description and options: ``config`` as Slicer and OHIF show them, ``options`` with types and ranges."""
        options = {name: option.told() for name, option in OPTIONS.items()}
        return {**super().info(), "options": options, "version": self._learner.version}

    def config(self) -> dict[str, Any]:
        """The table of options that Slicer shows."""
        return option_table()

    def stats(self) -> dict[str, Any]:
        """The last training that was judged, and how far one is that runs.

        Slicer draws ``best_metric``, and ``epoch`` of ``total_epochs`` where there is no ``total_time``.
        """
        last, stats = self._learner.last_result(), {}
        if last is not None:
            job, result = last
            stats = {
                "best_metric": result["dsc"]["after"],
                "total_time": f"{(job.ended or 0) - (job.started or 0):.0f} s",
                "version": job.version,
                **{name: result[name] for name in ("dsc", "nsd", "held_out", "labels", "accepted", "reasons")},
                **{name: _means(result[name]) for name in ("before", "after")},
            }
        share = self._learner.share_done()
        if share is not None:
            stats.pop("total_time", None)
        elif not stats:
            return {}
        percent = 100 if share is None else round(100 * share)
        return {**stats, "epoch": percent, "total_epochs": 100}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """MONAI Label's own way of training, in the process that calls: ask for a job, as ``POST /train/`` does."""
        return self._learner.submit(request).told()


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a network was scored with, without the single objects and the shapes beside them."""
    kept = ("part", "structure", "prompt", "objects", "dsc", "nsd")
    return [{name: row[name] for name in kept} for row in rows if row["part"] in (HELD_OUT, REPLAY)]
