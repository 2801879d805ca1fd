"""Dataset layouts: where images, labels and patients stand in each of the folder structures people have.

Every layout is a function of a root folder that returns items, plain dictionaries that MONAI's datasets take as well:

- ``image``: path that ``read_volume`` reads.
- ``label``: path that ``read_label`` reads, None where nobody labelled the image.
- ``patient``: who it shows; splits are made of whole patients.
- ``labels``: name -> value in the label file.
- ``labelled``: the values that were annotated in this item. What else is in the image is *unlabelled*, not background.
- ``split``: training, validation or test, only where the layout says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.labels import FLARE22_LABELS
from bundle.data.volume import ENDINGS, read_label

Item = dict[str, Any]
SPLITS = ("training", "validation", "test")
# Formats that hold one slice.
_SLICES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".dcm")


class LayoutError(ValueError):
    """A folder does not have the layout it is read as."""


def flare22(
    root: str | Path, *, images: str = "images", labels: str = "labels", unlabelled: bool = False
) -> list[Item]:
    """FLARE22: ``images/FLARE22_Tr_0001_0000.nii.gz`` with ``labels/FLARE22_Tr_0001.nii.gz``, 13 organs by name.

    Args:
        root: the dataset's folder.
        images: folder of images in it (the challenge calls its unlabelled ones otherwise).
        labels: folder of labels in it.
        unlabelled: also return images without label.
    """
    pairs = _pairs(Path(root) / images, Path(root) / labels, unlabelled=unlabelled)
    return [_item(image, label, _case(image), FLARE22_LABELS) for image, label in pairs]


def msd(
    root: str | Path, *, datalist: str = "dataset.json", labelled: str | Mapping[str, Sequence[str]] = "all"
) -> list[Item]:
    """A data list as the Medical Segmentation Decathlon and MONAI write it; paths in it are relative to its folder.

    Entries of ``training``, ``validation`` and ``test`` are ``{"image", "label"}`` or image paths; ``patient`` and
    ``labelled`` of an entry are taken over; a volume without ``patient`` is one. The split is taken over only if the
    list names more than training.

    Args:
        root: the folder that ``datalist`` lies in.
        datalist: file name.
        labelled: "all": every label of the list was annotated everywhere. Collections that annotate one organ per image
            say which: shell pattern of image names -> names of the organs, ``{"liver_*": ["liver"]}``, or "present":
            only what occurs in a label file was annotated, for which each file is read.

    Raises:
        LayoutError: also where a picture has no patient, ``labelled`` names an organ that is not in the list, or it has
            no pattern for an image.
    """
    content = _read_json(Path(root) / datalist)
    names = {str(name): int(value) for value, name in content.get("labels", {}).items() if int(value) != 0}
    lists = {split: content.get(split, []) for split in SPLITS}
    has_splits = any(isinstance(entry, Mapping) and "label" in entry for entry in lists["validation"] + lists["test"])
    items = []
    for split, entries in lists.items():
        for entry in entries:
            entry = {"image": entry} if isinstance(entry, str) else entry
            item = _listed_item(Path(root), entry, names, labelled=labelled)
            items.append({**item, "split": split} if has_splits else item)
    return _some(items, Path(root) / datalist)


def _listed_item(
    root: Path, entry: Mapping[str, Any], names: Mapping[str, int], *, labelled: str | Mapping[str, Sequence[str]]
) -> Item:
    image = _existing(root / entry["image"])
    label = _existing(root / entry["label"]) if entry.get("label") else None
    known = entry.get("labelled")
    if known is None and label and labelled != "all":
        known = values_in(label) if labelled == "present" else _values_by_pattern(image, names, labelled)
    extra = {key: value for key, value in entry.items() if key not in ("image", "label", "patient", "labelled")}
    patient = str(entry["patient"]) if "patient" in entry else _only_image_of_a_patient(image)
    return {**extra, **_item(image, label, patient, names, labelled=known)}


def _values_by_pattern(image: Path, names: Mapping[str, int], patterns: Mapping[str, Sequence[str]]) -> list[int]:
    organs = {organ for pattern, organs in patterns.items() if fnmatchcase(image.name, pattern) for organ in organs}
    if unknown := sorted(organs - names.keys()):
        raise LayoutError(f"labelled names {unknown[0]!r}, but the list has the organs {', '.join(names)}")
    if not organs:
        raise LayoutError(f"no pattern of labelled ({', '.join(patterns)}) says which organs {image.name} annotates")
    return sorted(names[organ] for organ in organs)


def nnunet(root: str | Path, *, channel: int = 0) -> list[Item]:
    """nnU-Net: ``dataset.json``, ``imagesTr/<case>_0000.<ending>``, ``labelsTr/<case>.<ending>``; Ts is the test split.

    Args:
        root: a folder of nnUNet_raw, version 1 or 2.
        channel: which input channel is the image.

    Raises:
        LayoutError: also where labels are regions (lists of values): those overlap, a label map cannot hold them.
    """
    root = Path(root)
    names = _nnunet_labels(_read_json(root / "dataset.json").get("labels", {}), root)
    items = []
    for suffix, split in (("Tr", "training"), ("Ts", "test")):
        if not (root / f"labels{suffix}").is_dir():
            continue
        images = [path for path in _files(root / f"images{suffix}") if _stem(path).endswith(f"_{channel:04d}")]
        for image, label in _match(images, _files(root / f"labels{suffix}"), unlabelled=False, channel=channel):
            items.append({**_item(image, label, _case(image, channel), names), "split": split})
    if all(item["split"] == "training" for item in items):
        items = [{key: value for key, value in item.items() if key != "split"} for item in items]
    return _some(items, root)


def _nnunet_labels(labels: Mapping[str, Any], root: Path) -> dict[str, int]:
    if any(isinstance(value, list) for value in labels.values()):
        raise LayoutError(f"{root / 'dataset.json'} defines regions, expected one value per label; list the parts")
    # Version 1 maps value to name, version 2 name to value.
    pairs = ((name, value) if str(value).isdigit() else (value, name) for name, value in labels.items())
    return {str(name): int(value) for name, value in pairs if int(value) != 0}


def medsam(root: str | Path, *, labels: Mapping[str, int] | None = None, patient: str = r"(.+?)(-\d+)?$") -> list[Item]:
    """MedSAM's npz archives (``imgs`` and ``gts`` in one file) anywhere below root, or its ``imgs/`` and ``gts/`` npy.

    Args:
        root: the dataset's folder.
        labels: name -> value; without it every value gets the name "label_<value>", for which each file is read.
        patient: regular expression whose first group, on the file's stem, is the patient: npy are named <case>-<slice>.
    """
    root = Path(root)
    if (root / "imgs").is_dir():
        pairs = _pairs(root / "imgs", root / "gts", unlabelled=False)
    else:
        pairs = [(path, path) for path in sorted(root.rglob("*.npz"))]
    items = []
    for image, label in pairs:
        present = values_in(label)
        names = labels or {f"label_{value}": value for value in present}
        items.append(_item(image, label, _patient(patient, image), names, labelled=None if labels else present))
    return _some(items, root)


def sam_med2d(root: str | Path, *, pairs: str = "image2label_train.json", patient: str = r"(.+)_\d+$") -> list[Item]:
    """SAM-Med2D: a JSON of image -> masks, or of mask -> image; one item per mask, whose object has the value 255.

    Masks are named ``<image>_<organ>_<number>.png``. Paths in the JSON may start with the name that the dataset's
    folder had elsewhere.

    Args:
        root: the folder of the JSON.
        pairs: its name.
        patient: regular expression on the image's stem, ``<scan>_<slice>``.
    """
    root = Path(root)
    items = []
    for key, value in _read_json(root / pairs).items():
        for image, mask in [(key, mask) for mask in value] if isinstance(value, list) else [(value, key)]:
            image_path, mask_path = _moved(root, image), _moved(root, mask)
            organ = re.sub(r"_\d+$", "", _stem(mask_path).removeprefix(_stem(image_path) + "_"))
            items.append(_item(image_path, mask_path, _patient(patient, image_path), {organ: 255}))
    return _some(items, root / pairs)


def monai_label(root: str | Path, *, tag: str = "final", unlabelled: bool = False) -> list[Item]:
    """A MONAI Label datastore: images in root, accepted labels in ``labels/<tag>``, names in ``datastore_v2.json``.

    A label's names are those that the client sent with it, by number. Where it sent none, "label_<value>".

    Args:
        root: the studies folder of the server.
        tag: which labels.
        unlabelled: also return images that nobody has labelled.
    """
    root = Path(root)
    store = root / "datastore_v2.json"
    objects = _read_json(store).get("objects", {}) if store.is_file() else {}
    items = []
    for image, label in _pairs(root, root / "labels" / tag, unlabelled=unlabelled):
        entry = objects.get(_stem(image), {}).get("labels", {}).get(tag, {})
        items.append(_item(image, label, _stem(image), _sent_names(entry.get("info", {}), label)))
    return items


def _sent_names(info: Mapping[str, Any], label: Path | None) -> dict[str, int]:
    if label is None:
        return {}
    sent = info.get("label_info") or []
    names = {str(entry["name"]): int(entry["idx"]) for entry in sent if "name" in entry and "idx" in entry}
    return names or {f"label_{value}": value for value in values_in(label)}


def folders(
    root: str | Path,
    *,
    images: str = "images",
    labels: str = "labels",
    names: Mapping[str, int] | None = None,
    patient: str | None = None,
    unlabelled: bool = False,
) -> list[Item]:
    """A folder of images and a folder of label maps or masks with the same stems (an image's ``_0000`` is ignored).

    Args:
        root: the folder of both.
        images: name of the image folder.
        labels: name of the label folder.
        names: name -> value; without it every value gets the name "label_<value>", for which each file is read.
        patient: regular expression whose first group, on the image's stem, is the patient; without it every volume is
            one. Pictures need it: several may show one patient.
        unlabelled: also return images without label.

    Raises:
        LayoutError: also for pictures without ``patient``.
    """
    items = []
    for image, label in _pairs(Path(root) / images, Path(root) / labels, unlabelled=unlabelled):
        present = values_in(label) if label and not names else []
        item_names = names or {f"label_{value}": value for value in present}
        who = _only_image_of_a_patient(image) if patient is None else _patient(patient, image)
        items.append(_item(image, label, who, item_names))
    return items


LAYOUTS: dict[str, Callable[..., list[Item]]] = {
    function.__name__: function for function in (flare22, msd, nnunet, medsam, sam_med2d, monai_label, folders)
}


def read_layout(layout: str, root: str | Path, **options: Any) -> list[Item]:
    """The items of ``root`` read as one of ``LAYOUTS``.

    Raises:
        LayoutError: the layout is unknown, or the folder does not have it.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    return LAYOUTS[layout](root, **options)


def organ_names(items: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """Value -> name over all items.

    Raises:
        LayoutError: one value has two names, so that the items need ``bundle.data.prepare`` to give them one numbering.
    """
    names: dict[int, str] = {}
    for item in items:
        for name, value in item["labels"].items():
            if names.setdefault(value, name) != name:
                raise LayoutError(f"value {value} is {names[value]!r} and {name!r}; renumber with scripts/prepare.py")
    return dict(sorted(names.items()))


def values_in(label: Path) -> list[int]:
    """The values other than 0 in a label file, ascending."""
    return [int(value) for value in np.unique(read_label(label).array) if value != 0]


# --- what the layouts share ------------------------------------------------------------------------------------------


def _item(
    image: Path, label: Path | None, patient: str, names: Mapping[str, int], *, labelled: Sequence[int] | None = None
) -> Item:
    if labelled is None:
        labelled = sorted(names.values()) if label else []
    return {
        "image": str(image),
        "label": str(label) if label else None,
        "patient": patient,
        "labels": dict(names),
        "labelled": [int(value) for value in labelled],
    }


def _pairs(images: Path, labels: Path, *, unlabelled: bool) -> list[tuple[Path, Path | None]]:
    """Each image with the label of the same case.

    Raises:
        LayoutError: a folder is missing, a label has no image, or nothing is left.
    """
    if not labels.is_dir() and not unlabelled:
        raise LayoutError(f"expected label maps in {labels}, got no such folder")
    pairs = _match(_files(images), _files(labels) if labels.is_dir() else [], unlabelled=unlabelled)
    return _some(pairs, images)


def _match(
    images: list[Path], labels: list[Path], *, unlabelled: bool, channel: int = 0
) -> list[tuple[Path, Path | None]]:
    # A label may carry the image's whole stem or leave its channel number out.
    by_stem = {_stem(path): path for path in labels}
    pairs = [(image, by_stem.pop(_stem(image), None) or by_stem.pop(_case(image, channel), None)) for image in images]
    if by_stem:
        orphan = next(iter(by_stem.values()))
        raise LayoutError(f"{len(by_stem)} labels have no image, first {orphan}; rename one of the two")
    return [pair for pair in pairs if unlabelled or pair[1]]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise LayoutError(f"expected images in {folder}, got no such folder")
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(ENDINGS))


def _stem(path: Path) -> str:
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def _case(path: Path, channel: int = 0) -> str:
    """The stem without nnU-Net's channel number."""
    return _stem(path).removesuffix(f"_{channel:04d}")


def _patient(pattern: str, path: Path) -> str:
    found = re.match(pattern, _stem(path))
    if not found:
        raise LayoutError(f"the patient pattern {pattern!r} does not match {_stem(path)!r}; pass another patient=")
    return found.group(1)


def _only_image_of_a_patient(image: Path) -> str:
    """A volume's name; a guess for slices would put one patient's into training and test."""
    if image.name.lower().endswith(_SLICES):
        raise LayoutError(
            f"{image.name} is one slice, and nothing says whose; give `patient` in the data list, or for a folder "
            "patient=, a regular expression whose first group is the patient, '(.+)' where each shows another one"
        )
    return _case(image)


def _moved(root: Path, relative: str) -> Path:
    """A path of a JSON that was written when the dataset's folder had another name."""
    inside = Path(*Path(relative).parts[1:])
    return _existing(root / relative if (root / relative).is_file() else root / inside)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise LayoutError(f"{path} is listed, but there is no such file; check the root folder")
    return path


def _some(found: list, where: Path) -> list:
    if not found:
        raise LayoutError(f"found no labelled image by {where}; is this the right layout and root?")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LayoutError(f"expected a JSON file at {path}, got {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise LayoutError(f"expected a JSON object in {path}, got {type(content).__name__}")
    return content
