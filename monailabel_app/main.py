"""The MONAI Label app: promptable segmentation on one slice (sam_2d) or in the volume (sam_3d)."""

from __future__ import annotations

import logging
from pathlib import Path

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

import bundle
from bundle.interactive.segmenter import Segmenter
from monailabel_app.datastore.session_folder import SessionFolder
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.datastore.study_index import repair_indexes
from monailabel_app.learning.learner import Learner
from monailabel_app.learning.options import TRAINER
from monailabel_app.learning.settings import LearningSettings
from monailabel_app.learning.task import FinetuneTask
from monailabel_app.server.next_sample import RandomUnlabelled
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions, Keeper
from monailabel_app.wire.fields import read_modality
from monailabel_app.wire.labels import read_label_names

logger = logging.getLogger(__name__)

OPTIONS = {
    *("family", "checkpoint", "device", "labels", "modality"),
    *("sessions", "session_days", "learning", "learn_while_annotating"),
}


class MonaiSam(MONAILabelApp):
    """Options (``--conf name value``): family, checkpoint, device, labels (names with commas between them), modality,
    sessions (the folder that keeps them, or "off"), session_days, learning (the folder of trainings and versions of the
    network, or "off"), learn_while_annotating ("on", or "off").

    Attributes:
        learner: trains on accepted labels; None where the server does not learn.

    Raises:
        ValueError: an unknown option or modality, a family or checkpoint that cannot be loaded.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        names = read_label_names(conf.get("labels"))
        if unknown := sorted(set(conf) - OPTIONS):
            raise ValueError(f"unknown option {unknown[0]!r} in --conf; this app knows {', '.join(sorted(OPTIONS))}")
        self._modality = read_modality(conf)
        self._keeper = Keeper.of(conf)
        learning = LearningSettings.of(conf, studies)
        if learning is None:
            self.learner, family = None, conf.get("family", "default")
            self._segmenter = Segmenter.from_family(
                family, checkpoint=conf.get("checkpoint"), device=conf.get("device")
            )
        else:
            self.learner = Learner(learning, self.datastore, served=self._serve)
            self._segmenter = self.learner.segmenter
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
        """The two tasks; they share their open images."""
        sessions = self._images = ImageSessions(self._segmenter, modality=self._modality, keeper=self._keeper)
        if self._keeper is not None:
            self._keeper.purge()
            logger.info("Sessions are kept in %s for %g days", self._keeper.folder, self._keeper.days)
        logger.info("Model family: %s", self._segmenter.family.name)
        return {
            "sam_2d": SamTask(sessions, dimension=2, names=self.labels),
            "sam_3d": SamTask(sessions, dimension=3, names=self.labels),
        }

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

    def held(self) -> dict[str, int]:
        """What is kept in memory: the number of open images, the bytes of their voxels and of prepared slices."""
        prepared = self._segmenter.predictor.store.held_bytes
        return {"open_images": len(self._images), "cache_bytes": self._images.nbytes + prepared}

    def init_datastore(self) -> Datastore:
        """A folder, or what MONAI Label makes of a DICOMweb address: a cache with an index like that of a folder."""
        if self.studies.startswith(("http://", "https://")):
            cache = settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or Path.home() / ".cache/monailabel/dicom"
            repair_indexes(Path(cache))
            return super().init_datastore()
        return StudyFolder(
            self.studies,
            patterns=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_strategies(self) -> dict[str, Strategy]:
        """How the next image is chosen."""
        return {"random": RandomUnlabelled()}

    def _load_sessions(self, load: bool = False) -> SessionFolder | None:
        """MONAI Label's hook for the sessions' folder; None where they are switched off."""
        if not load:
            return None
        return SessionFolder(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY)
