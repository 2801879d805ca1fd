"""The one loop of an evaluation: slices and volumes, with prompts and without, going on after an interruption.

Several workers that share a folder, as `torchrun` starts them, share the images out, and each returns all records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bundle.evaluation.cases import Case, Cases
from bundle.evaluation.interaction import Interaction, Predict, Prediction, run_protocol
from bundle.evaluation.metrics import evaluate_label_map
from bundle.evaluation.protocols import PromptProtocol, object_rng
from bundle.evaluation.records import Records, RunFolder, StoredPrompts, interaction_records
from bundle.interactive.slice_model import SlicePrompt

AUTOMATIC = "automatic"


@dataclass(frozen=True)
class EvaluationSettings:
    """What has to be the same for a run to go on.

    Attributes:
        protocols: names, for the record; the protocols themselves are passed along.
        seed: decides every prompt that is drawn.
        tolerance: of NSD, in the unit of distance; one for all, or one for each organ.
        pixels_of: distances are in pixels of a picture with this longer side, whatever the slice's own size; None is
            millimetres, as volumes always have.
        model: identity of the weights, so that an interrupted run never goes on with others.
        data: identity of what is evaluated, for the same reason.
        replayed: whether the prompts are another run's.
    """

    protocols: tuple[str, ...]
    seed: int = 0
    tolerance: float | Mapping[str, float] = 2.0
    pixels_of: float | None = 256.0
    model: str = ""
    data: str = ""
    replayed: bool = False


@dataclass(frozen=True, eq=False)
class Played:
    """All interactions with one object by one protocol; `truth` is bool, empty where a model invented the object."""

    organ: str
    protocol: str
    truth: np.ndarray
    interactions: list[Interaction]


class User(Protocol):
    """Who works on an image."""

    def __call__(self, key: str, case: Case) -> Iterator[Played]:
        """What is asked of each object of a case, and what comes of it; `key` names the case."""


def evaluate(user: User, cases: Cases, *, folder: Path, settings: EvaluationSettings) -> Records:
    """Let a user work on every case, and continue a run that was interrupted.

    Of each last answer a mask is kept, of a volume the slice that holds the object's middle voxel.

    Args:
        user: `Prompting`, or `NotPrompting` for models without prompts.
        cases: by key.
        folder: of the run; made where it is missing.
        settings: see there.

    Returns:
        One record for each interaction, in the order of the cases; also in `records.csv`.

    Raises:
        RunStateError: the folder holds a run with other settings.
    """
    run = RunFolder(folder, settings)
    for position, key, open_case in run.remaining(cases.items()):
        if (case := run.open_case(position, key, open_case)) is None:
            continue
        records: Records = []
        for played in user(key, case):
            run.show(f"{played.organ}, {played.protocol}")
            last = played.interactions[-1].answer.mask
            place = case.place(played.truth if played.truth.any() else last)
            about = {"key": key, "case": case.patient, "organ": played.organ, "protocol": played.protocol}
            records += interaction_records({**about, **place}, played.interactions)
            run.write_mask(key, played.organ, played.protocol, case.section(last, place))
        run.finish(position, key, records)
    return run.close()


OpenCase = Callable[[Case], Predict]
"""Opens a case for prompts; see `models`."""


@dataclass(frozen=True)
class Prompting:
    """A user who prompts for every labelled object by every protocol.

    Attributes:
        open_case: the model.
        organs: label -> name; other labels are left out.
        protocols: by the names that the records get.
        settings: of the run; its seed and tolerance are used.
        replay: prompts of another run, which are given instead of the protocols' own.
    """

    open_case: OpenCase
    organs: Mapping[int, str]
    protocols: Mapping[str, PromptProtocol]
    settings: EvaluationSettings
    replay: StoredPrompts | None = None

    def __call__(self, key: str, case: Case) -> Iterator[Played]:
        """Every object, then every protocol.

        Raises:
            EvaluationError: the replayed run lacks an object.
        """
        predict = self.open_case(case)
        for label, organ in case.objects(self.organs):
            truth = case.labels == label
            for name, protocol in self.protocols.items():
                interactions = run_protocol(
                    protocol if self.replay is None else self.replay.protocol(key, organ, name, protocol),
                    predict,
                    truth,
                    rng=object_rng(self.settings.seed, f"{key} {organ}"),
                    organ=organ,
                    spacing=case.spacing,
                    tolerance=self.settings.tolerance,
                )
                yield Played(organ, name, truth, interactions)


@dataclass(frozen=True)
class NotPrompting:
    """A user who takes what a model without prompts gives, a label map of each case; the protocol is `AUTOMATIC`.

    An organ that somebody looked for but that is not there counts where the model invents it: with 0.

    Attributes:
        segment: case -> label map on the grid of its labels.
        organs: label -> name; other labels are left out.
        settings: of the run; its tolerance is used.
    """

    segment: Callable[[Case], np.ndarray]
    organs: Mapping[int, str]
    settings: EvaluationSettings

    def __call__(self, key: str, case: Case) -> Iterator[Played]:
        """One interaction without a prompt for each organ that truth or label map has."""
        started = time.perf_counter()
        found = self.segment(case)
        seconds = time.perf_counter() - started
        labels, tolerance = case.looked_for(self.organs), self.settings.tolerance
        scores = evaluate_label_map(found, case.labels, spacing=case.spacing, labels=labels, tolerance_mm=tolerance)
        for score in (score for score in scores if score.present):
            interaction = Interaction(SlicePrompt(), Prediction(found == score.label), score, seconds)
            yield Played(score.organ, AUTOMATIC, case.labels == score.label, [interaction])
