"""A table of boxes: prompts of many images in one CSV file.

    image,name,label,i0,i1,j0,j1,k0,k1
    case_01,liver,1,62,109,23,82,21,50
    case_02,spleen,3,17,38,27,68,33,44

`image` is the image's name, with its ending or without, indices are voxels of the stored image, both ends included.
`name` and `label` may be left out: the objects of an image are then called ``object 1``, ``object 2`` and have the
values 1, 2.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from bundle.data.formats.choice import stem_of
from bundle.errors import PromptError
from bundle.prompts.prompts import ObjectPrompts

_CORNERS = ("i0", "i1", "j0", "j1", "k0", "k1")
_COLUMNS = ("image", *_CORNERS)


def is_table(path: Path) -> bool:
    """Whether prompts lie in a table."""
    return path.suffix.lower() == ".csv"


def names_in(path: Path) -> set[str]:
    """The images that a table has boxes for.

    Raises:
        PromptError: it cannot be read, or lacks a column.
    """
    return {row["image"] or "" for row in _rows(path, _stamp(path))}


def rows_of(path: Path, image: Path) -> list[dict[str, str]]:
    """The rows of one image, by its file's name with the ending or without, as they stand in the table."""
    names = image.resolve().name, stem_of(image)
    return [dict(row) for row in _rows(path, _stamp(path)) if row["image"] in names]


def prompts_of(path: Path, image: Path) -> list[ObjectPrompts]:
    """The boxes of one image, (2, 3) voxel indices each.

    Raises:
        PromptError: naming the row that holds no box, or whose label another one has.
    """
    prompts = [_prompt(row, number, path) for number, row in enumerate(rows_of(path, image), start=1)]
    labels = [prompt.label for prompt in prompts]
    if len(set(labels)) < len(labels):
        raise PromptError(f"{path} gives two objects of {image.name} the same label: {labels}")
    return prompts


def _prompt(row: Mapping[str, str], number: int, path: Path) -> ObjectPrompts:
    try:
        corners = np.array([float(row[name]) for name in _CORNERS]).reshape(3, 2).T
        label = int(row.get("label") or number)
    except (TypeError, ValueError) as error:
        raise PromptError(
            f"{path}: a box of {row['image']} must have numbers in {', '.join(_CORNERS)}: {error}"
        ) from error
    if label < 1:
        raise PromptError(f"{path}: a label must be at least 1, got {label} for {row['image']}")
    return ObjectPrompts(box=corners, name=row.get("name") or f"object {number}", label=label)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise PromptError(f"the table of boxes {path} cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def _rows(path: Path, stamp: tuple[int, int]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PromptError(f"the table of boxes {path} cannot be read: {error}") from error
    if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
        raise PromptError(f"{path} needs the columns {','.join(_COLUMNS)}; {missing[0]} is missing")
    return rows
