"""Compare following, the network of volumes alone, the same outlined slice by slice, and the way that is chosen.

    python scripts/compare_volume_models.py --print       # the tables, from docs/results/volume_models.json
    python scripts/compare_volume_models.py --results runs/volume_models.json     # plays what that file does not hold

Each object is started by a tight 2D box on its central slice, by a tight 3D box, and by a point in its middle; with
--with-clicks also by the box and the five clicks of the CVPR 2025 challenge. Which of the ways is chosen follows from
what a result holds (bundle/interactive/candidates.py), so that a change of the rule shows in the tables without playing
anything again. The seconds are those of a way alone; the chosen one takes those of following and of outlining.

The volumes are the validation parts of ct-mr, the tumours of pyradiomics-mr, the CT and the MR of totalsegmentator-ct
(whose labels are ANOTHER MODEL'S OUTPUT; the first network of volumes was trained on both), and generated phantoms.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import OptionError, explain_errors
from bundle.evaluation.interaction import Prediction, run_protocol, score_mask
from bundle.evaluation.protocols import PROTOCOLS, Box, ClickProtocol, Points, object_rng
from bundle.evaluation.volume_table import CHOSEN, challenge_volume_table, click_volume_table, group_table, way_table
from bundle.families.family import BUNDLE_ROOT, build_network, find_weights, load_family
from bundle.files import read_json, sha256_of, write_text
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.following import Follower
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.segmentation import Timer
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.sliced import SlicedInteraction
from bundle.prompts.prompts import ObjectPrompts

AXIS = 2
NSD_MM = 2.0
CLICKS = 5
TABLES = (way_table, group_table, challenge_volume_table, click_volume_table)
STARTS = {"2D box": Box("central", flat=True), "3D box": Box(), "point": Points(1)}
RESULTS = BUNDLE_ROOT / "docs" / "results" / "volume_models.json"
_SARCOMAS, _HIPPOCAMPI = "ct-mr/sts-sarcoma-ct-mr-3d", "ct-mr/msd-hippocampus-mr-3d"
_CT = ("flare22-style/images/FLARE22_Tr_0001_0000.nii.gz", "totalsegmentator-ct/example_seg_fast_force_split.nii.gz")
_MR = ("totalsegmentator-ct/example_mr_sm.nii.gz", "totalsegmentator-ct/example_seg_mr.nii.gz")
_LARGE, _LONG, _SMALL, _LESION = "large organs", "long structures", "small organs", "lesions"
_BONE, _BRAIN, _PHANTOM = "bones", "brain nuclei", "phantoms"
# Of TotalSegmentator's classes, those of the group and of each modality (its CT and its MR count differently).
_OF_CT = {
    _LARGE: {"liver": 5, "spleen": 1, "right kidney": 2, "stomach": 6},
    _LONG: {"aorta": 52, "inferior vena cava": 63, "left autochthon": 86},
    _SMALL: {"gallbladder": 4, "pancreas": 7, "duodenum": 19},
    _BONE: {"vertebra L3": 29, "left hip": 77, "sacrum": 25},
}
_OF_MR = {_LARGE: {"liver": 5, "spleen": 1, "left kidney": 3}, _LONG: {"aorta": 23}}


@dataclass(frozen=True)
class Target:
    """One object: its name, group, image, label map (two paths, or the seed of a phantom) and value."""

    name: str
    group: str
    files: tuple[str, str] | int
    value: int


def targets(data: Path) -> list[Target]:
    """All objects, those of one volume beside each other."""
    found = [
        Target(f"CT {name}", group, _CT, value) for group, organs in _OF_CT.items() for name, value in organs.items()
    ]
    found += [
        Target(f"MR {name}", group, _MR, value) for group, organs in _OF_MR.items() for name, value in organs.items()
    ]
    for name in ("brain", "breast"):
        files = (f"pyradiomics-mr/{name}1_image.nrrd", f"pyradiomics-mr/{name}1_label.nrrd")
        found.append(Target(f"{name} tumour", _LESION, files, 1))
    for folder, group, values in ((_SARCOMAS, _LESION, (1,)), (_HIPPOCAMPI, _BRAIN, (1, 2))):
        for item in json.loads((data / folder / "datalist.json").read_text("utf-8"))["validation"]:
            files = tuple(f"{folder}/{item[key]}" for key in ("image", "label"))
            found += [Target(f"{Path(item['image']).parent.name} {value}", group, files, value) for value in values]
    for seed in (50, 51):
        found += [Target(f"phantom {seed} {value}", _PHANTOM, seed, value) for value in (1, 2, 4, 5)]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Play what is missing and print the tables."""
    explain_errors()
    options = _options(argv)
    results = read_json(options.results) if options.results.exists() else []
    if not options.print:
        play(results, options)
    for table in (table(results) for table in TABLES):
        print(table.as_markdown(), end="\n\n")


