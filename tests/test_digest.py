"""What tells one image from another."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.data import digest
from bundle.data.digest import image_digest
from bundle.data.volume import Volume, read_volume, write_volume

ARRAY = np.arange(60, dtype=np.int16).reshape(5, 4, 3)


def volume(array=ARRAY, affine=None, modality="CT") -> Volume:
    return Volume(array, np.diag([1.0, 1, 2, 1]) if affine is None else affine, modality)


def test_the_digest_does_not_hang_on_the_file_or_the_order_in_memory(tmp_path, monkeypatch):
    expected = image_digest(volume())
    assert image_digest(volume(np.asfortranarray(ARRAY))) == expected
    assert image_digest(volume(ARRAY.astype(">i2"))) == expected
    for name in ("a.nii.gz", "b.nrrd", "c.mha"):
        assert image_digest(read_volume(write_volume(volume(), tmp_path / name), modality="CT")) == expected
    monkeypatch.setattr(digest, "_CHUNK", 50)
    assert image_digest(volume()) == expected


@pytest.mark.parametrize(
    "other",
    [
        volume(ARRAY + np.int16(1)),
        volume(ARRAY.astype(np.float32)),
        volume(ARRAY.reshape(4, 5, 3)),
        volume(affine=np.diag([1.0, 1, 2.5, 1])),
        volume(modality="other"),
    ],
)
def test_another_image_has_another_digest(other):
    assert image_digest(other) != image_digest(volume())
