"""What a job's process is asked, and whether one that was begun goes on or begins anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from bundle.files import read_json, write_text
from monailabel_app.learning.jobs import BEFORE, Job, forget_everything

logger = logging.getLogger(__name__)

_LABELS = ("accepted", "sides")
_PRIVATE = 0o600


def write_request(job: Job, asked: Mapping[str, Any], labels: Callable[[], Mapping[str, Any]]) -> None:
    """Write ``request.json`` of a job.

    One that goes on keeps the labels that it began with, and is judged against what is served now. Begun by a server
    with another network or version of this package, it begins anew: what it has made belongs to that network.

    Args:
        job: that is to run.
        asked: what ``job.Request`` has beside the labels.
        labels: gives ``accepted`` and ``sides`` of the labels that are accepted now.
    """
    path = job.folder / "request.json"
    begun = read_json(path) if path.is_file() else None
    if begun is not None and any(begun[name] != asked[name] for name in ("family", "replay")):
        logger.warning("The training %s was begun with another network, and begins anew", job.id)
        forget_everything(job)
        begun = None
    if begun is not None and begun["active"] != asked["active"]:
        (job.folder / BEFORE).unlink(missing_ok=True)
    kept = labels() if begun is None else {name: begun[name] for name in _LABELS}
    write_text(path, json.dumps({**asked, **kept}), mode=_PRIVATE)
