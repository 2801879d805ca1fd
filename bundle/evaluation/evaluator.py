"""Runs prompt protocols over labelled slices and volumes, and goes on after an interruption.

Under `torchrun` the images are shared out among the processes, and every process returns all records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bundle.data.labelled_slices import LabelledSlice
from bundle.evaluation.baselines import Baseline
from bundle.evaluation.figures import Scene
from bundle.evaluation.metrics import evaluate_label_map
from bundle.evaluation.protocols import (
    Interaction,
    PromptProtocol,
    ProtocolError,
    object_rng,
    run_protocol,
)
from bundle.evaluation.records import Records, RunFolder, StoredPrompts, interaction_records
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.transforms.contract import Intensity

AUTOMATIC = "automatic"


@dataclass(frozen=True)
class EvaluationSettings:
    """What has to be the same for a run to go on.

    Attributes:
        protocols: names, for the record; the protocols themselves are passed along.
        seed: decides every prompt that is drawn.
        tolerance: of NSD, in the unit of distance; one for all, or one for each organ.
        pixels_of: distances are in pixels of a picture with this longer side, whatever the slice's own size; None is
            millimetres by the slice's pixel spacing.
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

    def spacing(self, item: LabelledSlice) -> tuple[float, float]:
        """Size of a pixel (rows, columns) in the unit of distance."""
        if self.pixels_of is None:
            return item.pixel_spacing
        pixel = self.pixels_of / max(item.labels.shape)
        return pixel, pixel


OpenSlice = Callable[[LabelledSlice], Callable[[SlicePrompt], SliceMask]]
"""Opens a slice for prompts."""


# ---- what is evaluated ----------------------------------------------------------------------------------------------


def open_with_network(predictor: SlicePredictor) -> OpenSlice:
    """Slices for a network; their intensity views must come from the predictor's own contract."""

    def open_slice(item: LabelledSlice) -> Callable[[SlicePrompt], SliceMask]:
        return partial(predictor.predict, SliceView(item.picture, item.intensity, item.pixel_spacing))

    return open_slice


def open_with_baseline(baseline: Baseline) -> OpenSlice:
    """Slices for one of `baselines.BASELINES`, which takes boxes only."""

    def open_slice(item: LabelledSlice) -> Callable[[SlicePrompt], SliceMask]:
        picture = display_picture(item)

        def predict(prompt: SlicePrompt) -> SliceMask:
            if prompt.box is None:
                raise ProtocolError("a baseline segments inside a box, got a prompt without one; use a box protocol")
            return SliceMask(baseline(picture, prompt.box), logits=torch.empty(0), iou=math.nan)

        return predict

    return open_slice


def display_picture(item: LabelledSlice) -> np.ndarray:
    """The slice as a person sees it: (H, W) or (H, W, 3) uint8 by the intensity view of highest contrast."""
    return as_shown(item.picture, item.intensity)


