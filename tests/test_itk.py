"""MetaImage in other lengths than mm, which ITK does not look at."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from bundle.data.formats.itk import affine_of
from bundle.data.volume import read_label, read_volume, write_label

HEAD = "NDims = 3\nDimSize = 2 3 4\nElementSpacing = 20 30 50\nOffset = 9 8 7\n"


@pytest.mark.parametrize(("word", "mm"), [("um", 1e-3), ("cm", 10), ("mm", 1), ("?", 1), ("Unknown", 1)])
@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
def test_lengths_become_mm_and_answers_lie_where_itk_shows_the_image(tmp_path, word, mm, ending):
    path = tmp_path / "image.mha"
    path.write_bytes(
        f"{HEAD}DistanceUnits = {word}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode() + bytes(24)
    )
    image, by_itk = read_volume(path), affine_of(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(image.affine, np.diag([mm, mm, mm, 1]) @ by_itk)
    answer = write_label(np.ones(image.shape, np.uint8), image, tmp_path / f"answer.{ending}")
    np.testing.assert_allclose(affine_of(sitk.ReadImage(str(answer))), by_itk)
    np.testing.assert_allclose(read_label(answer).affine, image.affine)
