"""DICOM files, by pydicom."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset

from bundle.files import BoundedFile


def read_dataset(path: Path, *, stop_before_pixels: bool = False, force: bool = False) -> FileDataset:
    """The elements of a file, each as long as it is and not as long as it says.

    Args:
        path: of the file.
        stop_before_pixels: whether to leave out the pixels and what lies behind them.
        force: whether to read a file without the letters DICM, of before 1993.

    Raises:
        InvalidDicomError: the letters are missing.
        Exception: what pydicom raises on a damaged file.
    """
    with BoundedFile(path) as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=force)
    dataset.filename = str(path)  # of a deflated file it is a buffer
    return dataset
