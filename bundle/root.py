"""Where the bundle's own files lie: its configs and weights, in a clone, in a zip and in an installed package."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# A wheel has `configs/` and `models/` inside of the package, a clone and the zip beside it.
IS_INSTALLED = (_PACKAGE / "configs" / "metadata.json").is_file()
BUNDLE_ROOT = _PACKAGE if IS_INSTALLED else _PACKAGE.parent


def downloads_root() -> Path:
    """The folder that downloaded weights lie under: `MONAI_SAM_HOME`, else the clone, else the user's cache.

    Nothing is written into an installed package, which may belong to somebody else.
    """
    if os.environ.get("MONAI_SAM_HOME") or IS_INSTALLED:
        return cache_root()
    return BUNDLE_ROOT


def cache_root() -> Path:
    """The folder of what can be made again, such as converted networks: `MONAI_SAM_HOME`, else the user's cache."""
    if home := os.environ.get("MONAI_SAM_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "monai-sam"
