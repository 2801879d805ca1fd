"""How many points a scribble should become: the shipped network's DSC with a scribble, a lasso, a click and a box.

    python scripts/compare_scribbles.py --slices 20 --points 1 2 3 4 6 8 40

Slices are drawn from the validation patients of abdomen-ct-2d, found through MONAI_SAM_DATA. Scribbles follow the
object or cross it, with a trembling hand; 40 points are the whole stroke. Short scribbles become fewer points. The
table holds means over slices of one organ each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.data.labelled_slices import LabelledSlice, read_pool
from bundle.evaluation.tables import Table
from bundle.families.family import BUNDLE_ROOT
from bundle.files import read_json
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_model import SlicePredictor, SliceView
from bundle.prompts.simulation import interior_point, largest_component, tight_box
from bundle.prompts.simulation_strokes import lasso_prompt, scribble_across, scribble_prompt
from bundle.prompts.slice_prompts import SliceInteraction, SlicePrompt

DATA = Path("abdomen-ct-2d")
ORGANS = {1: "liver", 2: "pancreas"}
SEED = 3


def prompts_of(truth: np.ndarray, counts: Sequence[int]) -> Iterable[tuple[str, int, SlicePrompt]]:
    """Name, points of a scribble, and prompt, of everything that is compared on a slice."""
    rng = np.random.default_rng(SEED)
    yield "click", 1, SlicePrompt(interior_point(largest_component(truth))[None])
    yield "box", 1, SlicePrompt(box=tight_box(truth))
    yield "lasso", 1, lasso_prompt(truth, rng)
    along = scribble_prompt(truth, rng)
    across = SlicePrompt(interactions=[SliceInteraction("scribble", scribble_across(truth, rng))])
    for count in counts:
        yield f"scribble along, {count} points", count, along
        yield f"scribble across, {count} points", count, across


def compare(
    predictor: SlicePredictor, slices: Iterable[LabelledSlice], counts: Sequence[int], organs: dict[int, str]
) -> dict[tuple[str, str], list[float]]:
    """(organ, prompt) -> DSC of each slice."""
    spec, found = predictor.network.spec, {}
    for item in slices:
        view = SliceView(item.picture, item.intensity, item.pixel_spacing)
        for label in item.ids:
            truth = item.labels == label
            for name, count, prompt in prompts_of(truth, counts) if truth.any() else ():
                predictor.network.spec = replace(spec, scribble_points=count)
                mask = predictor.predict(view, prompt).mask
                dsc = 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))
                found.setdefault((organs[label], name), []).append(dsc)
    predictor.network.spec = spec
    return found


def table_of(scores: dict[tuple[str, str], list[float]]) -> Table:
    """Organ, prompt, number of slices and mean DSC."""
    rows = [[organ, name, str(len(values)), f"{np.mean(values):.3f}"] for (organ, name), values in scores.items()]
    return Table(["organ", "prompt", "slices", "DSC"], sorted(rows, key=lambda row: row[0]), 2)


def chosen_items(folder: Path, count: int) -> list[dict[str, object]]:
    """So many validation items of each organ's data set, drawn once and for all."""
    items = read_json(folder / "datalist.json")["validation"]
    rng, chosen = np.random.default_rng(SEED), []
    for organ in ORGANS.values():
        of_organ = [item for item in items if organ in item["image"]]
        picks = sorted(rng.choice(len(of_organ), min(count, len(of_organ)), replace=False))
        chosen += [{**of_organ[pick], **_paths(of_organ[pick], folder)} for pick in picks]
    return chosen


def _paths(item: dict[str, str], folder: Path) -> dict[str, str]:
    return {key: str(folder / item[key]) for key in ("image", "label")}


def main(show: Callable[[str], None] = print) -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=20, help="of each organ")
    parser.add_argument("--points", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8, 40])
    chosen = parser.parse_args()
    folder = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data")) / DATA
    predictor = Segmenter.from_family().predictor
    pool = read_pool(chosen_items(folder, chosen.slices), contract=predictor.contract)
    show(table_of(compare(predictor, tqdm(pool, desc="comparing"), chosen.points, ORGANS)).as_markdown())


if __name__ == "__main__":
    main()
