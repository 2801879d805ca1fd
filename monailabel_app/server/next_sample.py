"""Which image an annotator gets next, and the note that it was given."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import APIRouter, Body, Depends, Request
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.datastore.dicomweb_store import DicomWebStore
from monailabel_app.errors import RequestError
from monailabel_app.server.uploads import check_names_in_address
from monailabel_app.server.users import user_of
from monailabel_app.strategies.assignments import USER, Assignments, notes_of
from monailabel_app.strategies.pool import note_image
from monailabel_app.strategies.scoring import Scorer
from monailabel_app.strategies.strategies import READS_SCORES
from monailabel_app.wire import fields as wire
from monailabel_app.wire.json_values import STRATEGY, check_json

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"], dependencies=[Depends(check_names_in_address)])
_LONGEST_CLIENT = 200  # letters of a client's name that are kept


@runtime_checkable
class Assigns(Protocol):
    """An app that knows who works on what."""

    assignments: Assignments


@runtime_checkable
class Scores(Protocol):
    """An app that scores images."""

    scorer: Scorer


@router.post("/{strategy}")
def next_sample(
    http: Request, strategy: str, params: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """The next image for this client; empty if none is left that nobody else works on. It waits for no score."""
    params = params or {}
    check_json(params, "the body")
    app = app_instance()
    # A DICOMweb server would have to send every series to be scored; it does where that is asked: POST /scoring/.
    if strategy in READS_SCORES and isinstance(app, Scores) and not isinstance(app.datastore(), DicomWebStore):
        app.scorer.keep(http.app.state.queue, app.datastore())
    user = user_of(http, params)
    if not isinstance(app, Assigns):
        return _chosen(app, strategy, params, user)
    with app.assignments.choosing:
        sample = _chosen(app, strategy, params, user)
        if sample:
            app.assignments.work(sample["id"], user)
        return sample


def renew_scores(app: MONAILabelApp) -> None:
    """Let the scores that strategies read follow what has just changed: the accepted labels, or the images."""
    if isinstance(app, Scores):
        app.scorer.renew(app.datastore())


def note_work(app: MONAILabelApp, image: str, user: str) -> None:
    """Note that somebody works on an image of the datastore, which is then not given to others."""
    if image and isinstance(app, Assigns):
        app.assignments.work(image, user)


def _chosen(app: MONAILabelApp, strategy: str, params: Mapping[str, Any], user: str) -> dict[str, Any]:
    """The image that a strategy chooses, noted in the index, with what is known about it."""
    sample = app.next_sample({**params, wire.USER: user, STRATEGY: strategy})
    if not sample:
        return {}
    info = app.datastore().get_image_info(sample["id"])
    client = params.get(wire.CLIENT_ID)
    note = {"ts": int(time.time()), "client_id": None if client is None else str(client)[:_LONGEST_CLIENT], USER: user}
    info[STRATEGY] = {**notes_of(info), strategy: note}
    try:
        note_image(app.datastore(), sample["id"], {STRATEGY: info[STRATEGY]})
    except (RequestError, MONAILabelException, OSError) as error:  # after a restart it can be given to a second person
        logger.warning("It was not noted that the image %r was given out: %s", sample["id"], error)
    return {**sample, **info}
