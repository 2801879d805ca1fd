"""Build the zip that the model zoo of Project MONAI would publish: what inference and training need, and the weights.

The same sources give the same bytes. `models/model.pt`, which MONAI's export and the model zoo expect, is made from
`models/default.safetensors` here, so that the repository has one source of the weights.

Example: python scripts/make_bundle.py --output dist
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from bundle import __version__
from bundle.errors import MonaiSamError
from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import BUNDLE_ROOT
from bundle.files import read_json, write_atomically

NAME = "monai_sam"
WEIGHTS = "models/default.safetensors"
VOLUME_WEIGHTS = "models/default_3d.safetensors"
# Whole files, and folders with the endings that are taken from them.
# The README beside them tells of make and scripts, which stay in the repository; the bundle's own is docs/README.md.
FILES = ("LICENSE", "NOTICE", "CHANGELOG.md", "requirements.txt")
FOLDERS = {"configs": (".json", ".conf", ".md"), "bundle": (".py", ".html"), "docs": (".md", ".txt", ".json", ".png")}
NEEDED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "docs/data_license.txt")
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


class BundleError(MonaiSamError):
    """Something that the zip needs is missing or does not fit."""


def make_bundle(output: Path, *, root: Path = BUNDLE_ROOT, weights: Path | None = None) -> Path:
    """Write `monai_sam_bundle-<version>.zip`, whose only top folder is `monai_sam`.

    Args:
        output: folder to write to.
        root: the repository.
        weights: checkpoint of the default family; by default the one in the repository.

    Returns:
        The zip's path.

    Raises:
        BundleError: a file is missing, or the version in the metadata is not the package's.
        CheckpointError: the weights cannot be read.
    """
    check_version(root)
    weights = weights or root / WEIGHTS
    if not weights.is_file():
        raise BundleError(
            f"there are no weights at {weights}; train them (configs/recipes/default.json) or give --checkpoint"
        )
    contents = {name: (root / name).read_bytes() for name in bundle_files(root)}
    contents |= {WEIGHTS: weights.read_bytes(), "models/model.pt": as_pytorch(weights)}
    contents[VOLUME_WEIGHTS] = (root / VOLUME_WEIGHTS).read_bytes()
    target = output / f"{NAME}_bundle-{__version__}.zip"
    return write_atomically(target, lambda partial: _write_zip(partial, contents))


def bundle_files(root: Path) -> list[str]:
    """Names of the files that go into the zip beside the weights, relative to `root`, sorted.

    Raises:
        BundleError: one that every bundle needs is missing.
    """
    names = [name for name in FILES if (root / name).is_file()]
    for folder, endings in FOLDERS.items():
        names += [path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.suffix in endings]
    if missing := [name for name in NEEDED if name not in names]:
        raise BundleError(f"the bundle needs {missing[0]}, which is not in {root}")
    return sorted(names)


def check_version(root: Path) -> None:
    """Raise BundleError unless metadata and package have one version and the changelog tells of it."""
    metadata = read_json(root / "configs" / "metadata.json")
    if metadata["version"] != __version__:
        raise BundleError(f"configs/metadata.json is version {metadata['version']}, bundle/__init__.py {__version__}")
    if __version__ not in metadata["changelog"]:
        raise BundleError(f"the changelog in configs/metadata.json says nothing of version {__version__}; add a line")


def as_pytorch(weights: Path) -> bytes:
    """The same tensors as a PyTorch file of one state dict."""
    buffer = io.BytesIO()
    torch.save(open_checkpoint(weights).state_dict, buffer)
    return buffer.getvalue()


def _write_zip(path: str, contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in tqdm(sorted(contents), desc="zip", unit="file"):
            archive.writestr(_entry(name), contents[name], compresslevel=6)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry that says nothing of when and where it was made."""
    entry = zipfile.ZipInfo(f"{NAME}/{name}", ZIP_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix
    entry.external_attr = 0o100644 << 16
    return entry


def _sizes(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        largest = sorted(archive.infolist(), key=lambda entry: -entry.file_size)[:3]
        yield f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(archive.namelist())} files"
        yield from (f"  {entry.filename}: {entry.file_size / 1e6:.1f} MB" for entry in largest)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when the zip was written, 2 when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=BUNDLE_ROOT / "dist", help="folder to write to")
    parser.add_argument("--checkpoint", type=Path, help="by default models/default.safetensors of the repository")
    options = parser.parse_args(argv)
    try:
        path = make_bundle(options.output, weights=options.checkpoint)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(_sizes(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