def as_shown(picture: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Intensities (H, W) or (H, W, 3) as uint8 by the view of highest contrast."""
    narrowest = min(intensity, key=lambda view: view.high - view.low)
    return narrowest.apply(picture).astype(np.uint8)


# ---- slices ---------------------------------------------------------------------------------------------------------


def evaluate_slices(
    open_slice: OpenSlice,
    items: Sequence[LabelledSlice],
    *,
    organs: Mapping[int, str],
    protocols: Mapping[str, PromptProtocol],
    folder: Path,
    settings: EvaluationSettings,
    replay: Records | None = None,
) -> Records:
    """Runs every protocol on every labelled object of every slice, and continues a run that was interrupted.

    Args:
        open_slice: the model, from `open_with_network` or `open_with_baseline`.
        items: slices; their keys need not be unique, a repeated one is numbered.
        organs: label -> name; other labels are left out.
        protocols: by the names that `settings` lists.
        folder: of the run; made where it is missing.
        settings: see there.
        replay: records of another run, whose prompts are given instead of the protocols' own.

    Returns:
        One record for each interaction, in the order of the items; also in `records.csv`.

    Raises:
        EvaluationError: the folder holds a run with other settings, or `replay` lacks an object.
    """
    run = RunFolder(folder, settings)
    stored = StoredPrompts(replay) if replay is not None else None
    for position, key, item in tqdm(list(run.remaining(_with_unique_keys(items))), desc=f"evaluating {folder.name}"):
        predict = open_slice(item)
        records: Records = []
        for organ, truth in _objects(item, organs):
            for name, protocol in protocols.items():
                chosen = protocol if stored is None else stored.protocol(key, organ, name, protocol)
                interactions = run_protocol(
                    chosen,
                    predict,
                    truth,
                    rng=object_rng(settings.seed, f"{key} {organ}"),
                    organ=organ,
                    spacing=settings.spacing(item),
                    tolerance=settings.tolerance,
                )
                where = {"key": key, "case": item.patient, "organ": organ, "protocol": name}
                records += interaction_records(where, [without_encoder(step) for step in interactions])
                run.write_mask(key, organ, name, interactions[-1].answer.mask)
        run.finish(position, key, records)
    return run.close()


def evaluate_automatic(
    segment: Callable[[LabelledSlice], np.ndarray],
    items: Sequence[LabelledSlice],
    *,
    organs: Mapping[int, str],
    folder: Path,
    settings: EvaluationSettings,
) -> Records:
    """As `evaluate_slices` for a model that needs no prompt; the protocol's name is `AUTOMATIC`.

    An organ that somebody looked for but that is not in the slice counts where the model invents it: with 0.

    Args:
        segment: slice -> label map (H, W).
        items: slices.
        organs: label -> name; other labels are left out.
        folder: of the run.
        settings: the seed is not used.
    """
    run = RunFolder(folder, settings)
    for position, key, item in tqdm(list(run.remaining(_with_unique_keys(items))), desc=f"evaluating {folder.name}"):
        started = time.perf_counter()
        prediction = segment(item)
        seconds = time.perf_counter() - started
        records: Records = []
        for found in automatic_interactions(
            prediction,
            item.labels,
            organs=looked_for(organs, item.annotated),
            spacing=settings.spacing(item),
            tolerance=settings.tolerance,
            seconds=seconds,
        ):
            where = {"key": key, "case": item.patient, "organ": found.score.organ, "protocol": AUTOMATIC}
            records += interaction_records(where, [found])
            run.write_mask(key, found.score.organ, AUTOMATIC, found.answer.mask)
        run.finish(position, key, records)
    return run.close()


def looked_for(organs: Mapping[int, str], annotated: Sequence[int] | None) -> dict[str, int]:
    """Name -> label of the organs that somebody looked for in an image; `annotated` is None for all."""
    return {name: label for label, name in organs.items() if annotated is None or label in annotated}


def automatic_interactions(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    organs: Mapping[str, int],
    spacing: Sequence[float],
    tolerance: float | Mapping[str, float],
    seconds: float,
) -> Iterator[Interaction]:
    """One interaction without a prompt for each organ that truth or prediction has.

    Args:
        prediction: label map (H, W) or (I, J, K).
        truth: label map of the same shape.
        organs: name -> label.
        spacing: along the axes of the arrays.
        tolerance: of NSD, in the unit of the spacing.
        seconds: that the whole image took.
    """
    scores = evaluate_label_map(prediction, truth, spacing=spacing, labels=organs, tolerance_mm=tolerance)
    for score in (score for score in scores if score.present):
        answer = SliceMask(prediction == score.label, logits=torch.empty(0), iou=math.nan)
        yield Interaction(SlicePrompt(), answer, score, seconds)


def pictures_of(items: Iterable[LabelledSlice], organs: Mapping[int, str]) -> dict[str, Scene]:
    """What `report.extreme_cases` shows: `"key organ"` -> the slice and the object's mask."""
    return {
        f"{key} {organ}": Scene(display_picture(item), truth, aspect=item.pixel_spacing[0] / item.pixel_spacing[1])
        for key, item in _with_unique_keys(items)
        for organ, truth in _objects(item, organs)
    }


def without_encoder(step: Interaction) -> Interaction:
    """The interaction with the seconds of one run of the encoder, where there was one, apart from its own."""
    answer = step.answer
    if not answer.encoded:
        return step
    encode_seconds = answer.encode_seconds / answer.encoded
    return replace(step, seconds=step.seconds - answer.encode_seconds, encode_seconds=encode_seconds)


def _objects(item: LabelledSlice, organs: Mapping[int, str]) -> Iterator[tuple[str, np.ndarray]]:
    for label in item.ids:
        if label in organs:
            yield organs[label], item.labels == label


def _with_unique_keys(items: Iterable[LabelledSlice]) -> Iterator[tuple[str, LabelledSlice]]:
    """A key that was seen before gets its number: pictures of one patient may share theirs."""
    seen: dict[str, int] = {}
    for item in items:
        seen[item.key] = seen.get(item.key, 0) + 1
        yield (item.key if seen[item.key] == 1 else f"{item.key}#{seen[item.key]}"), item
