"""What reaches the server as a file or a name: kept inside its folder, and removed when the request is done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from fastapi import Request, UploadFile

from bundle.data.grid import check_grid
from bundle.data.guarded import read_label, read_volume
from bundle.data.volume import VolumeError
from bundle.files import sha256_of
from monailabel_app.datastore.study_files import is_plain_name
from monailabel_app.errors import RequestError, without_folders

# Names that become part of a path: ids of images, labels and sessions, tags, names of uploaded files.
_NAMES_IN_ADDRESS = ("image", "label", "id", "tag", "session_id", "strategy")


def check_name(name: str, what: str) -> str:
    """Return the name if it cannot leave the folder it is meant for.

    Raises:
        RequestError: it could.
    """
    if not is_plain_name(name):
        raise RequestError(
            f"{what} must be a plain name without slashes, line ends and a dot in front, got {name[:80]!r}; rename it"
        )
    return name


def check_names_in_address(request: Request) -> None:
    """A dependency for routes whose query or path names a file.

    Raises:
        RequestError: a name that could leave its folder.
    """
    given = {**request.query_params, **request.path_params}
    for what in _NAMES_IN_ADDRESS:
        if given.get(what):
            check_name(given[what], what)


def check_file_name(upload: UploadFile) -> str:
    """The last part of an uploaded file's name, whichever system it comes from.

    Raises:
        RequestError: there is none.
    """
    return check_name(PureWindowsPath(PurePosixPath(upload.filename or "").name).name, "the file's name")


@contextmanager
def received_file(upload: UploadFile) -> Iterator[tuple[Path, str]]:
    """An uploaded file on disk while the block runs, and the digest of its content.

    The digest is its identity: MITK and CVAT send the whole image with each click.
    """
    name = check_file_name(upload)
    with tempfile.TemporaryDirectory(prefix="monai-sam-upload-") as folder:
        path = Path(folder, name)
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        yield path, f"{sha256_of(path)}{''.join(path.suffixes)}"


def check_label_fits(label: Path, image: Path) -> None:
    """Refuse a label that could not be used with its image, before it takes the place of a good one.

    One with its axes in another order, or cropped to its segments (.seg.nrrd), is stored as it was sent: every reader
    here brings it onto the image by ``check_grid``, and other programs place it by its own header.

    Raises:
        RequestError: damaged, not whole numbers, or it does not lie on the image.
        VolumeError: the image cannot be read.
    """
    volume = read_volume(image)
    try:
        check_grid(volume, read_label(label))
    except VolumeError as error:
        raise RequestError(without_folders(f"the label was not saved: {error}")) from error


def check_image_can_be_read(image: Path) -> None:
    """Refuse an upload that nobody could open again.

    Raises:
        RequestError: damaged, or of no known format.
    """
    try:
        read_volume(image)
    except VolumeError as error:
        raise RequestError(without_folders(f"the image was not stored: {error}")) from error


def is_same_image(image: Path, stored: Path) -> bool:
    """Whether two files hold the same voxels in the same place: a client may send its image with each label."""
    try:
        first, second = read_volume(image), read_volume(stored)
    except VolumeError:
        return False
    same_place = np.allclose(first.affine, second.affine, atol=1e-3)  # mm: formats round differently
    return same_place and np.array_equal(first.array, second.array)
