"""Ask the shipped model the same boxes in float32 and in bfloat16, in turns: seconds, and how the answers differ.

    python scripts/benchmark_precision.py

It reads the validation slices of abdomen-ct-2d (MONAI_SAM_DATA), and boxes whose sides lie 0..5 px of 256 outward.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import statistics

import numpy as np
from monai.bundle import ConfigParser

from bundle.engines.choice import computes_in_bfloat16
from bundle.errors import explain_errors
from bundle.evaluation.cases import SliceCase
from bundle.evaluation.interaction import run_protocol
from bundle.evaluation.models import open_slices
from bundle.evaluation.protocols import PROTOCOLS, object_rng
from bundle.families.family import BUNDLE_ROOT
from bundle.interactive.segmenter import Segmenter

PROTOCOL = "box_jitter_20"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="default")
    parser.add_argument("--slices", type=int, default=136, help="at most so many")
    options = parser.parse_args()
    predictor = Segmenter.from_family(options.family, device="cpu").predictor
    if not computes_in_bfloat16(predictor.device):
        parser.error("this CPU has no instructions for bfloat16; there is nothing to compare")
    config = ConfigParser()
    config.read_config(str(BUNDLE_ROOT / "configs" / "train.json"))
    config["family_name"] = options.family
    scores: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    changed = []
    for part in config.get_parsed_content("validation_pool")[: options.slices]:
        predict, truth = open_slices(predictor)(SliceCase(part)), part.labels == part.ids[0]
        answers = {}
        for predictor.bfloat16 in (False, True):
            rng = object_rng(0, part.key)
            (answer,) = run_protocol(PROTOCOLS[PROTOCOL], predict, truth, rng=rng)
            scores[predictor.bfloat16].append((answer.score.dsc, answer.score.nsd))
            seconds[predictor.bfloat16].append(answer.seconds)
            answers[predictor.bfloat16] = answer.answer.mask
        changed.append(np.mean(answers[True] != answers[False]))
    for bfloat16, name in ((False, "float32"), (True, "bfloat16")):
        dsc, nsd = np.mean(scores[bfloat16], axis=0)
        print(f"{name:9s} {1000 * statistics.median(seconds[bfloat16]):6.1f} ms a box, DSC {dsc:.4f}, NSD {nsd:.4f}")
    ratio = statistics.median(seconds[False]) / statistics.median(seconds[True])
    print(f"bfloat16 is {ratio:.2f} times as fast; {100 * np.mean(changed):.3f} % of the pixels change")


if __name__ == "__main__":
    explain_errors()
    main()
