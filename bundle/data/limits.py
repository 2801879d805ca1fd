"""How much of anything from outside is taken: one table for the readers, the prompts and the server.

Each limit can be moved by an environment variable of its name: ``MONAI_SAM_MAX_VOXELS=2000000000``. A refusal names the
limit, so that who owns the file and the machine knows what to set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from bundle.errors import LimitError

__all__ = ["LIMITS", "LimitError", "Limits", "variable_of"]

_PREFIX = "MONAI_SAM_MAX_"


@dataclass(frozen=True)
class Limits:
    """The largest numbers that are taken; ``Limits()`` holds the defaults, ``LIMITS`` those of this process.

    Attributes:
        voxels: voxels of one volume, colour counted once. The default holds a CT of 512 x 512 x 2048.
        data_bytes: bytes of one volume once they are decompressed; the default is those voxels in float64.
        header_bytes: bytes of a file's header: text, NIfTI extensions, a zarr array's metadata.
        header_lines: lines of a text header. A segmentation of 3D Slicer has about ten for each segment.
        line_bytes: bytes of one line of a text header.
        picture_pixels: pixels of one page of a picture; the default is Pillow's own bound (twice
            ``PIL.Image.MAX_IMAGE_PIXELS``).
        pages: pages of a picture, frames of a DICOM file.
        files: files of one DICOM folder.
        entries: entries of an npz archive or arrays of a zarr group.
        chunks: chunks of one zarr array; the default is a chunk for each slice of those voxels.
        points: points of one object in a request (half a megabyte each while the mask is computed).
        objects: objects in one request.
        positions: positions of all scribbles and lassos of one object in a request.
        mask_voxels: voxels of all masks of one object in a request.
        json_bytes: bytes of a JSON text in a request.
        json_depth: brackets within brackets in it.
        body_bytes: bytes of a request with its files.
        session_bytes: bytes of the record of one session, undoing apart: a click takes some thousands.
        read_seconds: seconds that a file from outside may take to read, by the clock and of the CPU.
        read_bytes: memory that the process which reads it may take.
        readers: files from outside that are read at the same time.
        requests: clicks that may be there at once, waiting and being computed; one user may take half of them.
        wait_seconds: seconds that a click waits for its turn, and a file for its reader.
        work_seconds: seconds that a click may compute.
        uploads: other requests that bring or fetch whole files, at once.
        sessions: volumes that clients have uploaded for a while.
        label_versions: versions of one label that are kept.
    """

    voxels: int = 512 * 512 * 2048
    data_bytes: int = 4 * 2**30
    header_bytes: int = 2**20
    header_lines: int = 10_000
    line_bytes: int = 2**16
    picture_pixels: int = 178_956_970
    pages: int = 8192
    files: int = 20_000
    entries: int = 1000
    chunks: int = 2048
    points: int = 500
    objects: int = 64
    positions: int = 20_000
    mask_voxels: int = 512 * 512 * 1024
    json_bytes: int = 2**20
    json_depth: int = 32
    body_bytes: int = 2 * 2**30
    session_bytes: int = 2**28
    read_seconds: int = 120
    read_bytes: int = 8 * 2**30
    readers: int = 4
    requests: int = 32
    wait_seconds: int = 120
    work_seconds: int = 600
    uploads: int = 16
    sessions: int = 1000
    label_versions: int = 50

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """The defaults, except where a variable ``MONAI_SAM_MAX_<NAME>`` says otherwise.

        Raises:
            LimitError: a variable is no whole number above 0.
        """
        names = {field.name: variable_of(field.name) for field in fields(cls)}
        return cls(**{name: _number(environment[key], key) for name, key in names.items() if key in environment})


def variable_of(name: str) -> str:
    """The environment variable that moves a limit: ``voxels`` -> ``MONAI_SAM_MAX_VOXELS``."""
    return _PREFIX + name.upper()


def _number(text: str, variable: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise LimitError(f"{variable} must be a whole number above 0, got {text!r}; correct or unset it")
    return int(text)


LIMITS = Limits.from_environment()
