"""Where structures lie, as accepted labels have them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelException

from bundle.active.places import Place, mean_places, places_of
from bundle.data.grid import check_grid
from bundle.data.guarded import read_label
from bundle.data.label_info import sent_names
from bundle.errors import MonaiSamError
from monailabel_app.datastore.reading import names_listed, read_stored

logger = logging.getLogger(__name__)

MOST = 20  # images that show a structure: where it lies is known by then
_MOST_READ = 100  # labels that are read for a structure that they are said to have, or may have
_FINAL = DefaultLabelTag.FINAL.value


@dataclass(frozen=True, eq=False)
class _Label:
    """What is known of an image's label.

    Attributes:
        stamp: of its file and information; another label has another one.
        shown: value -> name of the structures that it shows.
        places: where they lie; None until somebody wanted to know.
    """

    stamp: object
    shown: Mapping[int, str]
    places: Mapping[str, Place] | None = None


class AcceptedPlaces:
    """Reads each final label of a datastore once, by the names that it is trained on. Safe to use from many threads.

    Args:
        modality: of every image; None is what its file says.
    """

    def __init__(self, *, modality: str | None = None) -> None:
        self._modality = modality
        self._known: dict[str, _Label] = {}
        self._lock = threading.Lock()

    def places(self, datastore: Datastore) -> dict[str, Place]:
        """Name of each structure -> where the labelled images have it; empty where no label was accepted.

        No structure is missed because its first label comes late: an image is left out only where all that its label
        is said to show (by who sent it, or by the DICOMweb server) is known from ``MOST`` others, or was looked for in
        ``_MOST_READ``, as clients may name segments that are empty.
        """
        found: list[Mapping[str, Place]] = []
        counts: Counter[str] = Counter()
        read: Counter[str | None] = Counter()
        for image in sorted(datastore.get_labeled_images()):
            names = names_listed(datastore, image) or (None,)
            if any(counts[name] < MOST and read[name] < _MOST_READ for name in names):
                found.append(self._of_image(image, datastore, counts))
                counts.update(found[-1].keys())
                read.update(names)
        return mean_places(found)

    def _of_image(self, image: str, datastore: Datastore, counts: Mapping[str, int]) -> Mapping[str, Place]:
        """Where an image has its structures; empty if all of them are known from enough others."""
        with self._lock:
            try:
                label_id = datastore.get_label_by_image_id(image, _FINAL)
                path = Path(datastore.get_label_uri(label_id, _FINAL))
                info = datastore.get_label_info(label_id, _FINAL)
                stamp = path.stat().st_mtime_ns, path.stat().st_size, info
                known, label = self._known.get(image), None
                if known is None or known.stamp != stamp:
                    label = read_label(path)
                    values = set(np.unique(label.array).tolist())
                    names = sent_names(info, path, "the datastore")
                    known = _Label(stamp, {value: name for name, value in names.items() if value in values})
                self._known[image] = known
                if all(counts[name] >= MOST for name in known.shown.values()):
                    return {}
                if known.places is None:
                    volume = read_stored(datastore, image, modality=self._modality)
                    labels = check_grid(volume, label or read_label(path)).array
                    self._known[image] = known = replace(known, places=places_of(volume, labels, known.shown))
            except (MonaiSamError, MONAILabelException, OSError) as error:
                logger.warning("The label of the image %r says nothing about places: %s", image, error)
                return {}
            return known.places or {}
