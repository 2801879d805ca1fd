"""Play five corrections in 3D: how good an object is at the start, and after each click.

    python scripts/clicks_3d.py                            # plays what runs/clicks_3d.json does not hold, and prints it
    python scripts/clicks_3d.py --print                    # the table alone
    python scripts/clicks_3d.py --phantom 0 --clicks 3     # the organs of a generated patient, without any data

Every object is started by a tight 2D box on its largest slice, by a tight 3D box, and by a point in its middle; then
each click lies at the centre of the largest wrong region (the rule of the CVPR 2025 challenge).

The objects are those of the CT of flare22-style, whose labels are ANOTHER MODEL'S OUTPUT, and the two tumours of
pyradiomics-mr; the data is found through MONAI_SAM_DATA. Four volumes are a glimpse, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.synthetic.phantom import PHANTOM_LABELS, make_phantom
from bundle.errors import OptionError
from bundle.evaluation.cases import VolumeCase
from bundle.evaluation.interaction import Interaction, Predict, run_protocol
from bundle.evaluation.models import open_volumes
from bundle.evaluation.protocols import Box, ClickProtocol, Points, object_rng
from bundle.evaluation.volume_table import object_click_table
from bundle.families.family import BUNDLE_ROOT, find_weights
from bundle.files import sha256_of, write_text
from bundle.interactive.segmenter import Segmenter

CLICKS = 5
AXIS = 2
RESULTS = BUNDLE_ROOT / "runs" / "clicks_3d.json"
CT = ("flare22-style/images/FLARE22_Tr_0001_0000.nii.gz", "flare22-style/labels/FLARE22_Tr_0001.nii.gz")
BRAIN = ("pyradiomics-mr/brain1_image.nrrd", "pyradiomics-mr/brain1_label.nrrd")
BREAST = ("pyradiomics-mr/breast1_image.nrrd", "pyradiomics-mr/breast1_label.nrrd")
OBJECTS = {
    "liver": (*CT, 1),
    "spleen": (*CT, 3),
    "right kidney": (*CT, 2),
    "left kidney": (*CT, 13),
    "stomach": (*CT, 11),
    "pancreas": (*CT, 4),
    "brain tumour": (*BRAIN, 1),
    "breast tumour": (*BREAST, 1),
}
"""Name -> image, label map, value."""


STARTS = {"2D box": Box("largest", flat=True), "3D box": Box(), "point": Points(1)}


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is missing and print the table."""
    options = _options(argv)
    results = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else []
    if not options.print:
        play(results, options)
    print(object_click_table(results).as_markdown())


def play(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Add a result for every object and start that has none; the file is written after each."""
    weights = sha256_of(find_weights(options.checkpoint or options.family))[:12]
    settings = {"family": options.family, "weights": weights, "clicks_at_most": options.clicks}
    if others := [result for result in results if any(result[name] != value for name, value in settings.items())]:
        held = {name: others[0][name] for name in settings}
        raise OptionError(f"{options.results} holds results of {held}, now {settings}; give another --results")
    done = {(result["object"], result["start"]) for result in results}
    objects = options.objects or list(OBJECTS if options.phantom is None else PHANTOM_LABELS)
    starts = options.starts or list(STARTS)
    todo = [(name, start) for start in starts for name in objects if (name, start) not in done]
    segmenter = Segmenter.from_family(options.family, checkpoint=options.checkpoint)
    for name, start in tqdm(todo, desc="objects and starts"):
        predict, case, value = (
            _open(options.data, segmenter, name)
            if options.phantom is None
            else (*_phantom(options.phantom, segmenter), PHANTOM_LABELS[name])
        )
        protocol = ClickProtocol(STARTS[start], clicks=options.clicks, axis=AXIS)
        truth = case.labels == value
        steps = run_protocol(protocol, predict, truth, rng=object_rng(0, name), spacing=case.spacing)
        results.append({**settings, "object": name, "start": start, **_record(steps)})
        lines = ",\n".join(json.dumps(result) for result in results)
        write_text(options.results, f"[\n{lines}\n]\n")


def _record(steps: Sequence[Interaction]) -> dict[str, Any]:
    """DSC at the start and after each click, the clicks, and how many of them changed not one voxel."""
    last = steps[-1].prompt
    clicks = [[*map(int, voxel), int(label)] for voxel, label in zip(last.points, last.point_labels, strict=True)]
    pairs = pairwise(step.answer.mask for step in steps)
    return {
        "dsc": [round(step.score.dsc, 4) for step in steps],
        "clicks": clicks[len(clicks) - (len(steps) - 1) :],
        "without_effect": sum(np.array_equal(before, after) for before, after in pairs),
    }


@cache
def _open(data: Path, segmenter: Segmenter, name: str) -> tuple[Predict, VolumeCase, int]:
    image, label, value = OBJECTS[name]
    return *_case(data / image, data / label, segmenter), value


@cache
def _phantom(seed: int, segmenter: Segmenter) -> tuple[Predict, VolumeCase]:
    image, labels, _ = make_phantom(seed=seed)
    case = VolumeCase(f"phantom {seed}", image, labels, contract=segmenter.family.contract, axis=AXIS)
    return open_volumes(segmenter.open, axis=AXIS)(case), case


@cache
def _case(image: Path, label: Path, segmenter: Segmenter) -> tuple[Predict, VolumeCase]:
    item = {"image": image, "label": label, "patient": image.name}
    case = VolumeCase.read(item, contract=segmenter.family.contract, axis=AXIS)
    return open_volumes(segmenter.open, axis=AXIS)(case), case


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default")
    parser.add_argument("--checkpoint", type=Path, help="weights; without it the family's own")
    known = [*OBJECTS, *PHANTOM_LABELS]
    parser.add_argument("--objects", nargs="+", choices=known, metavar="NAME", help="of these objects alone")
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), metavar="START", help="these starts alone")
    parser.add_argument("--clicks", type=int, default=CLICKS, help="corrections (default: %(default)s)")
    parser.add_argument("--phantom", type=int, metavar="SEED", help="play the organs of a generated patient instead")
    parser.add_argument("--print", action="store_true", help="play nothing")
    parser.add_argument(
        "--results",
        type=Path,
        help="JSON to add to; what it holds is not played again (default: runs/clicks_3d.json, of a generated patient "
        "runs/clicks_3d_phantom_SEED.json)",
    )
    options = parser.parse_args(argv)
    here = OBJECTS if options.phantom is None else PHANTOM_LABELS
    if strangers := [name for name in options.objects or () if name not in here]:
        parser.error(f"there is no {strangers[0]} here; there are {', '.join(here)}")
    if options.results is None:  # organs of a patient and of a generated one have the same names: never in one file
        phantom = BUNDLE_ROOT / "runs" / f"clicks_3d_phantom_{options.phantom}.json"
        options.results = RESULTS if options.phantom is None else phantom
    return options


if __name__ == "__main__":
    main()
