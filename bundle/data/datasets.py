"""Dataset layouts: where images, labels and patients stand in each of the folder structures people have.

Every layout is a function of a root folder that returns items, plain dictionaries that MONAI's datasets take as well:

- ``image``: path that ``read_volume`` reads.
- ``label``: path that ``read_label`` reads, None where nobody labelled the image.
- ``patient``: who it shows; splits are made of whole patients.
- ``labels``: name -> value in the label file.
- ``labelled``: the values that were annotated in this item. What else is in the image is *unlabelled*, not background.
- ``split``: training, validation or test, only where the layout says so.
- ``read_as``: "CT", "other" or "windowed", only where somebody said so; else ``read_volume`` finds out. (``modality``
  of other people's data lists is a word for readers, as "MR" or "ultrasound".)

Who a picture shows, nobody can tell from its name: layouts whose images may be pictures have ``patient``, a regular
expression whose first group, on the image's stem, is the patient. Without it a volume is a patient, and pictures are
refused with a LayoutError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bundle.data.dataset_files import (
    Item,
    LayoutError,
    checked_entry,
    existing,
    files_in,
    find_pairs,
    listed,
    make_item,
    match,
    moved,
    names_in,
    names_listed,
    of_kind,
    patient_of,
    read_json,
    some,
    stem,
    values_in,
)
from bundle.data.image_files import is_no_image, report_passed_over
from bundle.data.label_info import sent_names
from bundle.data.labels import FLARE22_LABELS
from bundle.data.modality import MODALITIES

SPLITS = ("training", "validation", "test")


def flare22(
    root: str | Path,
    *,
    images: str = "images",
    labels: str = "labels",
    patient: str | None = None,
    unlabelled: bool = False,
) -> list[Item]:
    """FLARE22: ``images/FLARE22_Tr_0001_0000.nii.gz`` with ``labels/FLARE22_Tr_0001.nii.gz``, 13 organs by name.

    Args:
        root: the dataset's folder.
        images: folder of images in it (the challenge calls its unlabelled ones otherwise).
        labels: folder of labels in it.
        patient: regular expression on the image's stem; without it every volume is one.
        unlabelled: also return images without label.
    """
    pairs = find_pairs(Path(root) / images, Path(root) / labels, unlabelled=unlabelled)
    return [make_item(image, label, patient_of(image, patient), FLARE22_LABELS) for image, label in pairs]


def msd(
    root: str | Path,
    *,
    datalist: str = "dataset.json",
    labelled: str | Mapping[str, Sequence[str]] = "all",
    unlabelled: bool = False,
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
        unlabelled: also return images without label, such as MSD's own test cases.

    Raises:
        LayoutError: also where a picture has no patient, ``labelled`` names an organ that is not in the list, or it has
            no pattern for an image.
    """
    path = Path(root) / datalist
    content = read_json(path)
    names = names_listed(content.get("labels", {}), path)
    lists = {split: of_kind(content.get(split, []), list, f"{split} of {path}", "a list") for split in SPLITS}
    has_splits = any(isinstance(entry, Mapping) and "label" in entry for entry in lists["validation"] + lists["test"])
    items = []
    for split, entries in lists.items():
        for number, entry in enumerate(entries):
            entry = checked_entry(entry, f"{split}[{number}] of {path}")
            if not (entry.get("label") or unlabelled):
                continue
            item = _listed_item(Path(root), entry, names, labelled=labelled)
            items.append({**item, "split": split} if has_splits else item)
    return some(items, path)


def _listed_item(
    root: Path, entry: Mapping[str, Any], names: Mapping[str, int], *, labelled: str | Mapping[str, Sequence[str]]
) -> Item:
    image = existing(listed(root, entry["image"]))
    label = existing(listed(root, entry["label"])) if entry.get("label") else None
    known = entry.get("labelled")
    if known is None and label and labelled != "all":
        known = values_in(label) if labelled == "present" else _values_by_pattern(image, names, labelled)
    extra = {key: value for key, value in entry.items() if key not in ("image", "label", "patient", "labelled")}
    patient = str(entry["patient"]) if "patient" in entry else patient_of(image, None)
    return {**extra, **make_item(image, label, patient, names, labelled=known)}


def _values_by_pattern(image: Path, names: Mapping[str, int], patterns: Mapping[str, Sequence[str]]) -> list[int]:
    organs = {organ for pattern, organs in patterns.items() if fnmatchcase(image.name, pattern) for organ in organs}
    if unknown := sorted(organs - names.keys()):
        raise LayoutError(f"labelled names {unknown[0]!r}, but the list has the organs {', '.join(names)}")
    if not organs:
        raise LayoutError(f"no pattern of labelled ({', '.join(patterns)}) says which organs {image.name} annotates")
    return sorted(names[organ] for organ in organs)


