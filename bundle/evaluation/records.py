"""What an evaluation writes down and where: records of interactions in the folder of a run.

A run is a folder: `settings.json`; `records/`, a JSON for each image with its records, or with the `error` of one that
could not be read; `masks/<protocol>/`, the last answer for each object as a PNG, of a volume the slice that its records
name; and at the end `records.csv`. A record is one interaction with one object, with the fields of `RECORD_FIELDS`, its
`prompt` and, in a volume, the `slice` that is shown. The encoder ran `encoded` times for it, each of `encode_seconds`,
which are not in `seconds`. A distance to an empty mask, and an IoU that the model does not give, are None.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from bundle.claims import shared_out
from bundle.errors import EvaluationError, MonaiSamError
from bundle.evaluation.interaction import Interaction
from bundle.evaluation.protocols import PromptProtocol, ReplayProtocol
from bundle.evaluation.statistics import Record, group_by
from bundle.evaluation.stored_prompts import prompt_from_json, prompt_to_json
from bundle.files import read_json, write_atomically, write_text
from bundle.layers import refuse_other_settings

SCORES = ("dsc", "nsd", "hd95", "iou")
RECORD_FIELDS = (
    "key",
    "case",
    "organ",
    "protocol",
    "step",
    *SCORES,
    "predicted_iou",
    "voxels_truth",
    "voxels_prediction",
    "encode_seconds",
    "encoded",
    "seconds",
)
_FOLDER = "records"
Records = list[dict[str, Any]]
Case = TypeVar("Case")


def interaction_records(where: Mapping[str, Any], interactions: Sequence[Interaction]) -> Records:
    """One record for each interaction with one object; `where` names the image, the object and the protocol."""
    rows = []
    for step, interaction in enumerate(interactions):
        score = interaction.score.as_dict()
        rows.append(
            {
                **where,
                "step": step,
                **{name: _finite(score[name]) for name in SCORES},
                "predicted_iou": _finite(interaction.answer.iou),
                "voxels_truth": score["voxels_truth"],
                "voxels_prediction": score["voxels_prediction"],
                "encode_seconds": interaction.encode_seconds,
                "encoded": interaction.answer.encoded,
                "seconds": interaction.seconds,
                "prompt": prompt_to_json(interaction.prompt),
            }
        )
    return rows


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: a distance to an empty mask, and an IoU that a baseline does not know, are None."""
    return float(value) if value is not None and math.isfinite(value) else None


def read_records(folder: Path) -> Records:
    """The records of a run in the order of its images, also of one that is not finished.

    Raises:
        EvaluationError: there is no run in the folder.
    """
    if not (folder / _FOLDER).is_dir():
        raise EvaluationError(f"expected a run in {folder}, got none there; evaluate into it first")
    done = sorted((image for image in _reports(folder) if "records" in image), key=lambda image: image["position"])
    return [record for image in done for record in image["records"]]


def check_comparable(folder: Path, settings: Any) -> None:
    """Refuse to compare with an earlier run whose numbers mean something else.

    Args:
        folder: of the earlier run.
        settings: of this one, with `seed`, `tolerance`, `pixels_of` and `data`.

    Raises:
        EvaluationError: there is no run, or its seed, tolerance, unit of distance or data differ.
    """
    found = _settings_in(folder)
    for name in ("seed", "tolerance", "pixels_of"):
        if found[name] != getattr(settings, name):
            raise EvaluationError(
                f"expected {name} {getattr(settings, name)} in {folder}, got {found[name]}; evaluate both alike"
            )
    _check_same_data(folder, found, settings)


def prompts_to_replay(folder: Path, settings: Any) -> StoredPrompts:
    """The prompts of a run, to be given again; they fit no other images, nor these in another size.

    Raises:
        EvaluationError: there is no run, or it is one of other data.
    """
    _check_same_data(folder, _settings_in(folder), settings)
    return StoredPrompts(read_records(folder))


def _settings_in(folder: Path) -> dict[str, Any]:
    path = folder / "settings.json"
    if not path.is_file():
        raise EvaluationError(f"expected a run in {folder}, got none there; evaluate into it first")
    return read_json(path)


def _check_same_data(folder: Path, found: Mapping[str, Any], settings: Any) -> None:
    if found["data"] != settings.data:
        raise EvaluationError(
            f"expected a run of the same images and labels in the same size in {folder}, got one of others; evaluate "
            "both on one list with the same limit, max_side and min_pixels, and volumes along the same axis"
        )


def read_mask(folder: Path, record: Record) -> np.ndarray:
    """The last answer of the object and protocol of `record`: (H, W) bool."""
    path = _mask_path(folder, record["key"], record["organ"], record["protocol"])
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise EvaluationError(f"expected a mask at {path}, got none; the run is incomplete, start it again")
    return mask > 0


