"""Play five corrections in 3D: how good an object is at the start, and after each click.

    python scripts/clicks_3d.py --name after               # plays what results do not yet hold, prints the table
    python scripts/clicks_3d.py --print                    # the table alone

Every object is started by a tight 2D box on its largest slice, by a tight 3D box, and by a point in its middle; then
each click lies at the centre of the largest wrong region (the rule of the CVPR 2025 challenge). Two states of the code
are compared by running the same script with PYTHONPATH on each of them, under two names into the same file.

The objects are those of the CT of flare22-style, whose labels are ANOTHER MODEL'S OUTPUT, and the two tumours of
pyradiomics-mr; the data is found through MONAI_SAM_DATA. Four volumes are a glimpse, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.volume import read_label, read_volume
from bundle.evaluation.protocols import Interaction, object_rng, run_protocol, with_points
from bundle.evaluation.statistics import curve
from bundle.evaluation.tables import Table
from bundle.families.family import BUNDLE_ROOT
from bundle.files import write_atomically
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import error_voxel, tight_box

CLICKS = 5
AXIS = 2
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


def box_on_largest_slice(truth: np.ndarray) -> ObjectPrompts:
    """The tight 2D box on the slice that shows most of the object."""
    index = int(np.count_nonzero(truth, axis=(0, 1)).argmax())
    on_slice = np.zeros_like(truth)
    on_slice[:, :, index] = truth[:, :, index]
    return box_around(on_slice)


def box_around(truth: np.ndarray) -> ObjectPrompts:
    """The tight 3D box."""
    return ObjectPrompts(box=tight_box(truth).reshape(2, 3))


def point_inside(truth: np.ndarray) -> ObjectPrompts:
    """The voxel farthest from the edge of the object's largest piece."""
    *voxel, label = error_voxel(truth, np.zeros_like(truth))
    return with_points(ObjectPrompts(), [voxel], [label])


STARTS: dict[str, Callable[[np.ndarray], ObjectPrompts]] = {
    "2D box": box_on_largest_slice,
    "3D box": box_around,
    "point": point_inside,
}


@dataclass(frozen=True)
class Clicks:
    """A start and `CLICKS` corrections at the centre of the largest wrong region; none where nothing is wrong."""

    start: Callable[[np.ndarray], ObjectPrompts]
    mask_prompt = False

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Generator[ObjectPrompts, np.ndarray, None]:
        """The prompts for `truth`, (I, J, K) bool; nothing of them is drawn from `rng`."""
        prompt = self.start(truth)
        for _ in range(CLICKS):
            click = error_voxel(truth, (yield prompt))
            if click is None:
                return
            *voxel, label = click
            prompt = with_points(prompt, [voxel], [label])
        yield prompt


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is missing and print the table."""
    options = _options(argv)
    results = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else []
    if not options.print:
        play(results, options)
    print(table_of(results).as_markdown())


def play(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Add a result for every object and start that has none of this name; the file is written after each."""
    done = {(result["name"], result["object"], result["start"]) for result in results}
    objects = options.objects or list(OBJECTS)
    todo = [(name, start) for name in objects for start in STARTS if (options.name, name, start) not in done]
    segmenter = Segmenter.from_family(options.family, checkpoint=options.checkpoint)
    for name, start in tqdm(todo, desc="objects and starts"):
        session, truth = _open(options.data, segmenter, name)
        session.reset()
        steps = run_protocol(
            Clicks(STARTS[start]),
            lambda prompts, at=session: at.segment_volume(prompts, axis=AXIS),
            truth,
            rng=object_rng(0, name),
            spacing=session.volume.spacing,
        )
        results.append({"name": options.name, "object": name, "start": start, **_record(steps)})
        text = json.dumps(results, indent=1) + "\n"
        write_atomically(options.results, lambda partial, text=text: Path(partial).write_text(text))


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


def table_of(results: Sequence[dict[str, Any]]) -> Table:
    """A row for each start and object, and the means: the DSC of every name at the start and after each click."""
    names = list(dict.fromkeys(result["name"] for result in results))
    columns = ["start", "object", "at the start", *map(str, range(1, CLICKS + 1)), "clicks without effect"]
    rows = []
    for start in STARTS:
        of_start = [result for result in results if result["start"] == start]
        for name in dict.fromkeys(result["object"] for result in of_start):
            chosen = {result["name"]: result for result in of_start if result["object"] == name}
            rows.append([start, name, *_cells([[chosen[n]] if n in chosen else [] for n in names])])
        means = [[result for result in of_start if result["name"] == n] for n in names]
        rows.append([start, "mean", *_cells(means)])
    return Table(columns, rows, 2)


def _cells(chosen: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """Of the results of each name: the mean DSC of every step, and the number of clicks without effect."""
    dsc = [[curve(result["dsc"], CLICKS + 1) for result in results] for results in chosen]
    steps = [
        [f"{np.mean(scores, axis=0)[step]:.3f}" if scores else "-" for scores in dsc] for step in range(CLICKS + 1)
    ]
    idle = [str(sum(result["without_effect"] for result in results)) if results else "-" for results in chosen]
    return [" / ".join(cells) for cells in (*steps, idle)]


@cache
def _open(data: Path, segmenter: Segmenter, name: str) -> tuple[InteractiveSession, np.ndarray]:
    image, label, value = OBJECTS[name]
    session = _session(data / image, segmenter)
    return session, read_label(data / label).array == value


@cache
def _session(image: Path, segmenter: Segmenter) -> InteractiveSession:
    return segmenter.open(read_volume(image))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default")
    parser.add_argument("--checkpoint", type=Path, help="weights; without it the family's own")
    parser.add_argument("--name", default="after", help="of the state of the code, a column of the table")
    parser.add_argument("--objects", nargs="+", choices=OBJECTS, metavar="NAME", help="of these objects alone")
    parser.add_argument("--print", action="store_true", help="play nothing")
    results = BUNDLE_ROOT / "docs" / "results" / "clicks_3d.json"
    parser.add_argument(
        "--results", type=Path, default=results, help="JSON to add to; what it holds is not played again"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
