"""An audit of a data set before training: ``scripts/prepare.py --check`` is the command for it.

Every labelled item is read once, and what is known of it lies in ``checked/`` of the output, so that an interrupted
audit goes on. What is wrong (``WRONG``) ends the command with 1; the rest (``LOOK``) is for somebody to look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.audit_facts import Facts, facts_of
from bundle.data.datasets import SPLITS, Item
from bundle.data.prepare import item_keys, write_json
from bundle.data.processes import run_jobs
from bundle.data.splits import split_items
from bundle.errors import PrepareError

WRONG, LOOK = "wrong", "look"
RULES: Mapping[str, tuple[str, str]] = {
    "unreadable": (WRONG, "image or label map cannot be read, or they do not lie on the same grid"),
    "no_object": (WRONG, "the label map shows none of the named objects"),
    "unnamed_value": (WRONG, "the label map has values without a name; they would be background"),
    "constant": (WRONG, "all voxels of the image have the same value"),
    "split": (WRONG, "a patient stands in two splits"),
    "same_picture": (WRONG, "the same image of two patients, or in two splits"),
    "repeated": (LOOK, "the same image twice, of one patient and in one split"),
    "nearly_same_picture": (LOOK, "images of two patients or splits that look alike: the same one stored again?"),
    "alike_patients": (LOOK, "names of patients that differ in spelling alone: one patient, or two?"),
    "tiny_object": (LOOK, "an object smaller than what preparing keeps"),
    "intensity": (LOOK, "intensities unlike those of the other images of this kind"),
    "spacing": (LOOK, "voxels several times as large or small as in the other volumes"),
    "never_seen": (LOOK, "an organ that no label map shows"),
}
"""Name -> level and meaning."""

# Correlation of two thumbnails. On the 987 slices of abdomen-ct-2d two patients reach 0.941 and neighbouring slices of
# one patient 0.9996; the same slice as JPEG, at half or twice its size 0.9999, in another window 0.998.
NEARLY_SAME = 0.997
OUTLIER = 8.0  # robust standard deviations
FEWEST = 8  # images of a kind, below which nothing is an outlier
SPACING_FACTOR = 4.0


@dataclass(frozen=True)
class Finding:
    """What an audit found.

    Attributes:
        rule: of ``RULES``.
        items: keys of the items that it is about; empty for the whole data set.
        message: a sentence.
    """

    rule: str
    items: tuple[str, ...]
    message: str

    @property
    def level(self) -> str:
        """``WRONG`` or ``LOOK``."""
        return RULES[self.rule][0]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rule": self.rule, "level": self.level, "items": list(self.items), "message": self.message}


@dataclass(frozen=True)
class Audit:
    """The findings, what is known of each item by key, the split of each, and the number of patients of each split."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, Facts]
    splits: Mapping[str, str]
    patients: Mapping[str, int]

    @property
    def wrong(self) -> list[Finding]:
        """Those that have to be mended."""
        return [finding for finding in self.findings if finding.level == WRONG]


def audit(
    items: Sequence[Item],
    output: str | Path,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    min_voxels: int = 1000,
    min_pixels: int = 100,
    ignored: Sequence[str] = (),
    workers: int = 1,
) -> Audit:
    """Read every labelled item, look for what is wrong, and write ``check.json``.

    Args:
        items: of a dataset layout.
        output: folder to write to.
        fractions, seed: of the split, as ``prepare`` makes it; items that carry a split keep it.
        min_voxels, min_pixels: objects of a volume or of a picture below that are tiny, 0 is off.
        ignored: rules whose findings are left out.
        workers: processes.

    Raises:
        PrepareError: no item is labelled.
        SplitError: the fractions are none.
    """
    items = [item for item in items if item["label"]]
    if not items:
        raise PrepareError("expected labelled items, got none; an audit looks at images and their labels")
    keys, output = item_keys(items), Path(output)
    jobs = [(item, key, output / "checked" / f"{key}.json") for item, key in zip(items, keys, strict=True)]
    found = dict(run_jobs(facts_of, jobs, workers, desc="checking"))
    facts = {key: found[key] for key in keys}
    splits = _splits(items, keys, fractions, seed)
    findings = list(_leaking_patients(facts.values(), splits))
    readable = {key: known for key, known in facts.items() if known.error is None}
    for known in facts.values():
        findings += _of_item(known, min_voxels=min_voxels, min_pixels=min_pixels)
    findings += [*_same_pictures(readable, splits), *_alike_patients(facts.values())]
    findings += [*_intensities(readable.values()), *_spacings(readable.values()), *_never_seen(items, readable)]
    order = list(RULES)
    findings = sorted((f for f in findings if f.rule not in ignored), key=lambda finding: order.index(finding.rule))
    by_split = {name: {known.patient for key, known in facts.items() if splits[key] == name} for name in SPLITS}
    result = Audit(tuple(findings), facts, splits, {name: len(patients) for name, patients in by_split.items()})
    write_json(output / "check.json", _as_json(result))
    return result


