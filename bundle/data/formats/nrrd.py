"""NRRD by the header that ``bundle.data.headers.nrrd`` has read, so that no other parser sees the text of a file.

ITK's library for the format puts what a header says into buffers of fixed length: a long word ends the process. Voxels
and geometry are those that ITK gives, field by field as the format has them
(https://teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import numpy as np

from bundle.data.formats.stored import LPS_TO_RAS, Stored, in_mm
from bundle.data.headers.claims import damaged, refusal
from bundle.data.headers.lengths import mm_of
from bundle.data.headers.nrrd import NrrdHeader, read_header

# The spaces that do not count left, posterior and superior; one of no anatomy is taken for LPS, as ITK takes it.
_TO_LPS = {
    **dict.fromkeys(("right-anterior-superior", "ras", "right-anterior-superior-time", "rast"), (-1.0, -1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las", "left-anterior-superior-time", "last"), (1.0, -1.0, 1.0, 1.0)),
}
_BLOCK = 2**24


def read_nrrd(path: Path) -> Stored:
    """Read a NRRD file of one volume or one slice, grey or colour.

    Raises:
        VolumeError: the header is refused, its axes make no volume, or its voxels are not all there.
    """
    header = read_header(path)
    domain = header.domain
    others = [axis for axis in range(len(header.sizes)) if axis not in domain]
    sizes = [header.sizes[axis] for axis in domain]
    affine = LPS_TO_RAS @ _affine(header, domain, path)
    if len(sizes) == 4 and sizes[3] == 1:
        sizes.pop()
    if len(sizes) not in (2, 3):
        raise refusal(path, f"expected one 3D volume, got size {tuple(sizes)}; split it into one file per volume")
    channels = math.prod(header.sizes[axis] for axis in others)
    if channels not in (1, 3, 4):
        raise refusal(
            path, f"expected one value or RGB per voxel, got {channels} values; split them into one file each"
        )
    array = _voxels(header, path).reshape(header.sizes, order="F").transpose([*domain, *others])
    array = array.reshape([*(*sizes, 1)[:3], channels], order="F")
    stored = Stored(array[..., 0] if channels == 1 else array[..., :3], affine)
    return in_mm(stored, mm_of(header.unit), path)


def _voxels(header: NrrdHeader, path: Path) -> np.ndarray:
    """The values in the order of the file."""
    array = np.empty(math.prod(header.sizes), header.dtype)
    view = memoryview(array.view(np.uint8))
    with header.data.open("rb") as file:
        file.seek(header.offset)
        stream = file if header.is_raw else gzip.GzipFile(fileobj=file)
        filled = 0
        while count := stream.readinto(view[filled : filled + _BLOCK]):
            filled += count
        if filled < len(view):
            raise damaged(path, f"its header announces {len(view)} bytes of voxels, the file holds {filled}")
        if not header.is_raw:
            stream.read(1)  # the sum at the end of the stream
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _affine(header: NrrdHeader, domain: list[int], path: Path) -> np.ndarray:
    """(4, 4) voxel index to LPS mm of the first three axes of voxels."""
    count, fields = len(domain), header.fields
    columns, origin = np.eye(max(count, 3)), np.zeros(max(count, 3))
    if "space directions" in fields:
        if "spacings" in fields and set(fields["spacings"].lower().split()) != {"nan"}:
            raise refusal(path, "its header has spacings and space directions, which may differ; remove the spacings")
        given = re.findall(r"\([^)]*\)|\S+", fields["space directions"])
        for place, axis in enumerate(domain):
            if given[axis].lower() != "none":
                columns[:count, place] = _vector(given[axis], count, path)
    elif "spacings" in fields and ("space" in fields or "space dimension" in fields):
        raise refusal(path, "its header has a space and spacings, which have no place in it; give space directions")
    else:
        scales = [_scale(header, axis, path) for axis in domain]
        columns[range(count), range(count)] = [step for _, step in scales]
        if not any(begin is None for begin, _ in scales):
            origin[:count] = [begin for begin, _ in scales]
    if "space origin" in fields:
        origin[:count] = _vector(fields["space origin"], count, path)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns[:3, :3], origin[:3]
    return np.diag(_TO_LPS.get(fields.get("space", "").lower(), (1.0,) * 4)) @ affine


def _scale(header: NrrdHeader, axis: int, path: Path) -> tuple[float | None, float]:
    """Where the first voxel of an axis has its centre, None where that is not said, and the step to the next one.

    Of cells the ends are the outer borders of the first and last voxel, of nodes their centres; what is neither counts
    as a cell, as in teem (https://teem.sourceforge.net/nrrd/format.html, "axis mins", "centerings").
    """
    spacing, begin, end = (_number(header, name, axis) for name in ("spacings", "axis mins", "axis maxs"))
    is_node = header.fields.get("centerings", "cell " * (axis + 1)).lower().split()[axis] == "node"
    steps = header.sizes[axis] - is_node
    step = spacing
    if begin is not None and end is not None and steps:
        step = (end - begin) / steps
        if spacing is not None and abs(step - spacing) > 1e-3 * abs(spacing):
            raise refusal(
                path, f"axis {axis + 1} has the spacing {spacing:g} and ends that make it {step:g}; remove one of them"
            )
    elif spacing is None and end is not None:  # without the other one, or of a single node
        raise refusal(path, f"axis {axis + 1} has one end and no spacing; save it with spacings or space directions")
    step = 1.0 if step is None else step
    return None if begin is None else begin + (0.0 if is_node else 0.5) * step, step


def _number(header: NrrdHeader, name: str, axis: int) -> float | None:
    """The number of an axis in a field, None where there is none."""
    number = float(header.fields[name].split()[axis]) if name in header.fields else math.nan
    return None if math.isnan(number) else number


def _vector(text: str, count: int, path: Path) -> list[float]:
    numbers = [float(number) for number in text.strip("() \t").split(",")]
    if len(numbers) != count:
        raise refusal(path, f"its vectors must have {count} numbers, one for each axis of voxels, got {text[:60]!r}")
    return numbers
