"""Score models on organs and modalities that the shipped one never saw labelled: samples of dcmqi and pyradiomics.

    python scripts/unseen.py --output runs/unseen
    python scripts/unseen.py --output runs/unseen --models stem=runs/stem/best.safetensors v7=models/default.safetensors

Boxes have each side 0..5 pixels of 256 outward or, where corrections follow, are tight; NSD is at 2 pixels of 256. The
data is found through MONAI_SAM_DATA. With one patient each this is a glimpse, not a measurement.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bundle.data.labelled_slices import read_pool
from bundle.engines.cache import PreparedCache
from bundle.errors import explain_errors
from bundle.evaluation.records import Records, last_steps
from bundle.evaluation.study import SliceStudy
from bundle.evaluation.tables import Table
from bundle.families.family import BUNDLE_ROOT, build_network, load_family
from bundle.interactive.slice_model import SlicePredictor
from bundle.layers import named_checkpoint

# name, image, label map, value: what nobody drew for the training, of patients of whom at most grey regions were shown.
STRUCTURES = (
    ("heart, CT (dcmqi)", "dcmqi-ct-3slice/ct-3slice", "dcmqi-ct-3slice/heart_seg.nrrd", 3),
    ("spine, CT (dcmqi)", "dcmqi-ct-3slice/ct-3slice", "dcmqi-ct-3slice/spine_seg.nrrd", 2),
    ("liver, CT (dcmqi)", "dcmqi-ct-3slice/ct-3slice", "dcmqi-ct-3slice/liver_seg.nrrd", 1),
    ("brain tumour, MR (pyradiomics)", "pyradiomics-mr/brain1_image.nrrd", "pyradiomics-mr/brain1_label.nrrd", 1),
    ("breast tumour, MR (pyradiomics)", "pyradiomics-mr/breast1_image.nrrd", "pyradiomics-mr/breast1_label.nrrd", 1),
)
# heading, protocol, step: the start is step 0, a correction each of those after it.
COLUMNS = (
    ("box", "box_jitter_20", 0),
    ("tight box, 2 corrections", "clicks_from_box", 2),
    ("one point", "points_1", 0),
    ("one point, 5 corrections", "clicks_from_point", 5),
)
PROTOCOLS = tuple(protocol for _, protocol, _ in COLUMNS)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate every model on every structure and print one table."""
    options = _options(argv)
    family = load_family(options.family)
    models = {
        name: SlicePredictor(build_network(family, checkpoint=path), family.contract, store=PreparedCache())
        for name, path in options.models
    }
    rows = []
    for number, (name, image, label, value) in enumerate(STRUCTURES):
        item = {"image": options.data / image, "label": options.data / label, "patient": name}
        slices = read_pool([item], contract=family.contract)
        for model, predictor in models.items():
            folder = options.output / model / str(number)
            study = SliceStudy(
                predictor, slices, organs={value: name}, protocols=PROTOCOLS, folder=folder, seed=options.seed
            )
            records = study.evaluate()
            scores = [_scores(records, protocol, step) for _, protocol, step in COLUMNS]
            rows.append([name, model, str(len({record["key"] for record in records})), *scores])
    print(Table(["structure", "model", "slices", *(heading for heading, _, _ in COLUMNS)], rows, 2).as_markdown())


def _scores(records: Records, protocol: str, step: int) -> str:
    """Mean DSC / NSD after so many corrections; an object that needed no more keeps its last scores."""
    last = last_steps(r for r in records if r["protocol"] == protocol and r["step"] <= step)
    return " / ".join(f"{np.mean([r[score] for r in last]):.2f}" for score in ("dsc", "nsd"))


def _options(argv: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--family", default="default")
    parser.add_argument(
        "--models",
        nargs="+",
        type=named_checkpoint,
        default=[("shipped", None)],
        help="name=checkpoint of each model; without it the family's own",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    return parser.parse_args(argv)


if __name__ == "__main__":
    explain_errors()
    main()
