"""What tests of batch runs share: two bright bars, and a case of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from fakes import bright_contract

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import Case
from bundle.data.volume import Volume

SHAPE = (40, 36, 24)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
FAMILY = SimpleNamespace(name="bright", contract=bright_contract(), volume=None)


def two_bars():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:18, 6:20, 2:16] = 1
    labels[22:36, 10:30, 6:20] = 3
    return labels


def bright_case(prompts, tmp_path=None, truth=True):
    labels = two_bars()
    image = Volume(np.where(labels > 0, 100, 0).astype(np.int16), AFFINE, "CT")
    return Case(CaseFiles("bars", "bars.nii.gz"), image, prompts, Volume(labels, AFFINE) if truth else None)
