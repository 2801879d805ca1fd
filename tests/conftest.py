"""Fixtures that every test room shares."""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import atexit
import locale
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Servers that tests start keep sessions and prepared slices here, not in the folders of whoever runs the tests.
for variable in ("XDG_STATE_HOME", "MONAI_SAM_HOME"):
    os.environ[variable] = tempfile.mkdtemp(prefix="monai-sam-tests-")
    atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent

# A busy machine is not a failure.
settings.register_profile("monai-sam", deadline=None, max_examples=50)
settings.load_profile("monai-sam")

# Each worker of pytest-xdist has a core; more threads than cores only fight each other.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository root, which is the bundle root."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CT, MR and DICOM data; the test skips where it is absent."""
    folder = Path(os.environ.get("MONAI_SAM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MONAI_SAM_DATA to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def _on_torch(monkeypatch):
    """What is chosen for networks is PyTorch, whether OpenVINO is installed here or not; tests of it ask for it."""
    monkeypatch.setattr("bundle.engines.choice._pays", lambda network, device: False)


@pytest.fixture(autouse=True)
def _same_process():
    """What libraries leave behind: MONAI's runner puts folders into the search path, GDCM sets the C locale."""
    path, region = list(sys.path), locale.setlocale(locale.LC_ALL)
    yield
    sys.path[:] = path
    locale.setlocale(locale.LC_ALL, region)
