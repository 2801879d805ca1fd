"""Which labels of a datastore somebody has accepted, and whom they show.

Accepted is what was saved as ``final``: Slicer's button Submit Label, or ``PUT /datastore/label`` without another tag.
What a model made by itself has another tag (``original``, of batch inference and of ``save_label``), as has every draft
that a client saves under a tag of its own; none of those is trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydicom
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from pydicom.errors import InvalidDicomError

from bundle.data.dataset_files import stem
from bundle.data.label_info import sent_names
from bundle.errors import LayoutError, VolumeError
from monailabel_app.datastore.reading import image_path

logger = logging.getLogger(__name__)

_FINAL = DefaultLabelTag.FINAL.value
_UNKNOWN = ("", "UNK", "None")  # MONAI Label's clients say UNK of a field that a DICOM file lacks


@dataclass(frozen=True)
class AcceptedLabel:
    """An image with its accepted label.

    Attributes:
        image: its file or folder.
        label: file of the label map.
        names: name -> value in it.
        patient: who it shows: DICOM's PatientID where it is known, otherwise the image's id.
        read_as: the modality of its values, as clicks are answered; None is what its file says.
    """

    image: str
    label: str
    names: dict[str, int]
    patient: str
    read_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def accepted_labels(store: Datastore, *, modality: str | None = None) -> list[AcceptedLabel]:
    """The accepted labels of a datastore, in the order of their images; one whose names cannot be read is left out.

    Args:
        store: the datastore.
        modality: of every image; None is what its file says.
    """
    found = []
    for pair in sorted(store.datalist(), key=lambda pair: pair["image"]):
        image_id, label = stem(Path(pair["image"])), Path(pair["label"])
        image = Path(image_path(store, image_id))
        try:
            info = store.get_label_info(image_id, _FINAL) or {}
            names = sent_names(info, label, "the datastore")
        except (LayoutError, VolumeError) as error:
            logger.warning("The label of the image %r is not trained on: %s", image_id, error)
            continue
        patient = _patient(store.get_image_info(image_id) or {}, info, image) or image_id
        found.append(AcceptedLabel(str(image), str(label), names, patient, modality))
    return found


def count_accepted(store: Datastore) -> int:
    """How many images have an accepted label; cheap, for it is asked after each save."""
    return len(store.get_labeled_images())


def _patient(image_info: Mapping[str, Any], label_info: Mapping[str, Any], image: Path) -> str:
    for info in (image_info, label_info):
        if str(info.get("PatientID", "")) not in _UNKNOWN:
            return str(info["PatientID"])
    files = sorted(image.iterdir()) if image.is_dir() else [image] if image.suffix.lower() == ".dcm" else []
    if not files:
        return ""
    try:
        header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["PatientID"])
    except (OSError, InvalidDicomError):  # a folder of something else; whoever reads the image says so
        return ""
    return str(header.get("PatientID", ""))
