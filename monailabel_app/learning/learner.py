"""What the app knows of learning: who asks for a training, what comes of it, and which network is served."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monailabel.interfaces.datastore import Datastore

import bundle
from bundle.engines.cache import PreparedCache
from bundle.errors import MonaiSamError
from bundle.families.family import find_weights
from bundle.files import read_json, sha256_of
from bundle.interactive.segmenter import Segmenter
from monailabel_app.errors import RequestError
from monailabel_app.learning.accepted import accepted_labels, count_accepted
from monailabel_app.learning.begun import write_request
from monailabel_app.learning.jobs import ASKED, BACKGROUND, RUNNING, STOPPED, SUBMITTED, Job, Jobs, forget_material
from monailabel_app.learning.material import split_patients
from monailabel_app.learning.options import BACKGROUND as BACKGROUND_OPTIONS
from monailabel_app.learning.options import read_options
from monailabel_app.learning.runner import Runner
from monailabel_app.learning.settings import LearningSettings
from monailabel_app.learning.versions import Version, Versions
from monailabel_app.work import rest

logger = logging.getLogger(__name__)

_FOLLOW = 1.0  # seconds between two looks at what another server has published
SETTLED = 60.0  # seconds without another save: what was just submitted is often corrected at once
_EVERY = 5  # labels between two trainings in the background, after that on the first
_MOST = 50  # labels up to which it trains by itself: reading more takes longer than the budget of such a training


class Learner:
    """Trainings and versions of one folder of studies.

    Args:
        settings: see there.
        store: gives the datastore.
        prepared: what is prepared of slices, by the digest of the network that did it: one store serves all versions.
        served: called with each network that is to answer from now on.
        runner: of the jobs; only tests give another.
    """

    def __init__(
        self,
        settings: LearningSettings,
        store: Callable[[], Datastore],
        *,
        prepared: PreparedCache | None = None,
        served: Callable[[Segmenter], object] = lambda segmenter: None,
        make_runner: Callable[..., Runner] = Runner,
    ) -> None:
        self.settings, self._store, self._served = settings, store, served
        self._prepared = prepared or PreparedCache(idle=rest)
        family, checkpoint = settings.family, settings.checkpoint
        self.base = find_weights(Path(checkpoint) if checkpoint else family)
        self._base_id = sha256_of(self.base)[:16]
        self.versions = Versions(settings.folder / "versions" / self._base_id, self.base)
        self.jobs = Jobs(settings.folder / "jobs")
        self.cores = min(2, os.cpu_count() or 1)
        self._busy: Callable[[], bool] = lambda: False
        self._runner = make_runner(
            self.jobs,
            busy=lambda: self._busy(),
            prepare=self._prepare,
            finish=self._finish,
            idle=self._idle,
            cores=self.cores,
        )
        self._alone = FileLock(settings.folder / ".lock", thread_local=False)  # requests have threads of their own
        self._following = threading.Lock()  # held while another network is loaded
        self._closing = threading.Event()
        self._waiting: threading.Thread | None = None  # of a server beside the one that trains
        self._saved_at: float | None = time.monotonic()  # what was accepted while no server ran counts too
        self._segmenter = self._load_active()

    # ---- the network ------------------------------------------------------------------------------------------------

    @property
    def segmenter(self) -> Segmenter:
        """The network that is served."""
        return self._segmenter

    @property
    def version(self) -> int:
        """Its version."""
        return self._version.number

    def activate(self, number: int) -> Version:
        """Serve another version, as one from before.

        Raises:
            RequestError: there is none, or it is damaged.
        """
        version = self.versions.activate(number)
        self._follow()
        return version

    def _load_active(self) -> Segmenter:
        """The network of the version that is to be served; that of the base where it cannot be loaded."""
        version = self._seen = self.versions.active()  # looked at once: it may be another one when this is loaded
        try:
            segmenter = self._load(version.checkpoint if version.number else self.settings.checkpoint)
        except MonaiSamError as error:
            if not version.number:
                raise
            logger.warning("Version %d cannot be served, version 0 is: %s", version.number, error)
            segmenter, version = self._load(self.settings.checkpoint), Version(0, self.base)
        self._version = version
        logger.info("Version %d of the network is served", version.number)
        return segmenter

    def _load(self, checkpoint: str | Path | None) -> Segmenter:
        settings = self.settings
        return Segmenter.from_family(
            settings.family,
            checkpoint=checkpoint,
            store=self._prepared,
            device=settings.device,
            engine=settings.engine,
        )

    def _follow(self) -> None:
        """Serve the version that the folder names, which another server may have changed."""
        with self._following:  # else the one that is loaded first may be served last
            if self.versions.active() is not self._seen:
                self._segmenter = self._load_active()
                self._served(self._segmenter)

    # ---- trainings --------------------------------------------------------------------------------------------------

    def start(self, busy: Callable[[], bool]) -> None:
        """Begin to train, and go on with what an earlier server left undone; beside another server once that has ended.

        Args:
            busy: whether anybody waits for an answer now.
        """
        self._busy = busy
        if not self._begin_to_train():
            logger.warning("Another server trains in %s; this one serves what comes of it", self.settings.folder)
            self._waiting = threading.Thread(target=self._wait_to_train, name="following", daemon=True)
            self._waiting.start()

    def close(self) -> None:
        """End what runs; the next server goes on with it."""
        self._closing.set()
        if self._waiting is not None:
            self._waiting.join()
        if self._alone.is_locked:
            self._runner.close()
            self._alone.release()

    def accepted(self) -> None:
        """Somebody has saved a label."""
        self._saved_at = time.monotonic()

    def submit(self, request: Mapping[str, Any], *, by: str | None = None, enqueue: bool = False) -> Job:
        """Ask for a training.

        Args:
            request: the options of a client.
            by: account that asks.
            enqueue: wait behind another training, instead of being refused.

        Raises:
            RequestError: an option that cannot be used, no accepted label, nothing to go on with (400), or another
                training runs (429), or another server trains these studies (409).
        """
        options = read_options(request)
        self._check_trains()
        if self._runner.waiting() and not enqueue:
            raise RequestError("a training runs already; wait for it, or stop it: DELETE /train/", status=429)
        if options["resume"]:
            job = self._resumed()
        else:
            count = count_accepted(self._store())
            if not count:
                raise RequestError("no label is accepted yet: submit one (tag final), then train")
            job = self.jobs.add(ASKED, options, by=by, labels=count)
        self._runner.wake()
        return job

    def stop(self) -> Job:
        """Stop what runs and what waits; ``resume`` goes on with it.

        Raises:
            RequestError: nothing runs (404), or another server trains these studies (409).
        """
        self._check_trains()
        job = self._runner.stop()
        if job is None:
            raise RequestError("no training runs", status=404)
        return job

    def status(self, *, everything: bool = False, only_running: bool = False) -> Any:
        """What clients see of the last training, of all, or of one that runs.

        Raises:
            RequestError: there is none (404).
        """
        jobs = self._runner.waiting() if only_running else self.jobs.all()
        if not jobs:
            raise RequestError(f"no training {'runs' if only_running else 'was asked for yet'}", status=404)
        return [job.told() for job in jobs] if everything else jobs[0 if only_running else -1].told()

    def share_done(self) -> float | None:
        """How much of the training that runs is done, 0 to 1; None where none runs."""
        running = [job for job in self.jobs.all() if job.state == RUNNING]
        return (running[0].told()["training"] or {}).get("share", 0.0) if running else None

    def last_result(self) -> tuple[Job, dict[str, Any]] | None:
        """The last training that was judged, and what the gate said."""
        judged = [job for job in self.jobs.all() if (job.folder / "result.json").is_file()]
        return (judged[-1], read_json(judged[-1].folder / "result.json")) if judged else None

    def _begin_to_train(self) -> bool:
        try:
            self._alone.acquire(timeout=0)
        except Timeout:
            return False
        self._runner.start()
        return True

    def _wait_to_train(self) -> None:
        """Follow the server that trains, until it ends and this one can."""
        while not self._closing.wait(_FOLLOW):
            try:
                self._follow()
                if self._begin_to_train():
                    return
            except Exception:  # a defect of ours must not end the thread; the next look may do better
                logger.exception("The server that trains cannot be followed")

    def _check_trains(self) -> None:
        if not self._alone.is_locked:
            raise RequestError("another server trains these studies; ask that one", status=409)

    def _resumed(self) -> Job:
        stopped = [job for job in self.jobs.all() if job.state == STOPPED]
        if not stopped:
            raise RequestError("no training was stopped; ask for a new one with resume false")
        return stopped[-1].changed(state=SUBMITTED, ended=None)

    def _prepare(self, job: Job) -> None:
        """Write down what a job's process needs."""
        asked = {
            "options": dict(job.options),
            "family": self.settings.family,
            "base": str(self.base),
            "active": str(self._version.checkpoint),
            "cores": self.cores,
            "device": self.settings.device,
            "replay": str(self.settings.folder / f"phantoms-{self._base_id}-{bundle.__version__}.json"),
        }
        write_request(job, asked, self._labels)

    def _labels(self) -> dict[str, Any]:
        """The labels that are accepted now, and which side their patients are on."""
        accepted = [label.to_json() for label in accepted_labels(self._store(), modality=self.settings.modality)]
        sides = split_patients([label["patient"] for label in accepted], self.settings.folder / "split.json")
        return {"accepted": accepted, "sides": sides}

    def _finish(self, job: Job) -> Job:
        """Publish what a job has made, if it was judged good enough; also after a server was killed at that."""
        result = read_json(job.folder / "result.json")
        if result["accepted"]:
            told = {name: result[name] for name in ("dsc", "nsd", "labels", "share", "structures")}
            version = self.versions.publish(job.folder / "candidate.safetensors", {"job": job.id, **told})
            self._follow()
            job = job.changed(version=version.number)
        forget_material(job)
        return job

    # ---- by itself --------------------------------------------------------------------------------------------------

    def _idle(self) -> None:
        self._follow()
        if self.settings.automatic and self._saved_at is not None and time.monotonic() - self._saved_at > SETTLED:
            self._saved_at = None
            try:
                self.learn_if_due()
            except (MonaiSamError, OSError) as error:  # a DICOMweb server that is away; the next look may do better
                self._saved_at = time.monotonic()
                logger.warning("It cannot be seen how many labels are accepted: %s", error)

    def learn_if_due(self) -> Job | None:
        """Ask for a training in the background after the first accepted label, the fifth, and each fifth from there."""
        count = count_accepted(self._store())
        before = max((job.labels for job in self.jobs.all()), default=0)
        if _milestone(count) <= _milestone(before):
            return None
        if count > _MOST:
            logger.info("%d labels are accepted: from %d on the network is tuned only when asked", count, _MOST + 1)
            return None
        logger.info("%d labels are accepted: the network is tuned in the background", count)
        return self.jobs.add(BACKGROUND, read_options(BACKGROUND_OPTIONS), labels=count)


def _milestone(count: int) -> int:
    return max(min(count, 1), count // _EVERY * _EVERY)
