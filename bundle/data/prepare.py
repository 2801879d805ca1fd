"""From labelled volumes to training slices on disk: ``scripts/prepare.py`` is the command for it.

The output is an MSD-style data list (``datalist.json``) that the ``msd`` layout reads: 8-bit pictures whose intensities
went through a family's contract, label maps, tight boxes and a patient-wise split. ``report.json`` says what was
dropped and why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.claims import in_turn, state_of, taken, worker_number
from bundle.data.dataset_files import read_image
from bundle.data.datasets import Item
from bundle.data.grid import check_grid
from bundle.data.labels import find_labels
from bundle.data.processes import run_jobs
from bundle.data.slice_files import STORAGES, ChosenSlices, Record
from bundle.data.slices import Dropped, SliceFilters, index_slices, summarise
from bundle.data.splits import k_folds, split_items
from bundle.data.volume import Volume, VolumeError, read_label
from bundle.errors import PrepareError
from bundle.files import read_json, write_text
from bundle.transforms.contract import Contract

# Of what lies on disk: another number makes all existing results stale. 2: pictures have their spacing. 3: label maps
# are brought onto their images, and CT is told by its air.
_FORMAT = 3
_LARGEST_VALUE = 2**16 - 1


@dataclass(frozen=True)
class Preparation:
    """What is made of every item; a change of any of these makes existing results stale.

    Attributes:
        contract: its intensity rule turns volumes into 8-bit pictures, one channel or three.
        planes: to slice along.
        filters: what counts as noise.
        storage: one of ``bundle.data.slice_files.STORAGES``: "png" or "zarr".
    """

    contract: Contract
    planes: tuple[str, ...] = ("axial",)
    filters: SliceFilters = field(default_factory=SliceFilters)
    storage: str = "png"

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise PrepareError(f"storage must be one of {', '.join(STORAGES)}, got {self.storage!r}")


def prepare(
    items: Sequence[Item],
    output: str | Path,
    preparation: Preparation,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    folds: int = 0,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Prepare every item, split them by patient and write data list and report; finished items are not done again.

    Several programs may prepare one dataset into one folder, each with its own processes: an item is done by one of
    them (`bundle.claims`), and each ends when all are done, with the same data list and report.

    Args:
        items: of a dataset layout.
        output: folder to write to.
        preparation: what to make of an item.
        fractions: of patients in training, validation and test (items that carry a split keep it).
        folds: also write ``fold_<n>.json`` for so many folds of cross-validation.
        seed: of the splits.
        workers: processes.

    Returns:
        The report: counts, what was dropped by rule and organ, which items failed and why.

    Raises:
        PrepareError: no item is labelled, or every item failed.
        SplitError: the items cannot be split that way.
    """
    output = Path(output)
    items = [item for item in items if item["label"]]
    if not items:
        raise PrepareError("expected labelled items, got none; slices are chosen by their labels")
    numbering = unified_labels(items)
    splits = split_items(items, fractions=fractions, seed=seed)
    lists = {"datalist": splits}
    if folds:
        lists |= {f"fold_{n}": fold for n, fold in enumerate(k_folds(items, k=folds, seed=seed))}
    keys = item_keys(items)
    jobs = [(item, key, output, preparation, numbering) for item, key in zip(items, keys, strict=True)]
    records = _records_of(jobs, workers)
    common = {"labels": _list_labels(numbering), "seed": seed, "preparation": asdict(preparation)}
    for name, parts in lists.items():
        entries = {split: _entries(part, items, keys, records) for split, part in parts.items()}
        write_json(output / f"{name}.json", {**common, **entries})
    report = _report(records, numbering, splits)
    write_json(output / "report.json", report)
    if not report["slices"]:
        raise PrepareError(f"no slice is left; {output / 'report.json'} says why")
    return report


def unified_labels(items: Sequence[Item]) -> dict[str, int]:
    """One numbering for all items: theirs where they agree and fit the 16 bits of a PNG, else 1, 2, ... by name."""
    pairs = {(name, value) for item in items for name, value in item["labels"].items()}
    names, values = {name for name, _ in pairs}, {value for _, value in pairs}
    if len(names) == len(pairs) == len(values) and max(values, default=0) <= _LARGEST_VALUE:
        return dict(sorted(pairs, key=lambda pair: pair[1]))
    return {name: value for value, name in enumerate(sorted(names), start=1)}


def _records_of(jobs: Sequence[tuple], workers: int) -> dict[str, Record]:
    """The record of every item: first of those that nobody is at, then of those that other programs were at."""
    free = [(*job, state_of(_record_path(job[2], job[1]))) for job in jobs]
    found = dict(run_jobs(prepare_item, in_turn(free, worker_number()), workers, desc="preparing"))
    if held := [(*job, True) for job in free if found[job[1]] is None]:
        found |= dict(run_jobs(prepare_item, held, workers, desc="waiting for others"))
    return {key: found[key] for _, key, *_ in jobs}


