"""The MONAI Label app: promptable segmentation on one slice (sam_2d) or in the volume (sam_3d)."""

from __future__ import annotations

import logging
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

import bundle
from bundle.interactive.segmenter import Segmenter
from monailabel_app.datastore.address import is_dicomweb
from monailabel_app.datastore.dicomweb_store import store_at
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.jobs import Job
from monailabel_app.learning.learner import Learner
from monailabel_app.learning.options import TRAINER
from monailabel_app.learning.settings import LearningSettings
from monailabel_app.learning.task import FinetuneTask
from monailabel_app.strategies.assignments import Assignments
from monailabel_app.strategies.places import AcceptedPlaces
from monailabel_app.strategies.pool import Images
from monailabel_app.strategies.scoring import METHOD, PredictionScores, Scorer
from monailabel_app.strategies.strategies import all_strategies
from monailabel_app.tasks.kept import OPTIONS as KEPT
from monailabel_app.tasks.kept import Kept
from monailabel_app.tasks.offered import offered_tasks, read_models
from monailabel_app.tasks.open_images import ImageSessions
from monailabel_app.wire.fields import read_modality
from monailabel_app.wire.labels import read_label_names

logger = logging.getLogger(__name__)

OPTIONS = {
    *("family", "checkpoint", "device", "engine", "labels", "models", "modality"),
    *KEPT,
    *("learning", "learn_while_annotating"),
}


class MonaiSam(MONAILabelApp):
    """Options (``--conf name value``): family, checkpoint, device, engine (auto, torch, openvino), labels and models
    (names with commas between them), modality, sessions (the folder that keeps them, or "off"), session_days, prepared
    (the folder of prepared slices, or "off"), prepared_gb (how many GiB of them), learning (the folder of trainings and
    versions of the network, or "off"), learn_while_annotating ("on" or "off"; by default on for a folder).

    Attributes:
        kept: what is kept on disk of the images that people work on.
        learner: trains on accepted labels; None where the server does not learn.
        assignments: who works on which image.
        accepted: what accepted labels say.
        scorer: keeps the scores that strategies read up to date.
        batch: a model over many images.

    Raises:
        ValueError: an unknown option or modality, a family or checkpoint that cannot be loaded.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        names = read_label_names(conf.get("labels"))
        if unknown := sorted(set(conf) - OPTIONS):
            raise ValueError(f"unknown option {unknown[0]!r} in --conf; this app knows {', '.join(sorted(OPTIONS))}")
        self._modality, self._models = read_modality(conf), read_models(conf.get("models"))
        self.kept = Kept.of(conf)
        learning = LearningSettings.of(conf, studies)
        if learning is None:
            self.learner = None
            self._segmenter = Segmenter.from_family(
                conf.get("family", "default"),
                checkpoint=conf.get("checkpoint"),
                device=conf.get("device"),
                engine=conf.get("engine", "auto"),
                store=self.kept.prepared,
            )
        else:
            self.learner = Learner(learning, self.datastore, prepared=self.kept.prepared, served=self._serve)
            self._segmenter = self.learner.segmenter
        self.assignments = Assignments()
        self.accepted = AcceptedPlaces(modality=self._modality)
        self.batch = Job("batch")
        self.scorer = Scorer(lambda: self._segmenter.predictor, self.accepted, modality=self._modality)
        # A list, not a mapping: OHIF appends to it.
        super().__init__(
            app_dir,
            studies,
            conf,
            name="monai-sam",
            description="Segment Anything for medical images",
            version=bundle.__version__,
            labels=names,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """The tasks; they share their open images."""
        sessions = self._images = ImageSessions(self._segmenter, modality=self._modality, kept_in=self.kept.sessions)
        logger.info("%s", self.kept)
        logger.info("Model family: %s, run by %s", self._segmenter.family.name, self._segmenter.engine)
        return offered_tasks(
            self._models, sessions, names=self.labels, accepted=self.accepted, datastore=self.datastore
        )

    def info(self) -> dict[str, Any]:
        """What clients are told of the app, and what runs its network."""
        return {**super().info(), "engine": self._segmenter.engine}

    def init_trainers(self) -> dict[str, TrainTask]:
        """The one that tunes the network on accepted labels."""
        return {} if self.learner is None else {TRAINER: FinetuneTask(self.learner)}

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """MONAI Label's hook: a label was saved, perhaps one that is learnt from."""
        if self.learner is not None:
            self.learner.accepted()

    def _serve(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._images.switch(segmenter)
        self.scorer.renew(self.datastore())

    def held(self) -> dict[str, int]:
        """The number of open images, bytes of their voxels and of prepared slices, and bytes of those on disk."""
        prepared = self.kept.prepared
        return {
            "open_images": len(self._images),
            "cache_bytes": self._images.nbytes + prepared.held_bytes,
            "disk_bytes": prepared.disk_bytes,
        }

    def init_datastore(self) -> Datastore:
        """A folder of studies, or a DICOMweb server."""
        if is_dicomweb(self.studies):
            if settings.MONAI_LABEL_DATASTORE:  # XNAT or DSA: MONAI Label's own
                return super().init_datastore()
            return store_at(self.studies)
        return StudyFolder(
            self.studies,
            patterns=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_strategies(self) -> dict[str, Strategy]:
        """How the next image is chosen."""
        return all_strategies(Images(self.assignments, lambda: self._segmenter.predictor.identity))

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """What strategies read."""
        return {METHOD: PredictionScores(self.scorer)}

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """MONAI Label's hook after a next sample and a training, which would start a process: ``scorer`` does it."""
        return {}

    def _load_sessions(self, load: bool = False) -> SessionFolder | None:
        """MONAI Label's hook for the sessions' folder; None where they are switched off."""
        if not load:
            return None
        return SessionFolder(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY)
