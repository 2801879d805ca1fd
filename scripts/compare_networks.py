"""Train networks of several sizes in the same short way, and put quality and speed side by side.

    python scripts/compare_networks.py --output runs/networks

Each variant is the family `tiny_vit` with another encoder or grid, or the U-Net of the family `default`. All start
from nothing and see the same slices and boxes in the same order (configs/recipes/shipped/network_table.json); the
weights after the last step are scored on the validation patients' boxes. At the end the encoders and decoders of all
variants are timed in turns; `--variants` says which of them are trained as well. It leaves table.md and table.csv. A
killed run goes on when it is started again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bundle.errors import OptionError, explain_errors
from bundle.evaluation.records import read_csv, write_csv
from bundle.evaluation.tables import Table
from bundle.families.family import BUNDLE_ROOT, FAMILIES_FOLDER, build_network, load_family
from bundle.families.summary import summarise
from bundle.files import write_text
from bundle.layers import remember_settings, run_unless
from bundle.prompts.batch import PromptBatch

# What differs from the family; with a builder of its own, the whole network. LiteMedSAM's variant has no stride in its
# stem and SAM's plain neck.
VARIANTS: dict[str, dict[str, Any]] = {
    "grid 16, fine": {"grid": 16},
    "grid 32": {"fine": False},
    "grid 32, fine (version 1)": {},
    "grid 64, fine": {"grid": 64},
    "LiteMedSAM's, grid 64": {
        "grid": 64,
        "stem": "pointwise",
        "neck": "sam",
        "window_sizes": [7, 14, 7],
        "fine": False,
    },
    "512 px, grid 32, fine": {"image_size": 512},
    "U-Net (shipped)": dict(load_family("default").network_def),
}
PROTOCOL = "box_jitter_20"
SCORES = ("dsc", "nsd")
ROUNDS = 15
PER_EPOCH = 20
FIELDS = ("variant", "parameters", "gmacs", "train_seconds", "encode_seconds", "decode_seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is done, 2 when it cannot be done as asked."""
    options = arguments(argv)
    try:
        remember(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    families = {name: write_family(name, options) for name in VARIANTS}
    for number, (name, family) in enumerate(families.items(), start=1):
        if number in options.variants:
            print(f"[{number}/{len(VARIANTS)}] {name}", flush=True)
            train_and_evaluate(family, options)
    seconds = time_in_turns({name: build_network(load_family(path), random=True) for name, path in families.items()})
    rows = [row_of(name, path) | seconds[name] for name, path in families.items()]
    organs = sorted({name for row in rows for name in row} - set(FIELDS))
    write_csv(options.output / "table.csv", rows, (*FIELDS, *organs))
    text = table_of(rows, organs)
    write_text(options.output / "table.md", text)
    print(text)
    return 0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    numbered = "; ".join(f"{number} {name}" for number, name in enumerate(VARIANTS, start=1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of 8 slices")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    numbers = range(1, len(VARIANTS) + 1)
    parser.add_argument(
        "--variants", nargs="+", type=int, choices=numbers, default=list(numbers), help=f"which are trained: {numbered}"
    )
    parser.add_argument("--family", default="tiny_vit", help="the family that the variants differ from")
    parser.add_argument("--dataset", default="abdomen_ct_2d", help="a layer of configs/datasets")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples and prompts")
    return parser.parse_args(argv)


def remember(options: argparse.Namespace) -> None:
    """Keep what the run depends on; a run with something else must not be continued.

    Raises:
        ValueError: the length is no whole number of epochs, or the folder holds another run.
    """
    if options.steps < 1 or options.steps % PER_EPOCH:
        raise OptionError(f"--steps must be a multiple of {PER_EPOCH}, got {options.steps}")
    wanted = {name: getattr(options, name) for name in ("steps", "family", "dataset", "seed")}
    remember_settings(options.output, wanted)


def write_family(variant: str, options: argparse.Namespace) -> Path:
    """The family file of a variant."""
    base = options.family if options.family.endswith(".json") else FAMILIES_FOLDER / f"{options.family}.json"
    content = json.loads(Path(base).read_text(encoding="utf-8"))
    differs = VARIANTS[variant]
    content["network_def"] = differs if "_target_" in differs else content["network_def"] | differs
    content["contract"]["size"] = content["network_def"]["image_size"]
    content["checkpoint"] = None
    path = options.output / f"{list(VARIANTS).index(variant) + 1}" / "family.json"
    write_text(path, json.dumps(content, indent=2))
    return path


def train_and_evaluate(family: Path, options: argparse.Namespace) -> None:
    """MONAI's command for the one and for the other."""
    folder, common = family.parent, {"family_name": str(family), "seed": options.seed}
    layers = ["train", "recipes/default", f"datasets/{options.dataset}", "recipes/shipped/network_table"]
    epochs = options.steps // PER_EPOCH
    length = {"epochs": epochs, "steps_per_epoch": PER_EPOCH, "val_interval": epochs}
    weights = folder / "best.safetensors"
    run_unless(weights, layers, **common, **length, output_dir=str(folder), bundle_root=str(BUNDLE_ROOT))
    run_unless(
        folder / "evaluation" / "report.html",
        ["evaluate", f"datasets/{options.dataset}"],
        **common,
        checkpoint=str(weights),
        protocols=[PROTOCOL],
        run_name="box",
        output_dir=str(folder / "evaluation"),
    )


@torch.inference_mode()
def time_in_turns(networks: Mapping[str, torch.nn.Module]) -> dict[str, dict[str, float]]:
    """Median seconds to encode one image and to decode one box of it; the networks take turns."""
    seconds = {name: {"encode_seconds": [], "decode_seconds": []} for name in networks}
    for turn in range(ROUNDS + 2):
        for name, network in networks.items():
            side = network.spec.input_shape[-1]
            image, box = torch.zeros(1, *network.spec.input_shape), torch.tensor([[0.3, 0.3, 0.6, 0.6]]) * side
            started = time.perf_counter()
            prepared = network.prepare(image)
            encoded = time.perf_counter()
            network.predict(prepared, PromptBatch(boxes=box), multimask=False)
            if turn >= 2:  # the first ones also allocate
                seconds[name]["encode_seconds"].append(encoded - started)
                seconds[name]["decode_seconds"].append(time.perf_counter() - encoded)
    return {name: {key: statistics.median(values) for key, values in both.items()} for name, both in seconds.items()}


def row_of(variant: str, family: Path) -> dict[str, Any]:
    """What a variant costs and, where it was trained, reaches; the scores are named `organ score`."""
    folder, size = family.parent, summarise(load_family(family))
    row = {"variant": variant, "parameters": size.parameters, "gmacs": round(size.gmacs, 2)}
    if not (folder / "evaluation" / "report.html").exists():
        return row
    *_, last = read_csv(folder / "curve.csv")
    row["train_seconds"] = float(last["seconds"])
    for found in read_csv(folder / "evaluation" / "summary.csv"):
        if found["score"] in SCORES and found["organ"] != "macro mean":
            row[f"{found['organ']} {found['score'].upper()}"] = float(found["mean"])
    return row


def table_of(rows: Sequence[Mapping[str, Any]], organs: Sequence[str]) -> str:
    """The rows as Markdown."""
    titles = ["variant", "parameters", "GMACs", "encode ms", "decode ms", "training s", *organs]
    reached = [("train_seconds", 0), *((name, 3) for name in organs)]
    cells = []
    for row in rows:
        times = [f"{1000 * row[name]:.0f}" for name in ("encode_seconds", "decode_seconds")]
        trained = [f"{row[name]:.{digits}f}" if name in row else "-" for name, digits in reached]
        cells.append([row["variant"], f"{row['parameters']:,}", f"{row['gmacs']:.1f}", *times, *trained])
    return Table(titles, cells, 1).as_markdown()


if __name__ == "__main__":
    explain_errors()
    sys.exit(main())
