"""How an image of the datastore is read: alike for clicks, batches, scores, places and trainings."""

from __future__ import annotations

from collections.abc import Collection

from monailabel.interfaces.datastore import Datastore

from bundle.data import guarded
from bundle.data.volume import Volume
from monailabel_app.datastore.dicomweb_store import DicomWebStore


def image_path(store: Datastore, image_id: str) -> str:
    """The file of an image, or the folder of its DICOM files; empty if there is no such image.

    DICOM files say that an image is a CT; the NIfTI that is made of them, for who downloads it, cannot.
    """
    return store.series_folder(image_id) if isinstance(store, DicomWebStore) else store.get_image_uri(image_id)


def names_listed(store: Datastore, image_id: str) -> Collection[str] | None:
    """The structures of an image's final label, as far as a server lists them; None where only the label says it."""
    return store.segment_names(image_id) if isinstance(store, DicomWebStore) else None


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
