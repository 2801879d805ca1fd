"""Where structures lie, as accepted labels have them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelException

from bundle.active.places import Place, mean_places, places_of
from bundle.data.datasets import sent_names
from bundle.data.grid import check_grid
from bundle.data.guarded import read_label, read_volume
from bundle.errors import MonaiSamError

logger = logging.getLogger(__name__)

MOST = 20  # labels that are read: where a structure lies is known by then
_FINAL = DefaultLabelTag.FINAL.value


class AcceptedPlaces:
    """Reads each final label of a datastore once, by the names that it is trained on. Safe to use from many threads."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, dict[str, Place]]] = {}
        self._lock = threading.Lock()

    def places(self, datastore: Datastore) -> dict[str, Place]:
        """Name of each structure -> where the labelled images have it; empty where no label was accepted."""
        images = sorted(datastore.get_labeled_images())[:MOST]
        return mean_places(self._of_image(image, datastore) for image in images)

    def _of_image(self, image: str, datastore: Datastore) -> dict[str, Place]:
        with self._lock:
            try:
                label_id = datastore.get_label_by_image_id(image, _FINAL)
                path = Path(datastore.get_label_uri(label_id, _FINAL))
                info = datastore.get_label_info(label_id, _FINAL)
                stamp = path.stat().st_mtime_ns, path.stat().st_size, info
                if image not in self._known or self._known[image][0] != stamp:
                    self._known[image] = stamp, self._read(Path(datastore.get_image_uri(image)), path, info)
            except (MonaiSamError, MONAILabelException, OSError) as error:
                logger.warning("The label of the image %r says nothing about places: %s", image, error)
                return {}
            return self._known[image][1]

    def _read(self, image: Path, label: Path, info: Mapping[str, Any]) -> dict[str, Place]:
        volume = read_volume(image)
        labels = check_grid(volume, read_label(label)).array
        names = sent_names(info, label, "the datastore")
        return places_of(volume, labels, {value: name for name, value in names.items()})
