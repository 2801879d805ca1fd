"""The formats, a module for each, which is imported when it is first used.

Together their libraries (nibabel, pydicom, SimpleITK, ...) take longer than everything else that an image is opened
with, and a file needs one of them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

FORMATS = ("dicom", "dicom_seg_writer", "itk", "medsam", "nifti", "nrrd", "picture", "seg_nrrd")


def __getattr__(name: str) -> ModuleType:
    if name not in FORMATS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def import_all() -> None:
    """Import every format now: before a process forks, so that none of its children does it again."""
    for name in FORMATS:
        importlib.import_module(f"{__name__}.{name}")
