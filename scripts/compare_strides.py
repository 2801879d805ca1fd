"""Compare the answers to a start through thin slices: each slice asked, and those that the rule asks.

    python scripts/compare_strides.py --starts "3D box" --results docs/results/thin_slices.json
    python scripts/tables.py

Each object is started by a tight 3D box, a tight 2D box on its central slice, and a point in its middle, and answered
by the shipped models with each `PropagationRule.farthest_mm` in turns. DSC is of the whole object, passes are those of
the model of slices, seconds those of the processor, of one thread.

The volumes: a brain in MR (1 mm) and an aorta in CT (1.5 mm), labelled on such slices, which the networks were trained
on, so that their DSC says something beside each other alone; a generated phantom (1 mm) that no network was trained on;
and the CT of totalsegmentator-ct (3 mm, labels of ANOTHER MODEL'S OUTPUT) in slices of 1 mm, interpolated linearly, its
label maps by their shape, which is what slices that are passed over are shown by: it says what a whole organ costs, and
nothing of thin parts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import numpy as np
import torch
from scipy.ndimage import zoom
from tqdm import tqdm

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import explain_errors
from bundle.evaluation.interaction import score_mask
from bundle.evaluation.protocols import Box, Points, object_rng
from bundle.evaluation.volume_table import stride_table
from bundle.families.family import BUNDLE_ROOT
from bundle.files import read_json, write_text
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.fill import fill_between
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor

AXIS, FINER = 2, 3  # how many slices are made of one
FARTHEST = (0.0, 2.0, 3.0)  # mm; 0 asks each slice
STARTS = {"3D box": Box(), "2D box": Box("central", flat=True), "point": Points(1)}
CT = ("flare22-style/images/FLARE22_Tr_0001_0000.nii.gz", "totalsegmentator-ct/example_seg_fast_force_split.nii.gz")
ORGANS = {
    **{"liver": 5, "spleen": 1, "right kidney": 2, "gallbladder": 4, "aorta": 52, "vertebra L3": 29},
}
SEED, OF_PHANTOM = 1050, ("liver", "right_kidney", "pancreas", "aorta")
BRAIN, AORTA = "ct-mr/colin27-aal-mr-3d", "ct-mr/totalsegmentator-report-ct-3d"
THIN = {
    BRAIN: ("Precentral_L", "Putamen_L", "Thalamus_L", "Cerebelum_Crus1_L"),
    AORTA: ("aorta, true lumen",),
}
RESULTS = BUNDLE_ROOT / "docs" / "results" / "thin_slices.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Play all of it and write the results."""
    explain_errors()
    options = _options(argv)
    torch.set_num_threads(1)
    models = Segmenter.from_family(options.family, device="cpu", engine="torch")
    predictor = Counting(models.predictor)
    rows = read_json(options.results)["rows"] if options.results.exists() else []
    done = {(row["object"], row["start"]) for row in rows}
    for name, volume, truth in tqdm(
        objects(options.data), desc="objects", total=sum(map(len, (*THIN.values(), ORGANS, OF_PHANTOM)))
    ):
        for start in (start for start in options.starts if (name, start) not in done):
            prompts = STARTS[start](truth, object_rng(0, name), AXIS).validated(volume.shape)
            tried = {
                f"{mm:g}": tried_with(predictor, models.volume_model.cubes, volume, truth, prompts, mm)
                for mm in FARTHEST
            }
            rows.append({"object": name, "start": start, "farthest_mm": tried})
            write_text(options.results, json.dumps({"rows": rows}, indent=1) + "\n")
    print(stride_table({"rows": rows}).as_markdown())


class Counting:
    """A model of slices that counts how often it is asked."""

    def __init__(self, predictor: SlicePredictor) -> None:
        self._predictor, self.passes = predictor, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, *given: Any) -> Any:
        """As ``SlicePredictor``."""
        self.passes += 1
        return self._predictor.predict(*given)


def tried_with(
    predictor: Counting, cubes: CubeNetwork, volume: Volume, truth: np.ndarray, prompts: Any, farthest_mm: float
) -> dict:
    """DSC, NSD, passes and seconds of an object with a rule."""
    rule = replace(PropagationRule(propagated=predictor.network.spec.propagated), farthest_mm=farthest_mm)
    session = InteractiveSession(volume, predictor, volume_model=GuidedFollowing(predictor, cubes, rule=rule))
    predictor.passes, begun = 0, time.process_time()
    found = session.segment_volume(prompts, axis=AXIS).mask
    seconds = time.process_time() - begun
    score = score_mask(found, truth, spacing=volume.spacing, tolerance=2.0)
    return {
        "dsc": round(score.dsc, 4),
        "nsd": round(score.nsd, 4),
        "passes": predictor.passes,
        "seconds": round(seconds, 2),
    }


def objects(data: Path) -> Iterator[tuple[str, Volume, np.ndarray]]:
    """Name, volume and (I, J, K) bool of each object."""
    for folder, names in THIN.items():
        about = read_json(data / folder / "datalist.json")
        (item,) = about["training"]
        volume, labels = (
            read(data / folder / item[key]) for read, key in ((read_volume, "image"), (read_label, "label"))
        )
        for name in names:
            value = next(int(number) for number, given in about["labels"].items() if given == name)
            yield name, volume, labels.array == value
    volume, labels = read_volume(data / CT[0]), read_label(data / CT[1]).array
    ct = in_thin_slices(volume)
    for name, value in ORGANS.items():
        yield f"CT {name}", ct, mask_in_thin_slices(labels == value, volume)
    phantom, organs, known = make_phantom(seed=SEED, shape=(128, 112, 256), spacing=(3.0, 3.0, 1.0))
    for name in OF_PHANTOM:
        yield f"phantom {name}", phantom, organs.array == known[name]


def in_thin_slices(volume: Volume) -> Volume:
    """A CT with ``FINER`` - 1 more slices between each two, interpolated linearly."""
    depth = volume.shape[AXIS]
    array = zoom(volume.array.astype(np.float32), (1, 1, (FINER * (depth - 1) + 1) / depth), order=1)
    affine = volume.affine.copy()
    affine[:3, AXIS] /= FINER
    return Volume(np.rint(array).astype(np.int16), affine, volume.modality)


def mask_in_thin_slices(mask: np.ndarray, volume: Volume) -> np.ndarray:
    """A mask of that CT on the thin slices: those between two by their shape, empty where one of the two is."""
    i, j, depth = mask.shape
    found = np.zeros((i, j, FINER * (depth - 1) + 1), dtype=bool)
    found[..., ::FINER] = mask
    for index in range(depth - 1):
        ends = {0: mask[..., index], FINER: mask[..., index + 1]}
        for between, shape in fill_between(ends, pixel_spacing=volume.spacing[:2]).items():
            found[..., FINER * index + between] = shape
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default", help="of the model of slices")
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="what it holds is not played again")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
