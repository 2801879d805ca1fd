"""Which files of a folder are images.

Folders hold other things than images that have an image's name: macOS puts `._name` beside each file on foreign disks
and into archives, Windows and PACS exports leave Thumbs.db, desktop.ini and DICOMDIR, viewers put a preview beside
DICOM slices. They are passed over, which one line of the log says.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bundle.data.formats.choice import ending_of
from bundle.data.headers.dicom import holds_dicom
from bundle.data.volume import ENDINGS

_NO_IMAGES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir")
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".npy")

_log = logging.getLogger(__name__)


def image_files(folder: Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    """The images or label maps that lie in a folder, by name; sub-folders are not searched.

    Pictures beside DICOM files are previews.

    Args:
        folder: the folder.
        endings: of the names, in lower case.
    """
    files = [path for path in folder.iterdir() if path.is_file()]
    kept = (*_VOLUMES, ".dcm") if holds_dicom(folder) else ENDINGS
    passed = [path for path in files if is_no_image(path) or (ending_of(path) and not _ends(path, kept))]
    report_passed_over(passed, folder)
    return sorted(path for path in files if path not in passed and _ends(path, endings))


def images_or_series(folder: Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    """The folder itself where it is that of a DICOM series, else the images in it.

    It is a series if it holds DICOM files and no volumes, or nothing that we know.
    """
    images = image_files(folder, endings)
    if not images or (holds_dicom(folder) and not any(_ends(path, _VOLUMES) for path in images)):
        return [folder]
    return images


def is_no_image(path: Path) -> bool:
    """Whether a file only looks like an image: it is hidden, or kept by a file manager."""
    return path.name.startswith(".") or path.name.lower() in _NO_IMAGES or "__MACOSX" in path.parts


def report_passed_over(files: Sequence[Path], folder: Path) -> None:
    """Say how many files of a folder were passed over."""
    if files:
        several = f"{len(files)} files" if len(files) > 1 else "1 file"
        _log.warning("%s of %s passed over as no images, first %s", several, folder, min(files).name)


def _ends(path: Path, endings: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(endings))
