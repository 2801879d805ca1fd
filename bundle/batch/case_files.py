"""Which image goes with which prompts and label map, and what the results of each will be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bundle.batch.prompt_table import is_table, names_in, rows_of
from bundle.data.formats.choice import stem_of
from bundle.data.headers.dicom import holds_dicom
from bundle.data.image_files import images_or_series
from bundle.data.volume import ENDINGS
from bundle.errors import CaseError

# In a folder of images, a DICOM series is a folder of its own.
_IMAGE_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".dcm")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `name` is that of its results."""

    name: str
    image: Path
    prompts: Path | None = None
    label: Path | None = None


def find_cases(
    image: str | Path | Sequence[str | Path] | None,
    *,
    prompts: str | Path | None = None,
    label: str | Path | None = None,
) -> list[CaseFiles]:
    """Pair images with their prompts files and label maps.

    Args:
        image: a volume (file, or folder of one DICOM series), a list of them, a text file (`.txt`) that names one on
            each line, or a folder of volume files, in which a folder of DICOM files is a series; of a folder see
            `bundle.data.image_files`.
        prompts: the prompts file of the image; of several images, a folder of `<image>.json`, or a table (`.csv`, see
            `bundle.batch.prompt_table`).
        label: the label map of the image; of several images, a folder of files with the image's name, with or
            without its `_0000` (nnU-Net, FLARE22).

    Raises:
        CaseError: nothing to segment, nothing to ask, a partner that is missing, or two images of one name.
    """
    images = _images(image)
    if prompts is None and label is None:
        raise CaseError(
            "expected prompts or a label to draw boxes from, got neither; "
            "add --prompts prompts.json or --label labels.nii.gz"
        )
    several = len(images) > 1
    cases = [
        CaseFiles(
            name=stem_of(path),
            image=path,
            prompts=_partner(prompts, path, "prompts", several=several),
            label=_partner(label, path, "label", several=several),
        )
        for path in images
    ]
    _check_names(cases)
    return cases


def _images(image: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if image is None:
        raise CaseError("expected an image, got none; add --image volume.nii.gz, a folder of volumes or a DICOM folder")
    if isinstance(image, Sequence) and not isinstance(image, str):
        return [path for entry in image for path in _images(entry)]
    path = Path(str(image))
    if not path.exists():
        raise CaseError(f"there is no image {path}; give a volume, a folder of volumes or a DICOM folder")
    if path.suffix == ".txt" and path.is_file():
        return [image for line in _lines(path) for image in _images(path.parent / line)]
    if path.is_file() or path.suffix == ".zarr":
        return [path]
    return _of_folder(path)


def _lines(path: Path) -> list[str]:
    """The names in a list of images; lines that are empty or begin with # are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise CaseError(f"{path} must be a text in UTF-8 that names an image on each line") from error
    if not (names := [line for line in lines if line and not line.startswith("#")]):
        raise CaseError(f"{path} names no image; write one on each line")
    return names


def _of_folder(folder: Path) -> list[Path]:
    """The images of a folder; the folder itself where it is a DICOM series; else the series in its folders."""
    images = images_or_series(folder, _IMAGE_ENDINGS)
    if images != [folder]:
        return images
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    series = [path for path in inside if holds_dicom(path)]
    return series if series and not holds_dicom(folder) else images


def _partner(given: str | Path | None, image: Path, what: str, *, several: bool) -> Path | None:
    """The prompts file or label map of an image."""
    if given is None:
        return None
    path = Path(str(given))
    if not path.exists():
        raise CaseError(f"there is no {what} {path}")
    if is_table(path):
        return path if rows_of(path, image) else _not_in_table(image, path)
    if path.is_file() and not several:
        return path
    if path.is_file():
        raise CaseError(f"expected a folder of {what} files for several images, got the file {path}")
    endings = (".json",) if what == "prompts" else ENDINGS
    stems = dict.fromkeys((stem_of(image), stem_of(image).removesuffix("_0000")))
    found = [path / f"{stem}{ending}" for stem, ending in product(stems, endings)]
    if existing := [file for file in found if file.exists()]:
        return existing[0]
    raise CaseError(f"no {what} for {image.name} in {path}; expected a file like {found[0].name}")


def _not_in_table(image: Path, table: Path) -> Path:
    raise CaseError(
        f"no prompts for {image.name} in {table}; its column `image` has {', '.join(sorted(names_in(table)))}"
    )


def _check_names(cases: Sequence[CaseFiles]) -> None:
    seen: dict[str, CaseFiles] = {}
    for case in cases:
        if case.name in seen:
            other = seen[case.name].image
            raise CaseError(f"{other} and {case.image} would write results of one name; run them one after the other")
        seen[case.name] = case