def _as_json(result: Audit) -> dict[str, Any]:
    shown = {key: asdict(known) for key, known in result.facts.items()}
    for key, known in shown.items():
        known["split"] = result.splits[key]
        del known["thumbnail"]
    return {
        "items": len(result.facts),
        "patients": dict(result.patients),
        "wrong": len(result.wrong),
        "findings": [finding.as_dict() for finding in result.findings],
        "facts": shown,
    }


# --- one item --------------------------------------------------------------------------------------------------------


def _of_item(known: Facts, *, min_voxels: int, min_pixels: int) -> Iterable[Finding]:
    def finding(rule: str, message: str) -> Finding:
        return Finding(rule, (known.key,), f"{known.key}: {message}")

    if known.error is not None:
        yield finding("unreadable", known.error)
        return
    if not known.objects:
        yield finding("no_object", "no named object in the label map")
    if known.unnamed:
        values = ", ".join(f"{value} ({count} voxels)" for value, count in known.unnamed.items())
        yield finding("unnamed_value", f"values without a name: {values}")
    if known.lowest == known.highest:
        yield finding("constant", f"every voxel is {known.lowest:g}")
    least, unit = (min_pixels, "pixels") if known.is_picture else (min_voxels, "voxels")
    tiny = {name: count for name, count in known.objects.items() if count < least}
    if tiny:
        parts = ", ".join(f"{name} {count}" for name, count in tiny.items())
        yield finding("tiny_object", f"below {least} {unit}: {parts}")


# --- all items -------------------------------------------------------------------------------------------------------


def _splits(
    items: Sequence[Item], keys: Sequence[str], fractions: tuple[float, float, float], seed: int
) -> dict[str, str]:
    """Key -> split: the item's own, or what ``prepare`` would make of them."""
    if any("split" in item for item in items):
        return {key: item.get("split", "training") for item, key in zip(items, keys, strict=True)}
    key_of = {id(item): key for item, key in zip(items, keys, strict=True)}
    parts = split_items(items, fractions=fractions, seed=seed)
    return {key_of[id(item)]: name for name, part in parts.items() for item in part}


def _leaking_patients(known: Iterable[Facts], splits: Mapping[str, str]) -> Iterable[Finding]:
    by_patient: dict[str, list[Facts]] = defaultdict(list)
    for facts in known:
        by_patient[facts.patient].append(facts)
    for patient, group in by_patient.items():
        homes = list(dict.fromkeys(splits[facts.key] for facts in group))
        if len(homes) > 1:
            keys = tuple(facts.key for facts in group)
            yield Finding("split", keys, f"patient {patient} stands in {' and in '.join(homes)}: {', '.join(keys)}")


def _same_pictures(readable: Mapping[str, Facts], splits: Mapping[str, str]) -> Iterable[Finding]:
    """Images that are the same, voxel by voxel or nearly."""

    def apart(one: Facts, other: Facts) -> str | None:
        if one.patient != other.patient:
            return f"of patients {one.patient} and {other.patient}"
        places = splits[one.key], splits[other.key]
        return None if places[0] == places[1] else f"in {places[0]} and in {places[1]}"

    same = set()
    by_digest = defaultdict(list)
    for known in readable.values():
        by_digest[known.digest].append(known)
    for group in by_digest.values():
        for one, other in combinations(group, 2):
            same.add((one.key, other.key))
            where = apart(one, other)
            rule, about = ("same_picture", where) if where else ("repeated", f"of patient {one.patient}")
            yield Finding(rule, (one.key, other.key), f"{one.key} and {other.key} are the same image, {about}")
    for one, other, likeness in _alike(list(readable.values())):
        if (one.key, other.key) not in same and (where := apart(one, other)):
            text = f"{one.key} and {other.key}, {where}, look alike (correlation {likeness:.5f})"
            yield Finding("nearly_same_picture", (one.key, other.key), text)


