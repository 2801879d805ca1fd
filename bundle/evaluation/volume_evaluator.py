"""Runs prompt protocols over labelled volumes, as `evaluator` does over slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.data.volume import Volume
from bundle.evaluation.evaluator import EvaluationSettings
from bundle.evaluation.protocols import Predict, PromptProtocol, object_rng, run_protocol
from bundle.evaluation.records import Records, RunFolder, interaction_records
from bundle.inference.predictor import SlicePredictor
from bundle.inference.session import InteractiveSession
from bundle.transforms.prompts import ObjectPrompts


@dataclass(frozen=True, eq=False)
class VolumeCase:
    """A labelled volume: whose it is, the image and its label map on the same grid."""

    patient: str
    image: Volume
    labels: Volume


def evaluate_volumes(
    predictor: SlicePredictor,
    cases: Mapping[str, Callable[[], VolumeCase]],
    *,
    organs: Mapping[int, str],
    protocols: Mapping[str, PromptProtocol],
    folder: Path,
    settings: EvaluationSettings,
    axis: int = 2,
) -> Records:
    """As `evaluate_slices` for whole volumes: every object is prompted and scored in 3D, in millimetres.

    Args:
        predictor: the model.
        cases: by key, a function that reads the case, so that one volume at a time is in memory.
        organs: label -> name; other labels are left out.
        protocols: `VolumeProtocol`s by the names that `settings` lists.
        folder: of the run.
        settings: `pixels_of` is not used.
        axis: array axis along which the model travels.
    """
    run = RunFolder(folder, settings)
    for position, key, open_case in tqdm(list(run.remaining(cases.items())), desc=f"evaluating {folder.name}"):
        case = open_case()
        session = InteractiveSession(case.image, predictor)
        records: Records = []
        for label, organ in organs.items():
            truth = case.labels.array == label
            if not truth.any():
                continue
            for name, protocol in protocols.items():
                session.reset()
                interactions = run_protocol(
                    protocol,
                    _segment_with(session, axis),
                    truth,
                    rng=object_rng(settings.seed, f"{key} {organ}"),
                    organ=organ,
                    spacing=case.image.spacing,
                    tolerance=settings.tolerance,
                )
                where = {"key": key, "case": case.patient, "organ": organ, "protocol": name}
                records += interaction_records(where, interactions, None)
        run.finish(position, key, records)
    return run.close()


def _segment_with(session: InteractiveSession, axis: int) -> Predict:
    def segment(prompts: ObjectPrompts) -> Any:
        return session.segment_volume(prompts, axis=axis)

    return segment
