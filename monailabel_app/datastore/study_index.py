"""The index of a folder of studies, ``datastore_v2.json``: what clients said about images and labels.

The file is MONAI Label's (its models are used as they are), so that either server can go on with the other's folder.
Which images and labels there are the folder itself says; a lost or damaged index costs what was said about them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from monailabel.datastore.local import DataModel, LocalDatastoreModel

from bundle.files import write_atomically
from monailabel_app.wire.json_values import repaired_info

logger = logging.getLogger(__name__)

INDEX = "datastore_v2.json"


def new_index() -> LocalDatastoreModel:
    """An index without images."""
    return LocalDatastoreModel(name="new-dataset", description="New Dataset", images_dir=".", labels_dir="labels")


def read_index(path: Path, *, otherwise: LocalDatastoreModel) -> tuple[LocalDatastoreModel, bool]:
    """Read an index, as much of it as can be used; a damaged one is kept as a copy beside it.

    Args:
        path: the file.
        otherwise: what stands for one that cannot be read.

    Returns:
        The index, and whether something had to be left out.
    """
    try:
        index = LocalDatastoreModel.model_validate(json.loads(path.read_bytes()))
        lost = _repair(index)
    except (ValueError, RecursionError) as error:  # a file that is cut off, empty or no index at all
        index, lost = otherwise, f"what it said about them, it cannot be read ({str(error).splitlines()[0]})"
    if lost:
        logger.warning(
            "The index %s was repaired; images and labels are listed from the folder. Lost is %s. %s",
            *(path, lost, _copy_aside(path)),
        )
    return index, bool(lost)


def write_index(path: Path, index: LocalDatastoreModel, change: Callable[[], object] = lambda: None) -> None:
    """Replace the index once its new content is on the disk.

    Args:
        path: the file.
        index: the new content.
        change: what the index tells of, as moving a label into place. It happens when nothing but the last rename can
            fail any more, so that a full disk leaves both as they were.
    """
    content = json.dumps(index.model_dump(exclude={"base_path"}), indent=2, allow_nan=False)

    def write(partial: str) -> None:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        change()

    write_atomically(path, write, mode=0o600)


def entry(name: str, ending: str, info: dict | None = None) -> DataModel:
    """What the index holds about a file."""
    return DataModel(ext=ending, info={**(info or {}), "ts": int(time.time()), "name": f"{name}{ending}"})


def _repair(index: LocalDatastoreModel) -> str:
    """Take out what could not be sent or would break the next sample; says what that was."""
    lost = []
    for image_id, image in index.objects.items():
        parts = {f"image {image_id!r}": image.image}
        parts |= {f"label {image_id!r} of {tag!r}": label for tag, label in image.labels.items()}
        for what, part in parts.items():
            part.info, left_out = repaired_info(part.info)
            lost += [f"{', '.join(left_out)} of {what}"] if left_out else []
    return "; ".join(lost)


def _copy_aside(path: Path) -> str:
    number = 1
    while (copy := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        shutil.copyfile(path, copy)
    except OSError as error:  # the disk that was full when the index was cut off may be full still
        return f"No copy of it could be kept ({error})"
    return f"The file as it was is kept as {copy.name}"
