"""The folder of studies: MONAI Label's datastore on a disk, which loses nothing."""

from __future__ import annotations

import copy
import filecmp
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import ImageLabelModel, LocalDatastoreModel
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monailabel_app.datastore.image_notes import ImageNotes, notes_file
from monailabel_app.datastore.indexed_folder import IndexedFolder
from monailabel_app.datastore.label_versions import Version
from monailabel_app.datastore.study_files import LABEL_ENDINGS, split_name
from monailabel_app.datastore.study_index import entry
from monailabel_app.errors import RequestError
from monailabel_app.wire.json_values import check_info

_FINAL = DefaultLabelTag.FINAL.value


class StudyFolder(Datastore):
    """Images in a folder, labels in ``labels/<tag>/``, the index beside the images.

    Nothing that exists is written over except a label, by its successor, and that in one step; the one from before is
    kept as a version: whatever fails or is
    killed, the folder holds the state before or the state after. Links are read, never written through. Safe to use
    from several threads, and beside MONAI Label's own server on the same folder.
    """

    def __init__(self, folder: str | Path, *, patterns: Iterable[str] = ("*",), read_only: bool = False) -> None:
        """Args:
        folder: of the studies; it is made.
        patterns: narrows which files are images, as ``*.nii.gz``; by default all that ``read_volume`` reads.
        read_only: refuse every change. A folder that cannot be written to is so anyway.
        """
        self._folder = IndexedFolder(Path(folder), patterns=tuple(patterns), read_only=read_only)
        self._notes = ImageNotes(notes_file(self._folder.root)) if self._folder.read_only else None

    # ---- images -----------------------------------------------------------------------------------------------------

    def list_images(self) -> list[str]:
        """The ids of all images."""
        return list(self._folder.current().objects)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images with a final label; the arguments are MONAI Label's and say nothing here."""
        return [image_id for image_id, image in self._folder.current().objects.items() if _FINAL in image.labels]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images without a final label."""
        return [image_id for image_id, image in self._folder.current().objects.items() if _FINAL not in image.labels]

    def get_image(self, image_id: str, params: Any = None) -> io.BytesIO | None:
        """The content of an image's file, None if there is no such image."""
        path = self.get_image_uri(image_id)
        return io.BytesIO(Path(path).read_bytes()) if path else None

    def get_image_uri(self, image_id: str) -> str:
        """The path of an image, empty if there is no such image.

        Raises:
            RequestError: several files have that id (409).
        """
        image = self._folder.current().objects.get(image_id)
        if image is None and image_id in self._folder.unclear:
            files = ", ".join(self._folder.unclear[image_id])
            raise RequestError(f"{files} have one id, {image_id!r}; rename all but one of them", status=409)
        return str(self._folder.root / f"{image_id}{image.image.ext}") if image else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known about an image, with its path; empty if there is no such image."""
        image = self._folder.current().objects.get(image_id)
        if image is None:
            return {}
        noted = {} if self._notes is None else self._notes.of(image_id)
        return {**copy.deepcopy({**image.image.info, **noted}), "path": self.get_image_uri(image_id)}

    def note_image(self, image_id: str, info: dict[str, Any]) -> None:
        """Keep what the server itself notes of an image: in the index, of a read-only folder beside its own state.

        Raises:
            ImageNotFoundException: there is no such image.
            RequestError: information that cannot be kept.
        """
        if self._notes is None:
            return self.update_image_info(image_id, info)
        index = self._folder.current()
        _merged({**_image_of(index, image_id).image.info, **self._notes.of(image_id)}, info)
        self._notes.add(image_id, info, known=index.objects)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known about an image.

        Raises:
            ImageNotFoundException: there is no such image.
            RequestError: information that cannot be kept.
        """
        with self._folder.changing() as index:
            image = _image_of(index, image_id)
            image.image.info = _merged(image.image.info, info)
            self._folder.commit(index)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take in an image that is new; the file's ending says its format.

        Returns:
            Its id: ``image_id``, or the file's name without the ending.

        Raises:
            RequestError: there is an image of that id, whatever its ending (409), or the ending is no image's.
        """
        source = Path(image_filename)
        name, ending = split_name(source.name)
        name, ending = image_id or name, ending.lower()
        self._folder.check_takes(f"{name}{ending}")
        with self._folder.changing() as index:
            target = self._folder.place(self._folder.root, f"{name}{ending}")
            if name in index.objects or os.path.lexists(target):
                raise RequestError(
                    f"there is an image {name!r} already and it stays; send this under another id", status=409
                )
            index.objects[name] = ImageLabelModel(image=entry(name, ending, _merged({}, image_info)))
            self._folder.commit(index, source, target)
        return name

    def remove_image(self, image_id: str) -> None:
        """Remove an image, its labels and their versions; of a link, the link alone.

        Raises:
            ImageNotFoundException: there is no such image.
        """
        with self._folder.changing() as index:
            image = _image_of(index, image_id)
            files = [
                self._folder.place(self._folder.labels / tag, f"{image_id}{label.ext}")
                for tag, label in image.labels.items()
            ]
            files.append(self._folder.place(self._folder.root, f"{image_id}{image.image.ext}"))
            del index.objects[image_id]
            self._folder.commit(index, removed=files)
            self._folder.versions.remove_all(image_id)

    # ---- labels -----------------------------------------------------------------------------------------------------

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tag -> label id, which is the image's."""
        image = self._folder.current().objects.get(image_id)
        return dict.fromkeys(image.labels, image_id) if image else {}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The id of an image's label with a tag, empty if there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> io.BytesIO | None:
        """The content of a label's file, None if there is no such label."""
        path = self.get_label_uri(label_id, label_tag)
        return io.BytesIO(Path(path).read_bytes()) if path else None

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The path of a label, empty if there is no such label."""
        label = self._folder.current().label(label_id, label_tag)
        return str(self._folder.labels / label_tag / f"{label_id}{label.ext}") if label else ""

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known about a label; empty if there is no such label."""
        label = self._folder.current().label(label_id, label_tag)
        return copy.deepcopy(label.info) if label else {}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known about a label.

        Raises:
            LabelNotFoundException: there is no such label.
            RequestError: information that cannot be kept.
        """
        with self._folder.changing() as index:
            label = index.label(label_id, label_tag)
            if label is None:
                raise LabelNotFoundException(f"there is no label {label_id!r} of {label_tag!r}")
            label.info = _merged(label.info, info)
            self._folder.commit(index)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label in place of the one before; if that fails, the one before is still there.

        Raises:
            ImageNotFoundException: there is no such image.
            RequestError: the file's ending is no label's, or information that cannot be kept.
        """
        source = Path(label_filename)
        ending = split_name(source.name)[1].lower()
        if not ending:
            raise RequestError(f"{source.name} is no label map; export one of {', '.join(LABEL_ENDINGS)}")
        with self._folder.changing() as index:
            image = _image_of(index, image_id)
            before = image.labels.get(label_tag)
            target = self._folder.place(self._folder.labels / label_tag, f"{image_id}{ending}")
            image.labels[label_tag] = entry(image_id, ending, _merged({}, label_info))
            kept = None
            if before is not None and not _holds_same(source, old := target.with_name(f"{image_id}{before.ext}")):
                kept = self._folder.versions.keep(old, before.ext, image_id, label_tag, before.info)
            others = [] if before is None or before.ext == ending else [target.with_name(f"{image_id}{before.ext}")]
            try:
                self._folder.commit(index, source, target, removed=others)
            except BaseException:
                if kept is not None:
                    self._folder.versions.forget(image_id, label_tag, kept)
                raise
        return image_id

    def label_versions(self, label_id: str, label_tag: str) -> list[Version]:
        """The labels that this one took the place of, oldest first."""
        return self._folder.versions.list(label_id, label_tag)

    def label_version(self, label_id: str, label_tag: str, number: int) -> Version:
        """One of them.

        Raises:
            RequestError: there is none of that number (404).
        """
        return self._folder.versions.get(label_id, label_tag, number)

    def purge(self, older_than: float) -> int:
        """Remove the versions of labels that were replaced before a time (seconds since 1970); returns how many."""
        with self._folder.changing():
            return self._folder.versions.remove_older(older_than)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; it is kept as a version.

        Raises:
            LabelNotFoundException: there is no such label.
        """
        with self._folder.changing() as index:
            label = index.label(label_id, label_tag)
            if label is None:
                raise LabelNotFoundException(f"there is no label {label_id!r} of {label_tag!r}")
            path = self._folder.place(self._folder.labels / label_tag, f"{label_id}{label.ext}")
            kept = self._folder.versions.keep(path, label.ext, label_id, label_tag, label.info)
            del index.objects[label_id].labels[label_tag]
            try:
                self._folder.commit(index, removed=[path])
            except BaseException:
                if kept is not None:
                    self._folder.versions.forget(label_id, label_tag, kept)
                raise

    # ---- the whole --------------------------------------------------------------------------------------------------

    def name(self) -> str:
        """The name of the data set."""
        return self._folder.current().name

    def set_name(self, name: str) -> None:
        """Give the data set a name."""
        with self._folder.changing() as index:
            index.name = name
            self._folder.commit(index)

    def description(self) -> str:
        """What the data set is."""
        return self._folder.current().description

    def set_description(self, description: str) -> None:
        """Say what the data set is."""
        with self._folder.changing() as index:
            index.description = description
            self._folder.commit(index)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """``{"image": path, "label": path}`` of each image with a final label; paths from the folder if not full."""
        root = self._folder.root if full_path else Path()
        return [
            {
                "image": str(root / f"{image_id}{image.image.ext}"),
                "label": str(root / "labels" / _FINAL / f"{image_id}{image.labels[_FINAL].ext}"),
            }
            for image_id, image in self._folder.current().objects.items()
            if _FINAL in image.labels
        ]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Write a zip of the images with a final label, those labels and the index; the caller removes it.

        Raises:
            RequestError: no image has one (404).
        """
        items = self.datalist()[: limit_cases or None]
        if not items:
            raise RequestError("no image has a final label, so there is no data set to download", status=404)
        handle, path = tempfile.mkstemp(suffix=".zip")
        try:
            with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
                for item in items:
                    for kind, part in item.items():
                        archive.write(part, arcname=f"{kind}/{Path(part).name}")
                archive.writestr("metadata.json", self._folder.current().model_dump_json(exclude={"base_path"}))
        except BaseException:
            os.unlink(path)
            raise
        return path

    def status(self) -> dict[str, Any]:
        """How many images there are, how many have a final label, and how many labels each tag has."""
        images = self._folder.current().objects.values()
        tags: dict[str, int] = {}
        for tag in (tag for image in images for tag in image.labels):
            tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(images), "completed": tags.get(_FINAL, 0), "label_tags": tags}

    def json(self) -> dict[str, Any]:
        """The index as clients see it."""
        return self._folder.current().model_dump(exclude={"base_path"})

    def refresh(self) -> None:
        """Look at the folder now."""
        self._folder.look_again()


def _image_of(index: LocalDatastoreModel, image_id: str) -> ImageLabelModel:
    image = index.objects.get(image_id)
    if image is None:
        raise ImageNotFoundException(f"there is no image {image_id!r}")
    return image


def _merged(info: Mapping[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    merged = {**info, **(more or {})}
    check_info(merged, "info")
    return merged


def _holds_same(first: Path, second: Path) -> bool:
    return second.is_file() and filecmp.cmp(first, second, shallow=False)
