"""Accepted labels made into a data set: one numbering of names, split by patient, as it was when the training began."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.dataset_files import read_image
from bundle.data.grid import check_grid
from bundle.data.labelled_slices import MIN_PIXELS
from bundle.data.volume import Volume, read_label, write_label
from bundle.errors import TrainingError, VolumeError
from bundle.files import read_json, write_text

logger = logging.getLogger(__name__)

HELD_OUT = 0.2
"""Share of the patients that never train: the second, the sixth, the eleventh ... that somebody labelled."""
MAX_SIDE = 512
"""Pixels that larger slices are shrunk to, as the recipe does."""
DATALIST = "datalist.json"
TRAINING, VALIDATION = "training", "validation"
_BLOCK, _EVERY = 8, 4  # of an only patient's slices, each fourth block of eight is held out
_PRIVATE = 0o600


def split_patients(patients: Iterable[str], file: Path) -> dict[str, str]:
    """Patient -> "training" or "validation", the same for each training: a patient never changes sides.

    Else the version that is served might have been trained on those that it is judged by. Where the others have no
    label that shows anything, ``write_material`` lets one train all the same. The file holds digests, not names.

    Args:
        patients: who has an accepted label now.
        file: remembers the split; patients who are new are added, in their order.
    """
    known: dict[str, str] = read_json(file) if file.is_file() else {}
    sides = {}
    for patient in dict.fromkeys(patients):
        key = hashlib.sha256(patient.encode()).hexdigest()[:16]
        if key not in known:
            held_out = sum(side == VALIDATION for side in known.values())
            known[key] = VALIDATION if known and held_out < HELD_OUT * (len(known) + 1) else TRAINING
        sides[patient] = known[key]
    write_text(file, json.dumps(known, indent=1), mode=_PRIVATE)
    return sides


def write_material(accepted: Sequence[Mapping[str, Any]], sides: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Copy the labels, on the grid of their images and with one numbering, and list them as ``datasets.msd`` reads it.

    A label that cannot be trained on is left out with a warning that names it, so that one of somebody else's stops
    nobody. A list that is there already is kept: a training that goes on sees the labels that it began with.

    Args:
        accepted: of ``accepted_labels``, as JSON.
        sides: of ``split_patients``.
        folder: of the data set.

    Returns:
        The data list; ``held_out`` in it is "patients", or "slices" where no label of a held-out patient can judge, and
        ``accepted`` how many labels are in it.

    Raises:
        TrainingError: no label shows anything that can be asked for, or nothing is left to judge by.
    """
    datalist = folder / DATALIST
    if datalist.is_file():
        return read_json(datalist)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    numbers = {name: value for value, name in enumerate(sorted({n for one in accepted for n in one["names"]}), start=1)}
    entries = _copied(accepted, numbers, folder)
    lists = {side: [one for one in entries if sides[one["patient"]] == side] for side in (TRAINING, VALIDATION)}
    if not lists[TRAINING]:  # whoever trained before has no label any more
        lists = {
            side: [one for one in entries if (one["patient"] == entries[0]["patient"]) == (side == TRAINING)]
            for side in lists
        }
    is_by_patient = bool(lists[VALIDATION])
    if not is_by_patient:
        lists = _by_slices(lists[TRAINING], folder)
    if not lists[VALIDATION]:
        raise TrainingError(
            "nothing is left to judge by: no label of a held-out patient shows anything, and each that trains has one "
            "slice; submit labels of other patients, or of more slices"
        )
    shown = {value for entry in entries for value in entry["labelled"]}  # other names are of labels that were left out
    content = {
        "labels": {"0": "background", **{str(value): name for name, value in numbers.items() if value in shown}},
        "held_out": "patients" if is_by_patient else "slices",
        "accepted": len(entries),
        **lists,
    }
    write_text(datalist, json.dumps(content, indent=1), mode=_PRIVATE)
    return content


def _copied(accepted: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], folder: Path) -> list[dict[str, Any]]:
    """The entries of the labels that can be trained on, each copied whole."""
    entries = []
    reason = "submit one with a segment that is not empty"
    for index, one in enumerate(accepted):
        try:
            image = read_image(one)
            labels = check_grid(image, read_label(one["label"])).array
        except (VolumeError, OSError) as error:
            reason = str(error)
            logger.warning("The label of %s is left out: %s", Path(one["image"]).name, error)
            continue
        labels = renumbered(labels, {value: numbers[name] for name, value in one["names"].items()})
        if not len(slices_with_objects(labels)):
            logger.warning(
                "A label shows nothing that has a name and %d pixels on a slice, and is left out: %s",
                *(MIN_PIXELS, Path(one["label"]).name),
            )
            continue
        about = {key: one[key] for key in ("image", "patient", "read_as") if one.get(key)}
        entries.append(_entry(about, labels, image, folder / f"{index:06d}.nii.gz"))
    if not entries:
        raise TrainingError(f"no accepted label shows anything that can be trained on; {reason}")
    return entries


def _by_slices(entries: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Each label as two files: slices that train, and slices that are held out."""
    lists: dict[str, list[dict[str, Any]]] = {TRAINING: [], VALIDATION: []}
    for entry in entries:
        whole = read_label(path := folder / entry["label"])
        for side, part in held_out_slices(whole.array).items():
            if part.any():
                patient = entry["patient"] if side == TRAINING else f"{entry['patient']}, held-out slices"
                name = f"{path.name.removesuffix('.nii.gz')}-{side}.nii.gz"
                lists[side].append(_entry({**entry, "patient": patient}, part, whole, folder / name))
        path.unlink()
    return lists


def _entry(about: Mapping[str, Any], labels: np.ndarray, like: Volume, path: Path) -> dict[str, Any]:
    """Write a label map; its entry of the data list."""
    write_label(labels, like, path)
    path.chmod(_PRIVATE)
    return {**about, "label": path.name, "labelled": [int(value) for value in np.unique(labels) if value]}


def renumbered(labels: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    """A label map with other values; what has no new one becomes 0.

    Args:
        labels: (I, J, K) integers.
        numbers: old value -> new value.
    """
    values, where = np.unique(labels, return_inverse=True)
    new = np.array([numbers.get(int(value), 0) for value in values], np.uint16)
    return new[where].reshape(labels.shape)


def slices_with_objects(labels: np.ndarray) -> np.ndarray:
    """(N,) int: the slices on which a structure is large enough to be asked for, along the last axis of (I, J, K).

    Its pixels count after slices of more than ``MAX_SIDE`` are shrunk to that, as those are that train.
    """
    largest = [np.bincount(labels[..., k].ravel())[1:].max(initial=0) for k in range(labels.shape[2])]
    shrunk = max(1.0, max(labels.shape[:2]) / MAX_SIDE)
    return np.flatnonzero(np.array(largest) >= MIN_PIXELS * shrunk**2)


def held_out_slices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The label map of an only patient as two: blocks of its slices train, others are held out.

    Neighbouring slices look alike, so that this says less than another patient would; it is better than nothing. Where
    no held-out block shows anything, single slices are held out.

    Args:
        labels: (I, J, K) on the grid of its image, slices along the last axis.
    """
    shown = slices_with_objects(labels)
    held = shown[(np.arange(len(shown)) // _BLOCK) % _EVERY == 1]
    if not len(held):
        held = shown[1::_EVERY]
    sides = {TRAINING: labels.copy(), VALIDATION: np.zeros_like(labels)}
    sides[VALIDATION][..., held] = labels[..., held]
    sides[TRAINING][..., held] = 0
    return sides
