"""Score models on the validation parts of the sets of every modality: box, one point, three corrections.

    python scripts/validate_sets.py --output runs/sets --models v8=version8.safetensors v9=models/default.safetensors
    python scripts/validate_sets.py --output runs/sets --all ...   # every object, not one of eight pictures of each set
    python scripts/validate_sets.py --output runs/sets --sets "us-*" --models without=without_ultrasound.safetensors
    python scripts/tables.py                                       # the tables, from --results (docs/results/sets.json)

Boxes have each side 0..5 pixels of 256 outward, NSD is at 2 pixels of 256, and a correction is a click in the middle of
the largest error. The same objects and prompts are given to every model, and the ellipse in each box stands beside
them. An interrupted run goes on in -o. The data is found through MONAI_SAM_DATA.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.labelled_sets import read_sets
from bundle.data.labelled_slice import LabelledSlice
from bundle.engines.cache import PreparedCache
from bundle.errors import OptionError, explain_errors
from bundle.evaluation.baselines import ellipse
from bundle.evaluation.models import open_baseline
from bundle.evaluation.runner import OpenCase
from bundle.evaluation.set_scores import BOX, PROTOCOLS, restricted, scores_of
from bundle.evaluation.study import SliceStudy
from bundle.families.family import BUNDLE_ROOT, build_network, load_family
from bundle.files import read_json, write_text
from bundle.interactive.slice_model import SlicePredictor
from bundle.layers import named_checkpoint
from bundle.transforms.dictionary import IntensityViewsd

COLLECTIONS = ("ct-mr", "other")
MIN_PIXELS = 60  # of 256 x 256; smaller objects are left out
ELLIPSE = "ellipse"  # in the box, without a model: the bar of a box


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate every model and write the scores of each set."""
    explain_errors()
    options = _options(argv)
    family = load_family(options.family)
    limits = (10**9, 10**9) if options.all else (options.pictures, options.per_picture)
    preprocessing = IntensityViewsd("image", family.contract)
    pool, names = validation_pool(options.data, preprocessing, *limits, seed=options.seed, sets=options.sets)

    def played(model: SlicePredictor | OpenCase, name: str, protocols: Sequence[str]) -> Mapping[str, Any]:
        about = {"folder": options.output / name, "name": name, "seed": options.seed, "pixels_of": 256}
        return scores_of(SliceStudy(model, pool, organs=names, protocols=protocols, **about).evaluate())

    models = {} if options.beside else {ELLIPSE: played(open_baseline(ellipse), ELLIPSE, (BOX,))}
    for name, path in options.models:
        predictor = SlicePredictor(build_network(family, checkpoint=path), family.contract, store=PreparedCache())
        models[name] = played(predictor, name, PROTOCOLS)
    beside = read_json(options.beside)["models"] if options.beside else {}
    models = {name: restricted(scores, names.values()) for name, scores in beside.items()} | models
    content = {"objects": "all" if options.all else list(limits), "models": models}
    content |= {"patterns": options.sets} if options.sets else {}
    write_text(options.results, json.dumps(content, indent=1) + "\n")
    print(f"written to {options.results}")


def validation_pool(
    data: Path, preprocessing: Any, pictures: int, objects: int, *, seed: int, sets: Sequence[str] = ()
) -> tuple[list[LabelledSlice], dict[int, str]]:
    """Validation pictures with the objects that are asked for, each labelled by the number of its set.

    Args:
        data: folder of the collections.
        preprocessing: gives the intensity views.
        pictures: of each set at most.
        objects: of each picture at most.
        seed: of the draw of both.
        sets: shell patterns of the sets that are asked; by default all. An object is drawn alike whatever they are.

    Returns:
        A slice for each object, and number of a set -> its name.

    Raises:
        OptionError: no set fits a pattern.
    """
    found = read_sets(
        [data / name for name in COLLECTIONS], preprocessing=preprocessing, split="validation", volumes=0, max_side=512
    )
    for pattern in sets:
        if not fnmatch.filter(found, pattern):
            raise OptionError(f"no set fits {pattern!r}; sets are {', '.join(found)}")
    wanted = [name for name in found if not sets or any(fnmatch.fnmatchcase(name, pattern) for pattern in sets)]
    pool, names = [], {number: name for number, name in enumerate(found, start=1) if name in wanted}
    for number, name in names.items():
        rng = np.random.default_rng((seed, number))
        chosen = rng.permutation(len(found[name]))[:pictures]
        for part in (found[name][i] for i in sorted(chosen)):
            smallest = MIN_PIXELS * (max(part.labels.shape) / 256) ** 2
            large = [i for i in part.ids if np.count_nonzero(part.labels == i) >= smallest]
            for value in rng.permutation(large)[:objects]:
                labels = np.where(part.labels == value, number, 0).astype(np.int32)
                pool.append(replace(part, labels=labels, ids=(number,), key=f"{name}-{part.key}-{value}"))
    return pool, names


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default")
    parser.add_argument(
        "--models", nargs="+", type=named_checkpoint, default=[("shipped", None)], help="name=checkpoint of each"
    )
    parser.add_argument("--pictures", type=int, default=8, help="of each set at most")
    parser.add_argument("--per-picture", type=int, default=1, help="of each picture at most")
    parser.add_argument("--beside", type=Path, help="results whose models are shown beside, of the same objects")
    parser.add_argument("--sets", nargs="+", default=(), metavar="PATTERN", help="those alone, such as us-*")
    parser.add_argument("--all", action="store_true", help="all pictures and objects: hours on a CPU")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--results", type=Path, default=BUNDLE_ROOT / "docs" / "results" / "sets.json")
    parser.add_argument("--seed", type=int, default=0, help="of the objects and the prompts")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
