"""Runs prompt protocols over labelled slices and volumes, and goes on after an interruption.

Under `torchrun` the images are shared out among the processes, and every process returns all records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bundle.data.pool import LabelledSlice
from bundle.evaluation.baselines import Baseline
from bundle.evaluation.metrics import evaluate_label_map
from bundle.evaluation.protocols import (
    Interaction,
    PromptProtocol,
    ProtocolError,
    ReplayProtocol,
    object_rng,
    prompt_from_json,
    run_protocol,
)
from bundle.evaluation.records import EvaluationError, Records, RunFolder, interaction_records
from bundle.inference.predictor import SliceMask, SlicePredictor, SlicePrompt

AUTOMATIC = "automatic"


@dataclass(frozen=True)
class EvaluationSettings:
    """What has to be the same for a run to go on.

    Attributes:
        protocols: names, for the record; the protocols themselves are passed along.
        seed: decides every prompt that is drawn.
        tolerance: of NSD, in the unit of distance.
        pixels_of: distances are in pixels of a picture with this longer side, whatever the slice's own size; None is
            millimetres by the slice's pixel spacing.
        model: identity of the weights, so that an interrupted run never goes on with others.
        data: identity of what is evaluated, for the same reason.
        replayed: whether the prompts are another run's.
    """

    protocols: tuple[str, ...]
    seed: int = 0
    tolerance: float = 2.0
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


@dataclass(frozen=True, eq=False)
class OpenedSlice:
    """A slice that is ready for prompts, and the seconds the encoder took (None where it did not run)."""

    predict: Callable[[SlicePrompt], SliceMask]
    encode_seconds: float | None = None


OpenSlice = Callable[[LabelledSlice], OpenedSlice]


# ---- what is evaluated ----------------------------------------------------------------------------------------------


def open_with_network(predictor: SlicePredictor) -> OpenSlice:
    """Slices for a network; their intensity views must come from the predictor's own contract."""

    def open_slice(item: LabelledSlice) -> OpenedSlice:
        started = time.perf_counter()
        embedded = predictor.embed(item.picture, item.intensity, item.pixel_spacing)
        seconds = time.perf_counter() - started if embedded.computed else None
        return OpenedSlice(lambda prompt: predictor.predict(embedded, [prompt])[0], seconds)

    return open_slice


def open_with_baseline(baseline: Baseline) -> OpenSlice:
    """Slices for one of `baselines.BASELINES`, which takes boxes only."""

    def open_slice(item: LabelledSlice) -> OpenedSlice:
        picture = display_picture(item)

        def predict(prompt: SlicePrompt) -> SliceMask:
            if prompt.box is None:
                raise ProtocolError("a baseline segments inside a box, got a prompt without one; use a box protocol")
            return SliceMask(baseline(picture, prompt.box), logits=torch.empty(0), iou=math.nan)

        return OpenedSlice(predict)

    return open_slice


def display_picture(item: LabelledSlice) -> np.ndarray:
    """The slice as a person sees it: (H, W) or (H, W, 3) uint8 by the intensity view of highest contrast."""
    narrowest = min(item.intensity, key=lambda view: view.high - view.low)
    return narrowest.apply(item.picture).astype(np.uint8)


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
    stored = _stored_prompts(replay) if replay is not None else None
    for position, key, item in tqdm(list(run.remaining(_with_unique_keys(items))), desc=f"evaluating {folder.name}"):
        opened = open_slice(item)
        records: Records = []
        for organ, truth in _objects(item, organs):
            for name, protocol in protocols.items():
                chosen = _replayed(stored, (key, organ, name), protocol) if stored is not None else protocol
                interactions = run_protocol(
                    chosen,
                    opened.predict,
                    truth,
                    rng=object_rng(settings.seed, f"{key} {organ}"),
                    organ=organ,
                    spacing=settings.spacing(item),
                    tolerance=settings.tolerance,
                )
                where = {"key": key, "case": item.patient, "organ": organ, "protocol": name}
                records += interaction_records(where, interactions, opened.encode_seconds)
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
        looked_for = {organs[n]: n for n in (organs if item.annotated is None else item.annotated) if n in organs}
        scores = evaluate_label_map(
            prediction,
            item.labels,
            spacing=settings.spacing(item),
            labels=looked_for,
            tolerance_mm=settings.tolerance,
        )
        records: Records = []
        for score in (score for score in scores if score.present):
            answer = SliceMask(prediction == score.label, logits=torch.empty(0), iou=math.nan)
            where = {"key": key, "case": item.patient, "organ": score.organ, "protocol": AUTOMATIC}
            records += interaction_records(where, [Interaction(SlicePrompt(), answer, score, seconds)], None)
            run.write_mask(key, score.organ, AUTOMATIC, answer.mask)
        run.finish(position, key, records)
    return run.close()


def pictures_of(items: Iterable[LabelledSlice], organs: Mapping[int, str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What `report.extreme_cases` shows: `"key organ"` -> the slice as uint8 and the object's mask (H, W)."""
    return {
        f"{key} {organ}": (display_picture(item), truth)
        for key, item in _with_unique_keys(items)
        for organ, truth in _objects(item, organs)
    }


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


# ---- replay ---------------------------------------------------------------------------------------------------------


def _stored_prompts(records: Records) -> dict[tuple[str, str, str], list[SlicePrompt]]:
    stored: dict[tuple[str, str, str], list[SlicePrompt]] = {}
    for record in records:
        name = record["key"], record["organ"], record["protocol"]
        stored.setdefault(name, []).append(prompt_from_json(record["prompt"]))
    return stored


def _replayed(
    stored: Mapping[tuple[str, str, str], list[SlicePrompt]], name: tuple[str, str, str], protocol: PromptProtocol
) -> PromptProtocol:
    if name not in stored:
        raise EvaluationError(
            f"expected prompts for {name} in the replayed run, got none; replay a run of the same list"
        )
    return ReplayProtocol(stored[name], mask_prompt=protocol.mask_prompt)
