"""Whether STUDIES is a folder or the address of a DICOMweb server."""

from __future__ import annotations

from pathlib import Path


def is_dicomweb(studies: str) -> bool:
    """Whether it is an address; else it is a folder."""
    return studies.startswith(("http://", "https://"))


def one_spelling(studies: str) -> str:
    """STUDIES as what is kept of them is named by: an address without a slash at its end, a folder by its full path."""
    return studies.strip().rstrip("/") if is_dicomweb(studies) else str(Path(studies).resolve())
