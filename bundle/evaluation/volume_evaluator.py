"""Runs prompt protocols and automatic networks over labelled volumes, as `evaluator` does over slices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.volume import Volume
from bundle.evaluation.evaluator import (
    AUTOMATIC,
    EvaluationSettings,
    as_shown,
    automatic_interactions,
    looked_for,
    without_encoder,
)
from bundle.evaluation.figures import Scene
from bundle.evaluation.protocols import (
    Predict,
    PromptProtocol,
    object_rng,
    prompt_from_json,
    run_protocol,
)
from bundle.evaluation.records import Records, RunFolder, StoredPrompts, interaction_records
from bundle.evaluation.semantic import AutomaticModel
from bundle.evaluation.statistics import Record, group_by
from bundle.evaluation.volume_protocols import central_slice
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.contract import Contract
from bundle.transforms.frames import SliceFrame


@dataclass(frozen=True, eq=False)
class VolumeCase:
    """A labelled volume: whose it is, the image and its label map on the same grid.

    `annotated` are the label values that somebody looked for, None for all of the data set's.
    """

    patient: str
    image: Volume
    labels: Volume
    annotated: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class VolumeAnswer:
    """What a prompt in a volume led to.

    Attributes:
        mask: (I, J, K) bool.
        iou: the mean of the slices' estimated IoU, weighted by how many voxels each one's answer has.
        encoded: how many times the encoder had to run for it.
        encode_seconds: what that took.
    """

    mask: np.ndarray
    iou: float
    encoded: int
    encode_seconds: float

    @classmethod
    def of(cls, found: Segmentation) -> VolumeAnswer:
        """The answer of a session."""
        areas = _areas(found.mask, found.axis)[list(found.scores)]
        estimates = np.array(list(found.scores.values()))
        iou = np.average(estimates, weights=areas) if areas.any() else estimates.mean()
        return cls(found.mask, float(iou), found.encoded, found.seconds["encode"])


Cases = Mapping[str, Callable[[], VolumeCase]]


def evaluate_volumes(
    predictor: SlicePredictor,
    cases: Cases,
    *,
    organs: Mapping[int, str],
    protocols: Mapping[str, PromptProtocol],
    folder: Path,
    settings: EvaluationSettings,
    axis: int = 2,
    replay: Records | None = None,
) -> Records:
    """As `evaluate_slices` for whole volumes: every object is prompted and scored in 3D, in millimetres.

    Of each last answer the slice is kept that holds the object's middle voxel.

    Args:
        predictor: the model.
        cases: by key, a function that reads the case, so that one volume at a time is in memory.
        organs: label -> name; other labels are left out.
        protocols: `VolumeProtocol`s by the names that `settings` lists.
        folder: of the run.
        settings: `pixels_of` is not used.
        axis: array axis along which the model travels.
        replay: records of another run, whose prompts are given instead of the protocols' own.

    Raises:
        EvaluationError: the folder holds a run with other settings, or `replay` lacks an object.
    """
    run = RunFolder(folder, settings)
    stored = StoredPrompts(replay, ObjectPrompts) if replay is not None else None
    for position, key, open_case in tqdm(list(run.remaining(cases.items())), desc=f"evaluating {folder.name}"):
        if (case := run.open_case(key, open_case)) is None:
            continue
        session = InteractiveSession(case.image, predictor)
        records: Records = []
        for label, organ in organs.items():
            truth = case.labels.array == label
            if not truth.any():
                continue
            for name, protocol in protocols.items():
                session.reset()
                interactions = run_protocol(
                    protocol if stored is None else stored.protocol(key, organ, name, protocol),
                    _segment_with(session, axis),
                    truth,
                    rng=object_rng(settings.seed, f"{key} {organ}"),
                    organ=organ,
                    spacing=case.image.spacing,
                    tolerance=settings.tolerance,
                )
                where = {"key": key, "case": case.patient, "organ": organ, "protocol": name}
                where["slice"] = central_slice(truth, axis)
                records += interaction_records(where, [without_encoder(step) for step in interactions])
                mask = _frame(case, axis).extract(interactions[-1].answer.mask, where["slice"])
                run.write_mask(key, organ, name, mask)
        run.finish(position, key, records)
    return run.close()


def evaluate_automatic_volumes(
    model: AutomaticModel,
    cases: Cases,
    *,
    organs: Mapping[int, str],
    folder: Path,
    settings: EvaluationSettings,
    axis: int = 2,
) -> Records:
    """As `evaluate_automatic` for whole volumes, scored in 3D, in millimetres.

    Args:
        model: its label maps are made slice by slice, or in stacks of slices where it is a network of those.
        cases: by key, a function that reads the case, so that one volume at a time is in memory.
        organs: label -> name; other labels are left out.
        folder: of the run.
        settings: `pixels_of` and the seed are not used.
        axis: array axis that slices are stacked along.
    """
    run = RunFolder(folder, settings)
    for position, key, open_case in tqdm(list(run.remaining(cases.items())), desc=f"evaluating {folder.name}"):
        if (case := run.open_case(key, open_case)) is None:
            continue
        started = time.perf_counter()
        prediction = model.segment_volume(case.image, axis=axis)
        seconds = time.perf_counter() - started
        records: Records = []
        for found in automatic_interactions(
            prediction,
            case.labels.array,
            organs=looked_for(organs, case.annotated),
            spacing=case.image.spacing,
            tolerance=settings.tolerance,
            seconds=seconds,
        ):
            where = {"key": key, "case": case.patient, "organ": found.score.organ, "protocol": AUTOMATIC}
            truth = case.labels.array == found.score.label
            where["slice"] = central_slice(truth if found.score.voxels_truth else found.answer.mask, axis)
            records += interaction_records(where, [found])
            mask = _frame(case, axis).extract(found.answer.mask, where["slice"])
            run.write_mask(key, found.score.organ, AUTOMATIC, mask)
        run.finish(position, key, records)
    return run.close()


def scenes_of(
    cases: Cases, records: Iterable[Record], *, organs: Mapping[int, str], contract: Contract, axis: int = 2
) -> dict[str, Scene]:
    """What `report.overlays_of` shows: `"key organ"` -> the slice that the records name. Each case is read once.

    Args:
        cases: as those of the run.
        records: of the objects to show.
        organs: label -> name.
        contract: gives the view of highest contrast.
        axis: of the run.
    """
    labels = {name: label for label, name in organs.items()}
    scenes = {}
    by_case = group_by(records, lambda record: record["key"])
    for key, chosen in tqdm(by_case.items(), desc="reading cases to show"):
        case = cases[key]()
        frame = _frame(case, axis)
        intensity = contract.intensity(case.image.array, case.image.modality)
        height, width = frame.pixel_spacing(case.image.spacing)
        for record in chosen:
            index = record["slice"]
            scenes[f"{key} {record['organ']}"] = Scene(
                as_shown(frame.extract(case.image.array, index), intensity),
                frame.extract(case.labels.array, index) == labels[record["organ"]],
                aspect=height / width,
                prompt=partial(prompt_on_slice, frame=frame, index=index),
            )
    return scenes


def prompt_on_slice(stored: Mapping[str, Any], *, frame: SliceFrame, index: int) -> SlicePrompt:
    """What is seen of a volume's stored prompt on one slice: the points on it, and the box where it reaches it."""
    prompt = prompt_from_json(stored, ObjectPrompts)
    xy, indices = frame.to_pixels(prompt.points)
    here = indices == index
    box = None
    if prompt.box is not None:
        corners, ends = frame.to_pixels(prompt.box)
        if ends.min() <= index <= ends.max():
            box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return SlicePrompt(xy[here], prompt.point_labels[here], box)


def _frame(case: VolumeCase, axis: int) -> SliceFrame:
    return SliceFrame.along(case.image.shape, case.image.affine, axis)


def _areas(mask: np.ndarray, axis: int) -> np.ndarray:
    """Voxels of each slice along `axis`."""
    return np.count_nonzero(mask, axis=tuple(other for other in range(mask.ndim) if other != axis))


def _segment_with(session: InteractiveSession, axis: int) -> Predict:
    def segment(prompts: ObjectPrompts) -> VolumeAnswer:
        return VolumeAnswer.of(session.segment_volume(prompts, axis=axis))

    return segment