def play(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Add a result for every object and start that has none; the file is written after each."""
    weights = weights_of(options)
    if others := {result["weights"] for result in results} - {weights}:
        raise OptionError(
            f"{options.results} holds results of the weights {', '.join(sorted(others))}, now {weights}; give another "
            "--results, or the same --checkpoint and --volume-checkpoint"
        )
    done = {(result["object"], result["start"]) for result in results}
    chosen = [one for one in targets(options.data) if not options.objects or one.name in options.objects]
    if unknown := set(options.objects or ()) - {one.name for one in chosen}:
        raise OptionError(
            f"no object {sorted(unknown)[0]!r}; known are {', '.join(t.name for t in targets(options.data))}"
        )
    starts = [*options.starts, *["cvpr25"] * options.with_clicks, *(_clicked(s) for s in options.clicks_from)]
    todo = [(one, start) for one in chosen for start in starts if (one.name, start) not in done]
    models, opened = _Models(options), None
    for one, start in tqdm(todo, desc="objects and starts"):
        if opened is None or opened[0] != one.files:
            opened = one.files, *_read(options.data, one.files)
        _, volume, labels = opened
        results += [
            {**result, "weights": weights} for result in models.results(one, start, volume, labels == one.value)
        ]
        lines = ",\n".join(json.dumps(result) for result in results)
        write_text(options.results, f"[\n{lines}\n]\n")


def weights_of(options: argparse.Namespace) -> str:
    """The beginnings of the sha256 of both files of weights, by which results of one comparison are held together."""
    files = (options.checkpoint or options.family, options.volume_checkpoint or "default_3d")
    return " ".join(sha256_of(find_weights(file))[:12] for file in files)


class _Models:
    """The ways through a volume."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.predictor = Segmenter.from_family(
            options.family, checkpoint=options.checkpoint, device=options.device
        ).predictor
        family = load_family("default_3d")
        network = build_network(family, checkpoint=options.volume_checkpoint)
        cubes = CubeNetwork(CubePredictor(network, family.contract, device=self.predictor.device))
        self.following, self.cubes = SliceFollowing(self.predictor), cubes
        self.guided = GuidedFollowing(self.predictor, cubes)

    def results(self, one: Target, start: str, volume: Volume, truth: np.ndarray) -> Iterator[dict[str, Any]]:
        about = {"object": one.name, "group": one.group, "start": start, "voxels": int(truth.sum())}
        if start in map(_clicked, STARTS):
            yield {**about, "way": CHOSEN, **self._clicked(self.guided, volume, truth, one.name, start=start)}
        elif start == "cvpr25":
            for way, model in (("following", self.following), ("3D", self.cubes), ("chosen", self.guided)):
                yield {**about, "way": way, **self._clicked(model, volume, truth, one.name)}
        else:
            prompt = STARTS[start](truth, object_rng(0, one.name), AXIS)
            yield {**about, **self._candidates(prompt.validated(volume.shape), volume, truth)}

    def _candidates(self, prompt: ObjectPrompts, volume: Volume, truth: np.ndarray) -> dict[str, Any]:
        state, timer = self.guided.start(volume), Timer()
        frame = state.frame(AXIS)
        ask = partial(_asked, state, frame, timer)
        start = SlicedInteraction.of(prompt.interactions[0], frame)
        picture = partial(frame.extract, volume.array)
        follower = Follower(
            ask,
            start,
            depth=frame.depth,
            rule=self.guided.rule,
            picture=picture,
            distances=self.guided.rule.distances(frame, volume),
        )
        begun = time.perf_counter()
        followed = follower.begin()
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        rough = self.guided.looked(followed, start, state, frame)
        looked = time.perf_counter() - begun
        found, evidence = self.guided.candidates(followed, rough, start, state, frame, ask, seconds=(seconds, looked))
        ways = {}
        for way, candidate in found.items():
            mask = np.zeros(volume.shape, dtype=bool)
            for index, answer in candidate.answers.items():
                frame.insert(mask, index, answer.mask)
            ways[way] = {**_scores(mask, truth, volume), "seconds": round(candidate.seconds, 2)}
        return {"ways": ways, "evidence": asdict(evidence)}

    def _clicked(
        self, model: Any, volume: Volume, truth: np.ndarray, name: str, *, start: str = "cvpr25"
    ) -> dict[str, Any]:
        state, memory = model.start(volume), [None]

        def predict(prompt: ObjectPrompts, previous: Prediction | None) -> Prediction:
            memory[0] = model.predict(state, prompt.validated(volume.shape), memory[0], axis=AXIS)
            return Prediction.of_volume(memory[0].segmentation)

        flat = {_clicked(kind): ClickProtocol(prompt, clicks=CLICKS) for kind, prompt in STARTS.items()}
        protocol = flat.get(start) or PROTOCOLS[start]
        steps = run_protocol(
            protocol, predict, truth, rng=object_rng(0, name), spacing=volume.spacing, tolerance=NSD_MM
        )
        return {
            "dsc": [round(step.score.dsc, 4) for step in steps],
            "nsd": [round(step.score.nsd, 4) for step in steps],
            "seconds": [round(step.seconds, 2) for step in steps],
        }


