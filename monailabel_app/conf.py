"""Values of ``--conf`` that several rooms read: folders that the server keeps things in, and numbers."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bundle.files import private_folder
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

OFF = "off"


def chosen_folder(conf: Mapping[str, str], option: str, default: Path, *, without: str) -> Path | None:
    """A folder of this user alone to keep something in, ready to be written in.

    Args:
        conf: the options of the app.
        option: the one that names the folder by its full path, or is "off".
        default: the folder where it says nothing.
        without: what becomes of it when nothing is kept, for the log.

    Returns:
        None with "off", and where nothing can be written in the folder that nobody chose.

    Raises:
        RequestError: a folder that cannot be used, or that others may look into.
    """
    chosen = conf.get(option)
    if chosen == OFF:
        return None
    folder = Path(os.path.expanduser(chosen)) if chosen else default
    if not folder.is_absolute():
        raise RequestError(f'{option} must be the full path of a folder, or "{OFF}", got {chosen!r}')
    try:
        with tempfile.TemporaryFile(dir=private_folder(folder, RequestError)):
            return folder
    except OSError as error:
        if chosen:
            raise RequestError(
                f"{option}: nothing can be written in {folder} ({error.strerror}); choose another folder"
            ) from error
        logger.warning("%s: nothing can be written in %s (%s)", without, folder, error.strerror)
        return None


def number_above_0(conf: Mapping[str, str], option: str, default: float) -> float:
    """The number that an option says.

    Raises:
        RequestError: it is no number above 0.
    """
    said = conf.get(option) or default
    try:
        number = float(said)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise RequestError(f"{option} must be a number above 0, got {said!r}")
    return number