def prepare_item(
    item: Item,
    key: str,
    output: Path,
    preparation: Preparation,
    numbering: Mapping[str, int],
    before: str = "",
    wait: bool = False,
) -> tuple[str, Record | None]:
    """Prepare one item, or read its record where that is up to date.

    Args:
        item: of a dataset layout.
        key: of its files, see `item_keys`.
        output: folder to write to.
        preparation: what to make of it.
        numbering: name -> value of all labels.
        before: state of its record when this program began, see `bundle.claims.taken`.
        wait: for a program that is at it.

    Returns:
        The key, and ``{"fingerprint", "entries", "dropped", "lost", "slices", "error"}``; the record is written last,
        so an interrupted item is done again. None where another program is at it.
    """
    path = _record_path(output, key)
    fingerprint = _fingerprint(item, preparation, numbering)
    if (record := _record_at(path, fingerprint)) and not record["error"]:
        return key, record
    with taken(path, before, wait=wait) as is_mine:
        if is_mine is None:
            return key, None
        if is_mine or not (record := _record_at(path, fingerprint)):
            record = {"fingerprint": fingerprint, **_prepared(item, key, output, preparation, numbering)}
            write_json(path, record)
    return key, record


def _prepared(
    item: Item, key: str, output: Path, preparation: Preparation, numbering: Mapping[str, int]
) -> dict[str, Any]:
    record = {"entries": [], "dropped": [], "lost": [], "slices": 0, "error": None}
    try:
        image = read_image(item)
        label = _renumbered(check_grid(image, read_label(item["label"])), item, numbering)
    except (VolumeError, OSError, MemoryError) as error:  # one bad file of thousands must not stop the rest
        return {**record, "error": str(error) or type(error).__name__}  # it is in the report, and tried again
    entries, dropped = index_slices(label, planes=preparation.planes, filters=preparation.filters)
    intensity = preparation.contract.intensity(image.array, image.modality)
    chosen = ChosenSlices(key, image, intensity, _labelled(item, numbering), entries)
    stored = STORAGES[preparation.storage](chosen, output)
    record["entries"] = [{**entry, "patient": item["patient"], "source": key} for entry in stored]
    kept = {value for entry in entries for value in entry.boxes}
    record["lost"] = sorted(set(np.unique(label.array).tolist()) - kept - {0})
    return record | {"dropped": [asdict(part) for part in dropped], "slices": len(entries)}


def _record_path(output: Path, key: str) -> Path:
    return output / "records" / f"{key}.json"


def _record_at(path: Path, fingerprint: str) -> Record | None:
    """The record of an item, if there is one and it is of the same files and settings."""
    record = read_json(path) if path.is_file() else None
    return record if record is not None and record["fingerprint"] == fingerprint else None


# --- writing ---------------------------------------------------------------------------------------------------------


def _entries(part: Sequence[Item], items: Sequence[Item], keys: Sequence[str], records: Mapping) -> list[Record]:
    key_of = {id(item): key for item, key in zip(items, keys, strict=True)}
    return [entry for item in part for entry in records[key_of[id(item)]]["entries"]]


def _list_labels(numbering: Mapping[str, int]) -> dict[str, str]:
    return {"0": "background", **{str(value): organ for organ, value in numbering.items()}}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, which appears when it is complete."""
    write_text(path, json.dumps(content, indent=1))


def item_keys(items: Sequence[Item]) -> list[str]:
    """A file name for each item: its label's name, with a hash of its path where two are alike."""
    keys = [re.sub(r"[^\w-]+", "_", Path(item["label"]).name.split(".")[0]) for item in items]
    times = Counter(keys)
    hashes = [hashlib.sha256(str(item["label"]).encode()).hexdigest()[:12] for item in items]
    return [key if times[key] == 1 else f"{key}_{digest}" for key, digest in zip(keys, hashes, strict=True)]


def _fingerprint(item: Item, preparation: Preparation, numbering: Mapping[str, int]) -> str:
    files = [Path(item[part]) for part in ("image", "label")]
    state = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    parts = (_FORMAT, item, asdict(preparation), dict(numbering), state)
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=dict).encode()).hexdigest()


def _renumbered(label: Volume, item: Item, numbering: Mapping[str, int]) -> Volume:
    """The label map in the common numbering; values without a name are not labels."""
    numbers = {value: numbering[name] for name, value in item["labels"].items()}
    array = np.zeros(label.shape, np.uint16)
    for value, box in find_labels(label.array).items():
        if value in numbers:
            array[box][label.array[box] == value] = numbers[value]
    return replace(label, array=array)


def _labelled(item: Item, numbering: Mapping[str, int]) -> list[int]:
    names = {value: name for name, value in item["labels"].items()}
    return sorted(numbering[names[value]] for value in item["labelled"] if value in names)


def _report(records: Mapping[str, Record], numbering: Mapping[str, int], splits: Mapping[str, list]) -> dict[str, Any]:
    names = {value: name for name, value in numbering.items()}
    dropped = [Dropped(**part) for record in records.values() for part in record["dropped"]]
    return {
        "items": len(records),
        "slices": sum(record["slices"] for record in records.values()),
        "patients": {name: len({item["patient"] for item in part}) for name, part in splits.items()},
        "dropped": summarise(dropped, names),
        "organs_lost": _organs_lost(records, names),
        "dropped_parts": {key: record["dropped"] for key, record in sorted(records.items()) if record["dropped"]},
        "failed": {key: record["error"] for key, record in sorted(records.items()) if record["error"]},
    }


def _organs_lost(records: Mapping[str, Record], names: Mapping[int, str]) -> dict[str, list[str]]:
    """Items of which the filters took an organ away altogether: thresholds in voxels are harsh on coarse grids."""
    lost: dict[str, list[str]] = {}
    for key, record in sorted(records.items()):
        for value in record["lost"]:
            lost.setdefault(names[value], []).append(key)
    return lost
