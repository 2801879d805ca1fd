"""What a network that learns from accepted labels is asked before and after (scripts/measure_learning.py).

The halves of the hippocampus in T1 MR (MSD Task04, every second case) are what it learns; the liver and the pancreas of
validation patients of abdomen-ct-2d say what it unlearns. Some patients and slices choose the settings of a training,
others measure it; none does both, and none of them trains or judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.data.datasets import Item, msd
from bundle.data.labelled_slices import LabelledSlice, read_pool
from bundle.evaluation.cases import SliceCase
from bundle.evaluation.interaction import run_protocol
from bundle.evaluation.models import open_slices
from bundle.evaluation.protocols import object_rng, protocol_named
from bundle.families.family import load_family
from bundle.files import read_json, write_text
from bundle.interactive.slice_model import SlicePredictor

SETS = {"hippocampus": "ct-mr/msd-hippocampus-mr-3d", "abdomen": "abdomen-ct-2d"}
ORGANS = {"hippocampus": {1: "anterior", 2: "posterior"}, "abdomen": {1: "liver", 2: "pancreas"}}
PROTOCOLS = {"box": "box_jitter_20", "clicks": "clicks_from_point_4"}
LABELLED = 5  # patients whose labels may be accepted: the first
PATIENTS = 6  # whose hippocampus measures, and as many that choose
CHOSEN_ON = 8  # slices of each organ of the abdomen that choose
_DATALIST = "datalist.json"


def labelled_patients(data: Path) -> list[Item]:
    """Those whose labels are accepted, one after the other.

    Args:
        data: folder of the sets, also of the functions below.
    """
    return _hippocampus(data)[:LABELLED]


def items_that_measure(data: Path, count: int) -> dict[str, list[Item]]:
    """Set -> patients of the hippocampus, halfway between those that choose, and so many slices of each other organ."""
    items = _hippocampus(data)
    step = len(items) // PATIENTS
    unused = [[item for item in some if item not in _each(some, CHOSEN_ON)] for some in _abdomen(data)]
    abdomen = [item for some in unused for item in _each(some, count)]
    return {"hippocampus": items[LABELLED + step // 2 :: step][:PATIENTS], "abdomen": abdomen}


def items_that_choose(data: Path) -> dict[str, list[Item]]:
    """Set -> patients of the hippocampus, and slices of the other organs."""
    items = _hippocampus(data)
    abdomen = [item for some in _abdomen(data) for item in _each(some, CHOSEN_ON)]
    return {"hippocampus": items[LABELLED :: len(items) // PATIENTS][:PATIENTS], "abdomen": abdomen}


def read_slices(items: Mapping[str, Sequence[Item]]) -> dict[str, list[LabelledSlice]]:
    """Set -> slices, with the views of the shipped family."""
    contract = load_family("default").contract
    return {part: read_pool(some, contract=contract, max_side=512) for part, some in items.items()}


def evaluate(
    file: Path, slices: Mapping[str, Sequence[LabelledSlice]], count: int, predictor: Callable[[], SlicePredictor]
) -> list[dict[str, Any]]:
    """The scores of so many objects of each structure, asked for by each prompt; ``learning_table`` tells of them.

    Args:
        file: keeps them; where it is there, nothing is asked.
        slices: of ``read_slices``.
        count: of objects, spread evenly over the slices that show the structure.
        predictor: opens the network.
    """
    if file.is_file():
        return read_json(file)
    predict, records = open_slices(predictor()), []
    structures = [(part, value) for part, names in ORGANS.items() for value in names]
    chosen = [(part, value, one) for part, value in structures for one in _spread(slices[part], value, count)]
    for part, value, labelled in tqdm(chosen, desc=f"segmenting for {file.parent.name}/{file.name}"):
        case, structure = SliceCase(labelled), ORGANS[part][value]
        for prompt, protocol in PROTOCOLS.items():
            played = run_protocol(
                protocol_named(protocol),
                predict(case),
                case.labels == value,
                rng=object_rng(0, f"{labelled.key} {structure}"),
                spacing=case.spacing,
            )
            scores = [{"dsc": round(one.score.dsc, 4), "nsd": round(one.score.nsd, 4)} for one in played]
            records.append({"structure": structure, "patient": labelled.patient, "prompt": prompt, "scores": scores})
    write_text(file, json.dumps(records))
    return records


def _hippocampus(data: Path) -> list[Item]:
    return list(msd(data / SETS["hippocampus"], datalist=_DATALIST))


def _abdomen(data: Path) -> list[list[Item]]:
    """The slices of validation patients that show the liver, and those that show the pancreas."""
    items = [item for item in msd(data / SETS["abdomen"], datalist=_DATALIST) if item.get("split") == "validation"]
    return [[item for item in items if Path(item["image"]).name.startswith(o)] for o in ORGANS["abdomen"].values()]


def _each(items: Sequence[Item], count: int) -> list[Item]:
    return list(items[:: max(1, len(items) // count)][:count])


def _spread(slices: Sequence[LabelledSlice], value: int, count: int) -> list[LabelledSlice]:
    shown = [one for one in slices if value in one.ids]
    return [shown[int((number + 0.5) * len(shown) / count)] for number in range(min(count, len(shown)))]