def _alike(known: Sequence[Facts]) -> Iterable[tuple[Facts, Facts, float]]:
    """Pairs whose thumbnails correlate by at least ``NEARLY_SAME``, among pictures and among volumes."""
    for is_picture in (True, False):
        group = [facts for facts in known if facts.is_picture == is_picture and facts.lowest < facts.highest]
        if len(group) < 2:
            continue
        vectors = np.array([facts.thumbnail for facts in group], np.float32)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        for row in range(len(group) - 1):  # a row at a time: thousands of pictures have millions of pairs
            likeness = vectors[row + 1 :] @ vectors[row]
            for column in np.flatnonzero(likeness >= NEARLY_SAME):
                yield group[row], group[row + 1 + column], float(likeness[column])


def _alike_patients(known: Iterable[Facts]) -> Iterable[Finding]:
    """Patients whose names differ in case, separators or leading zeros alone."""
    spellings: dict[tuple, dict[str, str]] = defaultdict(dict)
    for facts in known:
        spellings[_spelled(facts.patient)].setdefault(facts.patient, facts.key)
    for names in spellings.values():
        if len(names) > 1:
            yield Finding("alike_patients", tuple(names.values()), f"patients {', '.join(map(repr, names))}")


def _spelled(patient: str) -> tuple:
    """Its words in lower case and its numbers without leading zeros: of "P-007" `("p", 7)`."""
    parts = "".join(c.lower() if c.isalnum() else " " for c in patient)
    spaced = "".join(f" {c}" if n and c.isdigit() != parts[n - 1].isdigit() else c for n, c in enumerate(parts))
    return tuple(int(word) if word.isdecimal() else word for word in spaced.split())


def _intensities(known: Iterable[Facts]) -> Iterable[Finding]:
    """Images whose low, middle or high intensities lie far from those of the others of their modality."""
    groups: dict[tuple[str, bool], list[Facts]] = defaultdict(list)
    for facts in known:
        groups[facts.modality, facts.is_color].append(facts)
    for (modality, _), group in groups.items():
        if len(group) < FEWEST:
            continue
        values = np.array([facts.percentiles for facts in group])  # (n, 3)
        middle = np.median(values, axis=0)
        range_ = max(float(middle[2] - middle[0]), 1e-6)
        # Where most images agree exactly (the air of a CT), a hundredth of their range is no outlier yet.
        spread = np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), 0.01 * range_)
        for facts, far in zip(group, np.abs(values - middle) / spread, strict=True):
            if far.max() > OUTLIER:
                n = int(far.argmax())
                name = ("1st percentile", "median", "99th percentile")[n]
                text = f"{facts.key}: the {name} is {facts.percentiles[n]:g}, of most {modality} images {middle[n]:g}"
                yield Finding("intensity", (facts.key,), text)


def _spacings(known: Iterable[Facts]) -> Iterable[Finding]:
    volumes = [facts for facts in known if not facts.is_picture]
    if len(volumes) < FEWEST:
        return
    spacings = np.array([sorted(facts.spacing) for facts in volumes])
    factors = np.exp(np.abs(np.log(spacings / np.median(spacings, axis=0))).max(axis=1))
    for facts, factor in zip(volumes, factors, strict=True):
        if factor > SPACING_FACTOR:
            sides = " x ".join(f"{side:g}" for side in facts.spacing)
            text = f"{facts.key}: voxels of {sides} mm, {factor:.1f} times as large or small as in most"
            yield Finding("spacing", (facts.key,), text)


def _never_seen(items: Iterable[Item], readable: Mapping[str, Facts]) -> Iterable[Finding]:
    shown = {name for facts in readable.values() for name in facts.objects}
    for name in dict.fromkeys(name for item in items for name in item["labels"]):
        if name not in shown:
            yield Finding("never_seen", (), f"no label map shows {name}")
