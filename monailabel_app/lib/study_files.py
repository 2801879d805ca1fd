"""Which files of a folder of studies are images and labels, and the id of each: its name without the ending."""

from __future__ import annotations

import fnmatch
import logging
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bundle.data.volume import ENDINGS

logger = logging.getLogger(__name__)

# Slicer's own format of segmentations comes before the ending that it shares with images.
LABEL_ENDINGS = (".seg.nrrd", *ENDINGS)
_LONGEST_NAME = 200  # bytes; file systems take 255, and an ending and a temporary file's letters come to it
# Control characters and line ends split a line of the log; halves of surrogate pairs are bytes that are no text.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")


def is_plain_name(name: str) -> bool:
    """Whether a name can stand for a file of a folder: visible, of readable letters, not too long, without slashes."""
    return (
        bool(name)
        and not name.startswith(".")
        and not any(letter in "/\\" or unicodedata.category(letter) in _UNPRINTED for letter in name)
        and len(name.encode()) <= _LONGEST_NAME
    )


def split_name(name: str, endings: Sequence[str] = ENDINGS) -> tuple[str, str]:
    """The id and the ending of a file's name; the ending is empty if it is none of ``endings``, whatever its case."""
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)], name[len(name) - len(ending) :]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name is of one of the forms, as ``*.nii.gz``, whatever its case."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def find_images(folder: Path, patterns: Sequence[str], current: Mapping[str, str]) -> dict[str, str]:
    """The images of a folder.

    Hidden files are none: macOS keeps its own of the form ``._name`` beside each file (Project-MONAI/MONAI#8305).

    Args:
        folder: the folder of studies.
        patterns: which names count.
        current: id -> ending known so far: where two files have one id, that one stays.

    Returns:
        id -> ending.
    """
    found: dict[str, list[str]] = {}
    for name in _files(folder):
        image_id, ending = split_name(name)
        if ending and is_plain_name(image_id) and matches(name, patterns):
            found.setdefault(image_id, []).append(ending)
    return {image_id: _one_of(folder, image_id, found[image_id], current.get(image_id)) for image_id in found}


def find_labels(folder: Path, images: Collection[str], current: Mapping[str, str]) -> dict[str, str]:
    """The labels of a folder that belong to images: id -> ending; arguments as ``find_images``."""
    found: dict[str, list[str]] = {}
    for name in _files(folder):
        # "a.seg.nrrd" is Slicer's segmentation of the image "a", unless there is only an image "a.seg".
        splits = [split_name(name, LABEL_ENDINGS), split_name(name)]
        fitting = next(((label_id, ending) for label_id, ending in splits if ending and label_id in images), None)
        if fitting:
            found.setdefault(fitting[0], []).append(fitting[1])
    return {label_id: _one_of(folder, label_id, found[label_id], current.get(label_id)) for label_id in found}


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def _one_of(folder: Path, name: str, endings: list[str], current: str | None) -> str:
    ranks = {ending: rank for rank, ending in enumerate(LABEL_ENDINGS)}
    endings = sorted(endings, key=lambda ending: (ending != current, ranks[ending.lower()], ending))
    if len(endings) > 1:
        others = ", ".join(f"{name}{ending}" for ending in endings[1:])
        logger.warning(
            "Several files have the id %r in %s: %s%s is used, %s not; rename the others",
            *(name, folder.name, name, endings[0], others),
        )
    return endings[0]
