"""A folder of studies with one image, and two labels, for the tests of what is kept in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_room import a_label, a_volume


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of studies with one image, and beside it what is sent to it."""
    a_volume(tmp_path / "studies/ct.nii.gz")
    return tmp_path / "studies"


@pytest.fixture
def first(tmp_path) -> Path:
    return a_label(tmp_path / "first.nii.gz", 1)


@pytest.fixture
def second(tmp_path) -> Path:
    return a_label(tmp_path / "second.nii.gz", 2)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


LISTED = [".lock", "ct.nii.gz", "datastore_v2.json"]
