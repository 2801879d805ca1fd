"""Splits by patient: whatever is drawn from one patient stands in one split only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bundle.data.datasets import SPLITS, Item
from bundle.errors import SplitError


def split_items(
    items: Sequence[Item], *, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> dict[str, list[Item]]:
    """Divide items into training, validation and test by patient.

    Items that already carry a ``split`` stay in it. Otherwise patients are shuffled by ``seed`` and shared out by
    ``fractions``; a split with a positive fraction gets at least one patient as soon as there are enough.

    Returns:
        ``{"training": [...], "validation": [...], "test": [...]}``, each in the order of ``items``.

    Raises:
        SplitError: the fractions do not sum to 1, or a patient would stand in two splits.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise SplitError(f"fractions must be three shares >= 0 that sum to 1, got {fractions}")
    if any("split" in item for item in items):
        splits = {name: [item for item in items if item.get("split", "training") == name] for name in SPLITS}
    else:
        patients = _shuffled_patients(items, seed)
        counts = _counts(len(patients), fractions)
        edges = np.cumsum([0, *counts])
        parts = {name: patients[edges[i] : edges[i + 1]] for i, name in enumerate(SPLITS)}
        splits = _items_of(items, parts)
    check_disjoint(splits)
    return splits


def k_folds(items: Sequence[Item], *, k: int, seed: int = 0) -> list[dict[str, list[Item]]]:
    """Cross-validation: ``k`` divisions into training and validation, each patient validating exactly once.

    Patients who already stand in the split "test" are left out: they are for the end.

    Raises:
        SplitError: there are fewer patients than folds, or fewer than two folds.
    """
    kept_for_the_end = {item["patient"] for item in items if item.get("split") == "test"}
    items = [item for item in items if item["patient"] not in kept_for_the_end]
    patients = _shuffled_patients(items, seed)
    if not 2 <= k <= len(patients):
        raise SplitError(f"k must be 2 to the number of patients ({len(patients)}), got {k}")
    folds = []
    for fold in range(k):
        held_out = patients[fold::k]
        parts = {"training": sorted(set(patients) - set(held_out)), "validation": held_out}
        folds.append(_items_of(items, parts))
    return folds


def fold_of(items: Sequence[Item], *, k: int, fold: int, seed: int = 0) -> dict[str, list[Item]]:
    """One division of ``k_folds``, for configs/cross_validation.json.

    Args:
        items: of a dataset layout; a split that they already carry into training and validation is not kept.
        k: how many folds.
        fold: 0 to k - 1.
        seed: of all folds; another one for each would let a patient validate twice.

    Raises:
        SplitError: there is no such fold, or ``k_folds`` refuses.
    """
    folds = k_folds(items, k=k, seed=seed)
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < k:
        raise SplitError(f"fold must be 0 to {k - 1}, got {fold!r}")
    return folds[fold]


def check_disjoint(splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Refuse splits that share a patient.

    Raises:
        SplitError: naming the patient and both splits.
    """
    homes: dict[str, str] = {}
    for name, items in splits.items():
        for item in items:
            if homes.setdefault(item["patient"], name) != name:
                patient = item["patient"]
                raise SplitError(f"patient {patient} stands in {homes[patient]} and in {name}; keep it in one split")


def _shuffled_patients(items: Iterable[Mapping[str, Any]], seed: int) -> list[str]:
    patients = sorted({item["patient"] for item in items})
    return [patients[index] for index in np.random.default_rng(seed).permutation(len(patients))]


def _counts(total: int, fractions: tuple[float, float, float]) -> tuple[int, int, int]:
    """Patients per split: validation and test rounded, but at least one each while training keeps one."""
    held_out = []
    spare = total - (fractions[0] > 0)
    for fraction in fractions[1:]:
        count = min(max(round(total * fraction), int(fraction > 0)), spare)
        held_out.append(count)
        spare -= count
    return (total - sum(held_out), *held_out) if fractions[0] > 0 else (0, total - held_out[1], held_out[1])


def _items_of(items: Sequence[Item], parts: Mapping[str, Sequence[str]]) -> dict[str, list[Item]]:
    home = {patient: name for name, patients in parts.items() for patient in patients}
    splits: dict[str, list[Item]] = defaultdict(list, {name: [] for name in parts})
    for item in items:
        splits[home[item["patient"]]].append(item)
    return dict(splits)