def nnunet(root: str | Path, *, channel: int = 0, patient: str | None = None) -> list[Item]:
    """nnU-Net: ``dataset.json``, ``imagesTr/<case>_0000.<ending>``, ``labelsTr/<case>.<ending>``; Ts is the test split.

    Args:
        root: a folder of nnUNet_raw, version 1 or 2.
        channel: which input channel is the image.
        patient: regular expression on the image's stem, channel number included; without it every volume is one.

    Raises:
        LayoutError: also where labels are regions, see ``names_listed``.
    """
    root = Path(root)
    names = names_listed(read_json(root / "dataset.json").get("labels", {}), root / "dataset.json")
    items = []
    for suffix, split in (("Tr", "training"), ("Ts", "test")):
        if not (root / f"labels{suffix}").is_dir():
            continue
        images = [path for path in files_in(root / f"images{suffix}") if stem(path).endswith(f"_{channel:04d}")]
        for image, label in match(images, files_in(root / f"labels{suffix}"), unlabelled=False, channel=channel):
            who = patient_of(image, patient, channel=channel)
            items.append({**make_item(image, label, who, names), "split": split})
    if all(item["split"] == "training" for item in items):
        items = [{key: value for key, value in item.items() if key != "split"} for item in items]
    return some(items, root)


def medsam(root: str | Path, *, labels: Mapping[str, int] | None = None, patient: str = r"(.+?)(-\d+)?$") -> list[Item]:
    """MedSAM's npz archives (``imgs`` and ``gts`` in one file) anywhere below root, or its ``imgs/`` and ``gts/`` npy.

    Args:
        root: the dataset's folder.
        labels: name -> value; without it every value gets the name "label_<value>", for which each file is read.
        patient: regular expression whose first group, on the file's stem, is the patient: npy are named <case>-<slice>.
    """
    root = Path(root)
    if (root / "imgs").is_dir():
        pairs = find_pairs(root / "imgs", root / "gts", unlabelled=False)
    else:
        found = sorted(root.rglob("*.npz"))
        report_passed_over([path for path in found if is_no_image(path)], root)
        pairs = [(path, path) for path in found if not is_no_image(path)]
    items = []
    for image, label in pairs:
        names = labels or names_in(label)
        items.append(make_item(image, label, patient_of(image, patient), names))
    return some(items, root)


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
    for key, value in read_json(root / pairs).items():
        paths = value if isinstance(value, list) else [value]
        for path in paths:
            of_kind(path, str, f"{key!r:.80} in {root / pairs}", "a path or a list of paths")
        for image, mask in [(key, path) for path in paths] if isinstance(value, list) else [(value, key)]:
            image_path, mask_path = moved(root, image), moved(root, mask)
            organ = re.sub(r"_\d+$", "", stem(mask_path).removeprefix(stem(image_path) + "_"))
            items.append(make_item(image_path, mask_path, patient_of(image_path, patient), {organ: 255}))
    return some(items, root / pairs)


def monai_label(
    root: str | Path, *, tag: str = "final", patient: str | None = None, unlabelled: bool = False
) -> list[Item]:
    """A MONAI Label datastore: images in root, accepted labels in ``labels/<tag>``, names in ``datastore_v2.json``.

    A label's names are those of its own segments (.seg.nrrd), or else those that the client sent with it, by number.
    Where there are none, "label_<value>".

    Args:
        root: the studies folder of the server.
        tag: which labels.
        patient: regular expression on the image's stem; without it every volume is one.
        unlabelled: also return images that nobody has labelled.
    """
    root = Path(root)
    store = root / "datastore_v2.json"
    objects = read_json(store).get("objects", {}) if store.is_file() else {}
    items = []
    for image, label in find_pairs(root, root / "labels" / tag, unlabelled=unlabelled):
        sent: Any = objects
        for key in (stem(image), "labels", tag, "info"):
            sent = of_kind(sent, Mapping, f"the entry of {image.name} in {store}", "objects within objects").get(
                key, {}
            )
        items.append(make_item(image, label, patient_of(image, patient), sent_names(sent, label, store)))
    return items


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
        names: name -> value; without it each file's segments (.seg.nrrd) give them, or else "label_<value>" does.
        patient: regular expression on the image's stem; without it every volume is one.
        unlabelled: also return images without label.
    """
    items = []
    for image, label in find_pairs(Path(root) / images, Path(root) / labels, unlabelled=unlabelled):
        item_names = names or (names_in(label) if label else {})
        items.append(make_item(image, label, patient_of(image, patient), item_names))
    return items


LAYOUTS: dict[str, Callable[..., list[Item]]] = {
    function.__name__: function for function in (flare22, msd, nnunet, medsam, sam_med2d, monai_label, folders)
}


def read_layout(layout: str, root: str | Path, *, read_as: str | None = None, **options: Any) -> list[Item]:
    """The items of ``root`` read as one of ``LAYOUTS``.

    Args:
        layout, root, options: name of the layout, its folder and its options.
        read_as: what kind of values all images hold, one of ``MODALITIES``; None where ``read_volume`` is to find out.

    Raises:
        LayoutError: the layout or modality is unknown, or the folder does not have the layout.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if read_as is not None and read_as not in MODALITIES:
        raise LayoutError(f"read_as must be one of {', '.join(MODALITIES)}, got {read_as!r}")
    items = LAYOUTS[layout](root, **options)
    return items if read_as is None else [{**item, "read_as": read_as} for item in items]


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
