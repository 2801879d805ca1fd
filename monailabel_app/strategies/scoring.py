"""The scores that strategies read: made in the background, kept in the index, named by the model that made them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from bundle.active.asking import ANYTHING
from bundle.active.places import Place
from bundle.active.scores import ImageScores, score_image
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.datastore.reading import read_stored
from monailabel_app.jobs import Job
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.strategies.pool import SCORES, note_image, scores_of
from monailabel_app.work import WorkQueue, checkpoint, turn

logger = logging.getLogger(__name__)

METHOD = "predictions"


class Scorer:
    """Scores the images of a datastore that are not scored by the model that is served.

    Args:
        predictor: the model that is served now.
        accepted: what to ask for.
        modality: of every image; None is what its file says.
    """

    def __init__(
        self, predictor: Callable[[], SlicePredictor], accepted: AcceptedPlaces, *, modality: str | None = None
    ) -> None:
        self._predictor, self._accepted, self._modality = predictor, accepted, modality
        self.job = Job("scoring")
        self._kept_by: WorkQueue | None = None

    def wake(self, queue: WorkQueue, datastore: Datastore) -> None:
        """Bring the scores up to date in the background; returns at once.

        Args:
            queue: of the device; clicks go first.
            datastore: whose images; each that has to be scored is fetched.
        """
        self.job.start(queue, lambda: self.missing(datastore), lambda image: self.score(image, datastore))

    def keep(self, queue: WorkQueue, datastore: Datastore) -> None:
        """The same for a strategy that reads the scores: from here on ``renew`` brings them up to date again."""
        self._kept_by = queue
        self.wake(queue, datastore)

    def renew(self, datastore: Datastore) -> None:
        """Bring them up to date, as after a label was accepted or another model is served, if a strategy reads them."""
        if self._kept_by is not None:
            self.wake(self._kept_by, datastore)

    def stop(self) -> None:
        """Stop after the question that is being asked; a strategy may start it again."""
        self._kept_by = None
        self.job.stop()

    def missing(self, datastore: Datastore) -> list[str]:
        """The images whose scores are missing or out of date, those without a label first."""
        model, places = self._predictor().identity, self._accepted.places(datastore)
        images = [*datastore.get_unlabeled_images(), *datastore.get_labeled_images()]
        return [one for one in images if not _is_current(scores_of(datastore.get_image_info(one)), model, places)]

    def score(self, image: str, datastore: Datastore) -> ImageScores:
        """Score one image and note it in the index.

        Raises:
            VolumeError: the image cannot be read.
            RequestError: the index cannot be changed, or the job was stopped.
        """
        predictor, places = self._predictor(), self._accepted.places(datastore)
        volume = read_stored(datastore, image, modality=self._modality)
        with turn(("scoring", image)):
            scores = score_image(volume, predictor, places, progress=checkpoint)
        note_image(datastore, image, {SCORES: scores.to_json()})
        return scores


class PredictionScores(ScoringMethod):
    """How MONAI Label's interface shows the scorer; the server's route ``/scoring/`` runs it in the background."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__("What the model says of images: entropy, disagreement, predicted IoU, foreground, features")
        self._scorer = scorer

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what is missing now, without a queue; returns how many images."""
        missing = self._scorer.missing(datastore)
        for image in missing:
            self._scorer.score(image, datastore)
        return {"scored": len(missing)}


def _is_current(scores: ImageScores | None, model: str, places: Mapping[str, Place]) -> bool:
    """Whether scores are of this model, and of the structures that are known now."""
    if scores is None or scores.model != model:
        return False
    return set(scores.structures) == set(places) if places else set(scores.structures) <= {ANYTHING}
