"""What tells one image from another: a digest of its voxels and of where they lie."""

from __future__ import annotations

import hashlib

import numpy as np

from bundle.data.volume import Volume

_CHUNK = 1 << 26  # bytes hashed at once


def image_digest(volume: Volume) -> str:
    """The sha256 of an image's voxels, type, grid and modality, as 64 hexadecimal digits.

    The same image in another file, format or folder has the same digest. The modality belongs to it: a CT that is read
    as another kind of image is another one to a model.
    """
    array, affine = volume.array, np.asarray(volume.affine, dtype="<f8") + 0.0  # no -0.0
    kind = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{array.shape} {kind.str} {volume.modality}".encode())
    digest.update(affine.tobytes())
    layers = max(1, _CHUNK // max(1, array[:, :, :1].nbytes))
    for start in range(0, array.shape[2], layers):
        digest.update(np.ascontiguousarray(array[:, :, start : start + layers].T, dtype=kind))
    return digest.hexdigest()
