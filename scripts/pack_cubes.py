"""Pack the volumes that the network of volumes is trained on, in pieces below 16 MiB.

    python scripts/pack_cubes.py --output runs/cubes
    python -m bundle.training.batched.cube_training --cubes runs/cubes --output runs/default_3d

The volumes are the training parts of ct-mr, the CT and the MR of totalsegmentator-ct (their labels are another model's
output), the pictures of pyradiomics-mr without their tumours, and generated phantoms. The data is found through
MONAI_SAM_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.data.grid import check_grid
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import read_label, read_volume
from bundle.errors import explain_errors
from bundle.families.family import BUNDLE_ROOT
from bundle.training.batched.cubes import SourceVolume, pack

# Folder of ct-mr -> the group that its volumes draw as, and how many maps of grey regions are made of each.
SETS = {
    "colin27-aal-mr-3d": ("colin27", 3),
    "cit168-subcortical-mr-3d": ("cit168", 3),
    "slicerio-chest-ct-3d": ("chest", 3),
    "sts-sarcoma-ct-mr-3d": ("sarcoma", 1),
    "msd-hippocampus-mr-3d": ("hippocampus", 0),
    "spinal-cord-mr-3d": ("cord", 1),
    "totalsegmentator-report-ct-3d": ("aorta", 3),
    "open-ms-lesion-mr-3d": ("lesion", 3),
}
PHANTOMS = range(100, 106)
_PHANTOM = {"shape": (128, 112, 96), "spacing": (3.0, 3.0, 2.7)}


def main(argv: Sequence[str] | None = None) -> None:
    """Pack them."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("-o", "--output", type=Path, default=BUNDLE_ROOT / "runs" / "cubes", help="folder")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS), help="of ct-mr, by default all")
    options = parser.parse_args(argv)
    pack(tqdm(sources(options.data, options.sets), desc="packing volumes"), options.output)


def sources(data: Path, sets: Sequence[str]) -> Iterator[SourceVolume]:
    """The volumes, one after the other."""
    yield _read(
        data / "flare22-style" / "images" / "FLARE22_Tr_0001_0000.nii.gz",
        data / "totalsegmentator-ct" / "example_seg_fast_force_split.nii.gz",
        "ct",
        regions=3,
    )
    folder = data / "totalsegmentator-ct"
    yield _read(folder / "example_mr_sm.nii.gz", folder / "example_seg_mr.nii.gz", "mr", regions=3)
    for name in ("brain1", "breast1"):
        yield _read(data / "pyradiomics-mr" / f"{name}_image.nrrd", None, name, regions=3)
    for name in sets:
        folder, (group, regions) = data / "ct-mr" / name, SETS[name]
        for item in json.loads((folder / "datalist.json").read_text("utf-8"))["training"]:
            yield _read(folder / item["image"], folder / item["label"], group, regions=regions)
    for seed in PHANTOMS:
        volume, labels, _ = make_phantom(seed=seed, **_PHANTOM)
        about = {"name": f"phantom {seed}", "group": "phantom", "ct": True, "phantom": True}
        yield SourceVolume(array=volume.array, labels=labels.array, spacing=volume.spacing, **about)


def _read(image: Path, label: Path | None, group: str, *, regions: int) -> SourceVolume:
    volume = read_volume(image)
    array = volume.array.mean(axis=-1) if volume.is_color else volume.array
    labels = np.zeros(volume.shape, np.uint8) if label is None else check_grid(volume, read_label(label)).array
    name = image.parent.name if image.name == "image.nii.gz" else image.name.split(".")[0]
    return SourceVolume(name, group, array, labels, volume.spacing, volume.modality == "CT", regions)


if __name__ == "__main__":
    main()