def _clicked(start: str) -> str:
    """The name of a start that clicks come after."""
    return f"{start}, then clicks"


def _asked(state: Any, frame: Any, timer: Timer, index: int, prompt: Any) -> Any:
    return state.ask(frame, index, prompt, timer, honoured=False)


def _scores(mask: np.ndarray, truth: np.ndarray, volume: Volume) -> dict[str, float]:
    score = score_mask(mask, truth, spacing=volume.spacing, tolerance=NSD_MM)
    return {"dsc": round(score.dsc, 4), "nsd": round(score.nsd, 4)}


def _read(data: Path, files: tuple[str, str] | int) -> tuple[Volume, np.ndarray]:
    if isinstance(files, int):
        volume, labels, _ = make_phantom(seed=files)
    else:
        volume, labels = read_volume(data / files[0]), read_label(data / files[1])
    return volume, labels.array


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default", help="of the model of slices")
    parser.add_argument("--checkpoint", type=Path, help="weights of the model of slices; by default the family's own")
    parser.add_argument(
        "--volume-checkpoint", type=Path, help="weights of the network of volumes; by default those of default_3d"
    )
    parser.add_argument("--device", help="such as cuda; by default a GPU where there is one")
    parser.add_argument("--objects", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--starts", nargs="*", choices=list(STARTS), default=list(STARTS), help="by default all")
    parser.add_argument("--with-clicks", action="store_true", help="also the CVPR 2025 challenge: a box, five clicks")
    parser.add_argument(
        "--clicks-from",
        nargs="+",
        choices=list(STARTS),
        default=(),
        help="of what is chosen: five clicks after these starts",
    )
    parser.add_argument("--print", action="store_true", help="play nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what it holds is not played again")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
