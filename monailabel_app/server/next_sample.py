"""Which image an annotator gets next, and the note that it was given."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.errors import RequestError
from monailabel_app.server.uploads import check_names_in_address
from monailabel_app.wire.json_values import STRATEGY, check_json

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"], dependencies=[Depends(check_names_in_address)])
_LONGEST_CLIENT = 200  # letters of a client's name that are kept


class RandomUnlabelled(Strategy):
    """A random image without a label; the longer ago one was given out, the likelier it is."""

    def __init__(self) -> None:
        super().__init__("Random image without a label")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The id of an image, None if all are labelled."""
        images = datastore.get_unlabeled_images()
        if not images:
            return None
        now = time.time()
        given = (_given_at(datastore.get_image_info(image), request[STRATEGY]) for image in images)
        # One that was given out this second can still be drawn: it may be the only one.
        waits = [now - min(max(when, 0.0), now - 1) for when in given]
        chosen = random.choices(range(len(images)), weights=waits)[0]
        return {"id": images[chosen], "weight": waits[chosen]}


@router.post("/{strategy}")
def next_sample(strategy: str, params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
    """The next image for this client; empty if none is left."""
    params = params or {}
    check_json(params, "the body")
    app = app_instance()
    sample = app.next_sample({**params, STRATEGY: strategy})
    if not sample:
        return {}
    info = app.datastore().get_image_info(sample["id"])
    client = params.get("client_id")
    note = {"ts": int(time.time()), "client_id": None if client is None else str(client)[:_LONGEST_CLIENT]}
    info[STRATEGY] = {**_notes(info), strategy: note}
    try:
        app.datastore().update_image_info(sample["id"], {STRATEGY: info[STRATEGY]})
    except (RequestError, MONAILabelException, OSError) as error:  # it can be given to two people; both can work on it
        logger.warning("It was not noted that the image %r was given out: %s", sample["id"], error)
    return {**sample, **info}


def _notes(info: Mapping[str, Any]) -> dict[str, Any]:
    notes = info.get(STRATEGY)
    return notes if isinstance(notes, dict) else {}


def _given_at(info: Mapping[str, Any], strategy: str) -> float:
    note = _notes(info).get(strategy)
    given = note.get("ts") if isinstance(note, dict) else None
    return float(given) if isinstance(given, (int, float)) else 0.0
