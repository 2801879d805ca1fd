"""Telling the scans apart that share one DICOM series: time points, echoes, stacks, localizers, copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pydicom

from bundle.data.formats.dicom_files import read_dataset
from bundle.data.formats.dicom_geometry import Frame, arrange, positions_along_normal
from bundle.errors import VolumeError

# What two frames at one position may differ in, most telling first, and what it is called.
_MARKS = {
    "TemporalPositionIndex": "time point",
    "TemporalPositionIdentifier": "time point",
    "EffectiveEchoTime": "echo",
    "EchoTime": "echo",
    "EchoNumbers": "echo",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "FrameType": "image type",
    "ImageType": "image type",
    "StackID": "stack",
    "FrameAcquisitionNumber": "acquisition",
    "AcquisitionNumber": "acquisition",
    "NominalCardiacTriggerDelayTime": "cardiac phase",
    "TriggerTime": "cardiac phase",
    "FrameReferenceTime": "time point",
    "FrameAcquisitionDateTime": "time point",
    "AcquisitionTime": "time point",
    "ContentTime": "time point",
}
# The ones that also tell apart scans of different places; the others vary from slice to slice of one scan.
_MARKS_OF_PLACE = ("StackID", "FrameAcquisitionNumber", "AcquisitionNumber", "FrameType", "ImageType")
# Rounding in the tags; at the edge of a field of view of 500 mm, this much of a turn is half a millimetre.
_ROUNDING = 1e-3


class Part(NamedTuple):
    """The frames of one scan, in no order, and what tells it from the other scans of its series."""

    frames: list[Frame]
    about: str


class Parts(NamedTuple):
    """The scans of a series, and what they are in all, as "6 time points at 3 positions"."""

    parts: list[Part]
    summary: str


def split_parts(frames: Sequence[Frame]) -> Parts:
    """Split the frames of a series into scans that one affine each can fit.

    Frames of another modality, size, orientation or pixel spacing are scans of their own. The rest is one scan if its
    slices are evenly spaced; if not, it is split by the tags in which frames at one position differ, at last by their
    order. A scan that cannot be split stays whole, and ``arrange`` says what is wrong with it.
    """
    groups = _by_shape(frames)
    if len(groups) == 1:
        return _split_positions(groups[0])
    differing = [name for name, of in _SHAPE.items() if len({str(of(group[0])) for group in groups}) > 1]
    parts = []
    for group in groups:
        shape = ", ".join(f"{name} {_SHAPE[name](group[0])}" for name in differing)
        parts += [Part(part.frames, f"{shape}{part.about and ', '}{part.about}") for part in _split_positions(group)[0]]
    return Parts(parts, f"{len(parts)} scans that differ in {' and '.join(differing)}")


def _by_shape(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        home = next((group for group in groups if _is_alike(frame, group[0])), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    return groups


_SHAPE: dict[str, Callable[[Frame], str]] = {
    "modality": lambda frame: str(frame.tags.get("Modality") or "unknown"),
    "size": lambda frame: " x ".join(map(str, frame.size)),
    "colour": lambda frame: "RGB" if frame.is_color else "grey",
    "orientation": lambda frame: "unknown" if frame.position is None else str(np.round(frame.orientation, 3).tolist()),
    "pixel spacing": lambda frame: " x ".join(f"{spacing:.4g}" for spacing in frame.spacing) + " mm",
    "place": lambda frame: frame.file.name if frame.position is None else "known",
}


def _is_alike(one: Frame, other: Frame) -> bool:
    if any(_SHAPE[name](one) != _SHAPE[name](other) for name in ("modality", "size", "colour")):
        return False
    if not np.allclose(one.spacing, other.spacing, rtol=_ROUNDING, atol=0):
        return False
    if one.position is None or other.position is None:  # pictures of unknown place: those of one file belong together
        return one.position is other.position and one.file == other.file
    return bool(np.abs(one.orientation - other.orientation).max() < _ROUNDING)


def _split_positions(frames: list[Frame]) -> Parts:
    whole = Parts([Part(frames, "")], "")
    if frames[0].position is None or _is_even(frames):
        return whole
    numbers = positions_along_normal(frames)
    times = max(Counter(numbers.tolist()).values())
    found = _by_marks(frames, times)
    if found is None and times > 1 and _is_even(_first_at_each(frames, numbers)):
        found = _by_order(frames, numbers)
    return found or _by_place(frames) or whole


def _is_even(frames: Sequence[Frame]) -> bool:
    try:
        arrange(frames)
    except VolumeError:
        return False
    return True


def _first_at_each(frames: Sequence[Frame], numbers: np.ndarray) -> list[Frame]:
    return [frames[index] for index in np.unique(numbers, return_index=True)[1]]


def _by_marks(frames: list[Frame], times: int) -> Parts | None:
    """Split by the fewest tags that leave as many scans as there are frames at one position."""
    marks = [keyword for keyword in _MARKS if len({_value(frame, keyword) for frame in frames}) > 1]
    for keywords in (chosen for count in (1, 2, 3) for chosen in combinations(marks, count)):
        groups = _grouped(frames, lambda frame, keywords=keywords: tuple(_value(frame, key) for key in keywords))
        if (_are_scans if times > 1 else _are_stacks)(list(groups.values()), keywords, times):
            return _marked(groups, keywords, _count_positions(frames))
    return None


def _are_scans(groups: Sequence[list[Frame]], _: Sequence[str], times: int) -> bool:
    """Scans of one place; one with a missing slice is told apart as well, and refused when it is chosen."""
    return (
        len(groups) == times
        and all(_count_positions(group) == len(group) for group in groups)
        and any(map(_is_even, groups))
    )


def _are_stacks(groups: Sequence[list[Frame]], keywords: Sequence[str], _: int) -> bool:
    """Scans of several places; a tag of its own for every slice says nothing."""
    return set(keywords) <= set(_MARKS_OF_PLACE) and min(map(len, groups)) > 1 and all(map(_is_even, groups))


def _by_place(frames: list[Frame]) -> Parts | None:
    """Split stacks that lie in different places, and each of them as it needs."""
    for keyword in _MARKS_OF_PLACE:
        groups = _grouped(frames, lambda frame, keyword=keyword: (_value(frame, keyword),))
        if len(groups) < 2 or min(map(len, groups.values())) < 2:
            continue
        split = {value: _split_positions(group).parts for value, group in groups.items()}
        if all(_is_even(part.frames) for parts in split.values() for part in parts):
            word = _MARKS[keyword]
            parts = [
                Part(part.frames, f"{word} {value[0]}{part.about and ', '}{part.about}")
                for value, parts in split.items()
                for part in parts
            ]
            return Parts(parts, f"{len(parts)} scans in {len(groups)} {_plural(word)}")
    return None


def _grouped(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> dict[tuple, list[Frame]]:
    groups: dict[tuple, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return dict(sorted(groups.items(), key=lambda item: [_sortable(value) for value in item[0]]))


def _value(frame: Frame, keyword: str) -> str:
    value = frame.tags.get(keyword)
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, (list, pydicom.multival.MultiValue)) else str(value)


def _sortable(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _marked(groups: dict[tuple, list[Frame]], keywords: Sequence[str], positions: int) -> Parts:
    words = [_MARKS[keyword] for keyword in keywords]
    parts = [
        Part(group, ", ".join(f"{word} {value or 'none'}" for word, value in zip(words, values, strict=True)))
        for values, group in groups.items()
    ]
    kinds = _plural(words[0]) if len(words) == 1 else f"scans that differ in {' and '.join(words)}"
    return Parts(parts, f"{len(parts)} {kinds} at {_plural('position', positions)}")


def _by_order(frames: list[Frame], numbers: np.ndarray) -> Parts | None:
    """The first frame at every position, the second, and so on, in the order of instance numbers.

    Where one position has fewer frames than another, that would mix scans, except of copies.
    """
    order = sorted(range(len(frames)), key=lambda index: (_sortable(_value(frames[index], "InstanceNumber")), index))
    seen: Counter[int] = Counter()
    groups: dict[int, list[Frame]] = {}
    for index in order:
        seen[numbers[index]] += 1
        groups.setdefault(seen[numbers[index]], []).append(frames[index])
    one, other = next(
        (first, second) for first in groups[1] for second in groups[2] if _is_same_position(first, second)
    )
    word = "copy" if _are_copies(one, other) else "image"
    if word != "copy" and len({len(group) for group in groups.values()}) > 1:
        return None
    parts = [Part(group, f"{word} {turn} at each position") for turn, group in groups.items()]
    kinds = f"{len(parts)} {_plural(word)} at {_plural('position', len(set(numbers.tolist())))}"
    return Parts(parts, f"{kinds} (as {one.name} and {other.name})")


def _is_same_position(one: Frame, other: Frame) -> bool:
    return len(set(positions_along_normal([one, other]).tolist())) == 1


def _are_copies(one: Frame, other: Frame) -> bool:
    if one.file == other.file or _value(one, "InstanceNumber") != _value(other, "InstanceNumber"):
        return False
    pixels = [read_dataset(frame.file, force=True).get("PixelData") for frame in (one, other)]
    return pixels[0] == pixels[1]


def _count_positions(frames: Sequence[Frame]) -> int:
    return len(set(positions_along_normal(frames).tolist()))


def _plural(word: str, count: int | None = None) -> str:
    irregular = {"copy": "copies", "echo": "echoes"}
    many = word if count == 1 else irregular.get(word, f"{word}s")
    return many if count is None else f"{count} {many}"
