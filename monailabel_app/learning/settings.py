"""How the server learns, as the options of the app say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.interactive.session_files import sessions_folder
from monailabel_app.conf import chosen_folder
from monailabel_app.datastore.address import is_dicomweb, one_spelling
from monailabel_app.errors import RequestError
from monailabel_app.wire.fields import read_modality


@dataclass(frozen=True)
class LearningSettings:
    """How the server learns.

    Attributes:
        folder: of jobs and versions.
        automatic: whether it trains by itself while people annotate.
        family, checkpoint, device, engine: what it was started with, as ``Segmenter.from_family`` takes them.
        modality: of every image; None is what its file says.
    """

    folder: Path
    automatic: bool = True
    family: str = "default"
    checkpoint: str | None = None
    device: str | None = None
    engine: str = "auto"
    modality: str | None = None

    @classmethod
    def of(cls, conf: Mapping[str, str], studies: str) -> LearningSettings | None:
        """As the options of the app say (``learning``, ``learn_while_annotating``).

        By itself it trains on the labels of a folder; a PACS also holds those of others, so that it is asked for there.

        Returns:
            None with ``learning`` "off", and where nothing can be written in the folder that nobody chose.

        Raises:
            RequestError: an option that cannot be used.
        """
        automatic = conf.get("learn_while_annotating") or ("off" if is_dicomweb(studies) else "on")
        if automatic not in ("on", "off"):
            raise RequestError(f"learn_while_annotating must be on or off, got {automatic!r}")
        name = hashlib.sha256(one_spelling(studies).encode()).hexdigest()[:16]
        default = sessions_folder().with_name("learning") / name
        folder = chosen_folder(conf, "learning", default, without="The server does not learn")
        if folder is None:
            return None
        return cls(
            folder,
            automatic == "on",
            conf.get("family", "default"),
            conf.get("checkpoint"),
            conf.get("device"),
            conf.get("engine", "auto"),
            read_modality(conf),
        )
