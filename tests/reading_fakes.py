"""Readers that go wrong, for the process that reads files."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from bundle.data.volume import Volume


def crash(path: Path) -> Volume:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("not reached")


def hang(path: Path) -> Volume:
    time.sleep(60)
    raise AssertionError("not reached")


def spin(path: Path) -> Volume:
    while True:
        pass


def allocate(path: Path) -> Volume:
    return Volume(np.ones((4096, 1024, 1024)), np.eye(4))


def fail(path: Path) -> Volume:
    raise TypeError("a fault")


def modules(path: Path) -> Volume:
    """The number of voxels along i says whether PyTorch is loaded."""
    return Volume(np.zeros((1 + ("torch" in sys.modules), 1, 1), np.uint8), np.eye(4))
