"""The folder of studies: MONAI Label's local datastore, which here does not lose a label while it writes a new one."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore


class StudyFolder(LocalDatastore):
    """A local datastore whose labels survive a save that fails halfway (a full disk, a vanished upload)."""

    _saving = threading.Lock()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label as LocalDatastore does; if that fails the label from before is back in place.

        Raises:
            ImageNotFoundException: there is no such image.
        """
        with self._saving:
            current = Path(self.get_label_uri(image_id, label_tag) or os.devnull)
            if not current.is_file():
                return super().save_label(image_id, label_filename, label_tag, label_info)
            # Hidden and with another ending: the datastore takes no notice of it.
            kept = current.with_name(f".{current.name}.previous")
            shutil.copy2(current, kept)
            try:
                label_id = super().save_label(image_id, label_filename, label_tag, label_info)
            except BaseException:
                os.replace(kept, current)
                raise
            kept.unlink()
            return label_id
