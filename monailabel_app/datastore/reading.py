"""How an image of the datastore is read: alike for clicks, batches, scores, places and trainings."""

from __future__ import annotations

from collections.abc import Collection

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from bundle.data import guarded
from bundle.data.volume import Volume
from monailabel_app.datastore.dicomweb_store import DicomWebStore
from monailabel_app.wire.labels import is_entries


def image_path(store: Datastore, image_id: str) -> str:
    """The file of an image, or the folder of its DICOM files; empty if there is no such image.

    DICOM files say that an image is a CT; the NIfTI that is made of them, for who downloads it, cannot.
    """
    return store.series_folder(image_id) if isinstance(store, DicomWebStore) else store.get_image_uri(image_id)


def names_listed(store: Datastore, image_id: str) -> Collection[str] | None:
    """The structures that an image's final label is said to show, by a server or by who sent it; None by nobody."""
    if isinstance(store, DicomWebStore):
        return store.segment_names(image_id)
    sent = store.get_label_info(image_id, DefaultLabelTag.FINAL.value).get("label_info")
    return {one["name"] for one in sent} - {"background"} if sent and is_entries(sent) else None


def read_stored(store: Datastore, image_id: str, *, modality: str | None) -> Volume:
    """An image of the datastore.

    Args:
        store: the datastore.
        image_id: of the image.
        modality: ``--conf modality``; None is what its file says.

    Raises:
        VolumeError: it cannot be read.
    """
    return guarded.read_volume(image_path(store, image_id), modality=modality)
