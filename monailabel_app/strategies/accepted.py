"""What accepted labels say: which structures there are, and where."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelException

from bundle.active.places import Place, mean_places, places_of
from bundle.data.grid import check_grid
from bundle.data.guarded import read_label, read_volume
from bundle.data.labels import find_labels
from bundle.errors import MonaiSamError
from monailabel_app.errors import RequestError
from monailabel_app.wire.json_values import LABEL_INFO
from monailabel_app.wire.labels import segments_of

logger = logging.getLogger(__name__)

MOST = 20  # labels that are read: where a structure lies is known by then
_FINAL = DefaultLabelTag.FINAL.value


class AcceptedLabels:
    """The final labels of a datastore, each read once. Safe to use from many threads."""

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
                stamp = path.stat().st_mtime_ns, path.stat().st_size
                if image not in self._known or self._known[image][0] != stamp:
                    self._known[image] = stamp, self._read(image, label_id, path, datastore)
            except (MonaiSamError, MONAILabelException, OSError, IndexError) as error:  # IndexError: no such series
                logger.warning("The label of the image %r says nothing about places: %s", image, error)
                return {}
            return self._known[image][1]

    def _read(self, image: str, label_id: str, path: Path, datastore: Datastore) -> dict[str, Place]:
        volume = read_volume(datastore.get_image_uri(image))
        labels = check_grid(volume, read_label(path)).array
        names = segment_names(datastore, label_id)
        return places_of(volume, labels, names or {value: f"label {value}" for value in find_labels(labels)})


def segment_names(datastore: Datastore, label_id: str, tag: str = _FINAL) -> dict[int, str]:
    """Value -> name of the segments of a label, as the client that saved it named them; empty if it did not."""
    try:
        entries = segments_of(datastore.get_label_info(label_id, tag).get(LABEL_INFO) or [])
    except RequestError:
        return {}
    return {value: entry["name"] for value, entry in entries.items() if entry["name"] != "background"}