def last_steps(records: Iterable[Record]) -> Records:
    """Only the last interaction with each object of each protocol."""
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        last[record["key"], record["organ"], record["protocol"]] = dict(record)
    return list(last.values())


class StoredPrompts:
    """The prompts of another run, to be given again.

    Args:
        records: of that run.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        objects = group_by(records, lambda record: (record["key"], record["organ"], record["protocol"]))
        self._stored = {name: [prompt_from_json(step["prompt"]) for step in steps] for name, steps in objects.items()}

    def protocol(self, key: str, organ: str, name: str, original: PromptProtocol) -> ReplayProtocol:
        """The prompts of one object and protocol, with `original`'s use of the former answer.

        Raises:
            EvaluationError: the run has none.
        """
        prompts = self._stored.get((key, organ, name))
        if prompts is None:
            raise EvaluationError(
                f"expected prompts of {name} for {organ} of {key} in the replayed run, got none; replay a run of the "
                "same list"
            )
        return ReplayProtocol(prompts, mask_prompt=original.mask_prompt)


# ---- the folder of a run --------------------------------------------------------------------------------------------


class RunFolder:
    """Where a run keeps what is done; several workers may share it (`bundle.claims`).

    Args:
        folder: made where it is missing.
        settings: a dataclass of plain values, kept in the folder.

    Raises:
        RunStateError: the folder holds a run with other settings, naming them.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        path, wanted = folder / "settings.json", json.loads(json.dumps(asdict(settings)))
        if path.is_file():
            refuse_other_settings(folder, read_json(path), wanted, advice="choose another folder")
        write_text(path, json.dumps(wanted, indent=1))

    def remaining(self, images: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, str, Any]]:
        """Of `(key, image)`, those that are not done and fall to this worker, with a bar: position, key and image.

        An image is held until the next one is asked for. Those that could not be read are tried again. At the end all
        are done, by this worker or by others.
        """
        done = {image["key"] for image in _reports(self.folder) if "records" in image}
        left = {key: (n, key, image) for n, (key, image) in enumerate(images) if key not in done}
        reports = {key: _report_path(self.folder, key) for key in left}
        with tqdm(total=len(left), desc=f"evaluating {self.folder.name}", unit="image") as bar:
            self._bar = bar
            for key, is_mine in shared_out(reports):
                if is_mine:
                    yield left[key]
                bar.update()

    def show(self, what: str) -> None:
        """Say beside the bar what is being done with the image."""
        self._bar.set_postfix_str(what, refresh=False)

    def open_case(self, position: int, key: str, read: Callable[[], Case]) -> Case | None:
        """A case, or None where it cannot be read: the run goes on, and `read_failures` names it."""
        try:
            return read()
        except (MonaiSamError, OSError, MemoryError) as error:
            self._write(position, key, {"error": str(error) or type(error).__name__})
            return None

    def write_mask(self, key: str, organ: str, protocol: str, mask: np.ndarray) -> None:
        """Keeps a mask (H, W); `read_mask` reads it."""
        path = _mask_path(self.folder, key, organ, protocol)
        path.parent.mkdir(parents=True, exist_ok=True)
        _, encoded = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        path.write_bytes(encoded.tobytes())

    def finish(self, position: int, key: str, records: Records) -> None:
        """An image is done."""
        self._write(position, key, {"records": records})

    def close(self) -> Records:
        """All images are done: writes the table and returns the records of all workers."""
        records = read_records(self.folder)
        write_csv(self.folder / "records.csv", records, RECORD_FIELDS)
        return records

    def _write(self, position: int, key: str, outcome: Mapping[str, Any]) -> None:
        write_text(_report_path(self.folder, key), json.dumps({"position": position, "key": key, **outcome}))


def read_failures(folder: Path) -> dict[str, str]:
    """Key -> why, of the cases that the last run in a folder could not read, in the order of the cases."""
    failed = sorted((image for image in _reports(folder) if "error" in image), key=lambda image: image["position"])
    return {image["key"]: image["error"] for image in failed}


def _reports(folder: Path) -> Iterator[dict[str, Any]]:
    """What lies in the folder of a run about each image that was done or could not be read."""
    return map(read_json, (folder / _FOLDER).glob("*.json"))


def _report_path(folder: Path, key: str) -> Path:
    """The file of an image: its key as far as a file may be called so, and a hash of it all."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return folder / _FOLDER / f"{re.sub(r'[^A-Za-z0-9.#-]', '_', key)[:80]}-{digest}.json"


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> None:
    """Writes the named fields of the rows, replacing the file at once."""

    def write(partial: str) -> None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _mask_path(folder: Path, key: str, organ: str, protocol: str) -> Path:
    return folder / "masks" / protocol / (re.sub(r"[^\w.#-]", "_", f"{key}-{organ}") + ".png")
