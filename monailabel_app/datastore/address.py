"""Whether STUDIES is a folder or the address of a DICOMweb server."""

from __future__ import annotations


def is_dicomweb(studies: str) -> bool:
    """Whether it is an address; else it is a folder."""
    return studies.startswith(("http://", "https://"))
