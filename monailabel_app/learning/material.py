"""Accepted labels made into a data set: one numbering of names, split by patient, as it was when the training began."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.volume import Volume, read_label, write_label
from bundle.errors import TrainingError
from bundle.files import read_json, write_text

logger = logging.getLogger(__name__)

HELD_OUT = 0.2
"""Share of the patients that never train: the second, the sixth, the eleventh ... that somebody labelled."""
DATALIST = "datalist.json"
TRAINING, VALIDATION = "training", "validation"
_BLOCK, _EVERY = 8, 4  # of an only patient's slices, each fourth block of eight is held out
_PRIVATE = 0o600


def split_patients(patients: Iterable[str], file: Path) -> dict[str, str]:
    """Patient -> "training" or "validation", the same for each training: a patient never changes sides.

    Else the version that is served might have been trained on those that it is judged by. The file holds digests, not
    names.

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
    if sides and TRAINING not in sides.values():  # whoever trained before has no label any more
        sides[next(iter(sides))] = TRAINING
    return sides


def write_material(accepted: Sequence[Mapping[str, Any]], sides: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Copy the labels with one numbering, and list them as ``bundle.data.datasets.msd`` reads it.

    A list that is there already is kept: a training that goes on sees the labels that it began with.

    Args:
        accepted: of ``accepted_labels``, as JSON.
        sides: of ``split_patients``.
        folder: of the data set.

    Returns:
        The data list; ``held_out`` in it is "patients", or "slices" where there is one patient.

    Raises:
        TrainingError: no label shows anything.
        VolumeError: a label map cannot be read.
    """
    datalist = folder / DATALIST
    if datalist.is_file():
        return read_json(datalist)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    numbers = {name: value for value, name in enumerate(sorted({n for one in accepted for n in one["names"]}), start=1)}
    lists: dict[str, list[dict[str, Any]]] = {TRAINING: [], VALIDATION: []}
    alone = VALIDATION not in sides.values()
    for index, one in enumerate(accepted):
        labels = read_label(one["label"])
        array = renumbered(labels.array, {value: numbers[name] for name, value in one["names"].items()})
        parts = held_out_slices(array) if alone else {sides[one["patient"]]: array}
        for side, part in parts.items():
            if not part.any():
                logger.warning("A label shows nothing that has a name, and is left out: %s", Path(one["label"]).name)
                continue
            name = f"{index:06d}-{side}{'.png' if one['label'].lower().endswith('.png') else '.nii.gz'}"
            _write(part, labels, folder / name)
            patient = one["patient"] if side == TRAINING or not alone else f"{one['patient']}, held-out slices"
            present = [int(value) for value in np.unique(part) if value]
            lists[side].append({"image": one["image"], "label": name, "patient": patient, "labelled": present})
    if not lists[TRAINING]:
        raise TrainingError("no accepted label shows anything; submit one with a segment that is not empty")
    content = {
        "labels": {"0": "background", **{str(value): name for name, value in numbers.items()}},
        "held_out": "slices" if alone else "patients",
        **lists,
    }
    write_text(datalist, json.dumps(content, indent=1), mode=_PRIVATE)
    return content


def renumbered(labels: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    """A label map with other values; what has no new one becomes 0.

    Args:
        labels: (I, J, K) integers.
        numbers: old value -> new value.
    """
    values, where = np.unique(labels, return_inverse=True)
    new = np.array([numbers.get(int(value), 0) for value in values], np.uint16)
    return new[where].reshape(labels.shape)


def held_out_slices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The label map of an only patient as two: blocks of its slices train, others are held out.

    Neighbouring slices look alike, so that this says less than another patient would; it is better than nothing. Where
    no held-out block shows anything, single slices are held out.

    Args:
        labels: (I, J, K), slices along the last axis.
    """
    shown = np.flatnonzero(labels.any(axis=(0, 1)))
    held = shown[(np.arange(len(shown)) // _BLOCK) % _EVERY == 1]
    if not len(held):
        held = shown[1::_EVERY]
    sides = {TRAINING: labels.copy(), VALIDATION: np.zeros_like(labels)}
    sides[VALIDATION][..., held] = labels[..., held]
    sides[TRAINING][..., held] = 0
    return sides


def _write(labels: np.ndarray, like: Volume, path: Path) -> None:
    write_label(labels, like, path)
    path.chmod(_PRIVATE)
