"""Units of length in text headers.

ITK and 3D Slicer take every length of NRRD and MetaImage for mm, whatever the header says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bundle.data.headers.claims import refusal

_MM: dict[str, float] = {"nm": 1e-6, "um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3, "in": 25.4}
_PREFIXES = {"nano": "nm", "micro": "um", "milli": "mm", "centi": "cm", "": "m"}
_SPELLINGS = {
    **{name: name for name in _MM},
    **{name: "um" for name in ("µm", "μm", "micron", "microns")},
    **{name: "in" for name in ("inch", "inches")},
    **{
        f"{prefix}{metre}": unit
        for prefix, unit in _PREFIXES.items()
        for metre in ("meter", "meters", "metre", "metres")
    },
}


def length_unit(path: Path, words: Iterable[str]) -> str:
    """The unit of a header's lengths: "nm", "um", "mm", "cm", "m" or "in"; "mm" where it names none.

    Args:
        path: the file of the header.
        words: the units that it gives to its axes; words that name no length, as "pixel" or nothing, say nothing.

    Raises:
        VolumeError: the axes do not all have the same one.
    """
    # header_lines gives bytes as letters
    units = [_SPELLINGS.get(word.strip().encode("latin-1").decode("utf-8", "replace").lower(), "") for word in words]
    named = sorted(set(units) - {""})
    if len(named) > 1 or (named not in ([], ["mm"]) and "" in units):
        raise refusal(path, f"its lengths are in {' and '.join(named)} on some axes only; give all of them in mm")
    return named[0] if named else "mm"


def mm_of(unit: str) -> float:
    """How many mm a unit of ``length_unit`` has."""
    return _MM[unit]
