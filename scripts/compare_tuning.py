"""Fine-tune one base model in several ways on an organ, and score the base and the results side by side.

    python scripts/compare_tuning.py --checkpoint runs/without_pancreas/best.safetensors --organ pancreas -o runs/tuning

Each way is a layer of configs/tuning over configs/tuning/finetune.json: the same slices in the same order, steps,
objective and seed. Training sees the training patients' slices that show the organ. Validation patients neither train
nor choose a checkpoint: the weights after the last step are scored, on all organs, by the prompts that the base was
given. It ends in table.md, table.csv and cases.png. A killed run goes on when it is started again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from bundle.errors import OptionError, explain_errors
from bundle.evaluation.cases import scenes_of, slice_cases
from bundle.evaluation.figures import Scene, overlay_rows
from bundle.evaluation.records import last_steps, read_csv, read_records, write_csv
from bundle.evaluation.report import overlays_of
from bundle.evaluation.statistics import Record
from bundle.evaluation.tables import Table
from bundle.families.family import BUNDLE_ROOT, load_family, structure_of
from bundle.files import sha256_of, write_atomically, write_text
from bundle.layers import remember_settings, run_unless
from bundle.networks.tuning.peft import set_trainable

CONFIGS = BUNDLE_ROOT / "configs"
TUNINGS = ("decoder", "lora", "adapters", "full")
BASE, BOX = "base", "box_jitter_20"
PROTOCOLS = {BOX: "Box, each side 0 to 5 px of 256 outward", "points_1": "One point in the middle of the organ"}
SCORES = {"dsc": "DSC", "nsd": "NSD"}
SETTINGS = ("organ", "steps", "dataset", "family", "seed")
SAVED_EVERY = 30  # steps, at most: how much a killed training has to do again
FIELDS = ("tuning", "parameters", "seconds", "protocol", "organ", "score", "cases", "mean", "low", "high")
PAIRED_FIELDS = ("difference", "difference_low", "difference_high", "p_value")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is done, 2 when it cannot be done as asked."""
    options = arguments(argv)
    try:
        remember(options)
        for number, part in enumerate(parts := [BASE, *options.tunings], start=1):
            print(f"[{number}/{len(parts)}] {part}", flush=True)
            if part != BASE:
                train(part, options)
            evaluate(part, options)
        rows = [row for part in parts for row in rows_of(part, options)]
        write_atomically(options.output / "cases.png", lambda partial: Path(partial).write_bytes(picture(options)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_csv(options.output / "table.csv", rows, (*FIELDS, *PAIRED_FIELDS))
    text = page(rows, options)
    write_text(options.output / "table.md", text)
    print(text)
    return 0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint that every tuning starts from")
    parser.add_argument("--organ", required=True, help="whose slices train")
    parser.add_argument("--steps", type=int, default=120, help="of 8 slices")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    parser.add_argument("--tunings", nargs="+", choices=TUNINGS, default=list(TUNINGS))
    parser.add_argument("--dataset", default="abdomen_ct_2d", help="a layer of configs/datasets")
    parser.add_argument("--family", default="default", help="of the base: a name, or a JSON file of your own")
    parser.add_argument("--seed", type=int, default=0, help="of training samples, prompts and bootstrap")
    return parser.parse_args(argv)


# ---- training and evaluating: MONAI's command, layer by layer -------------------------------------------------------


def train(tuning: str, options: argparse.Namespace) -> None:
    """Fine-tune the base; it is finished when its checkpoint is there, for only the last epoch is validated."""
    per_epoch = math.gcd(options.steps, SAVED_EVERY)
    epochs = options.steps // per_epoch
    run_unless(
        weights_of(tuning, options),
        ["train", "recipes/default", "tuning/finetune", f"datasets/{options.dataset}", f"tuning/{tuning}"],
        family_name=options.family,
        start=str(options.checkpoint),
        only=[options.organ],
        epochs=epochs,
        steps_per_epoch=per_epoch,
        val_interval=epochs,
        seed=options.seed,
        run_name=f"finetune-{tuning}",
        output_dir=str(options.output / tuning),
        bundle_root=str(BUNDLE_ROOT),
    )


def evaluate(part: str, options: argparse.Namespace) -> None:
    """Score the base, or a tuned model by the base's prompts and compared with it."""
    folder, before = evaluation_of(part, options), str(evaluation_of(BASE, options))
    tuned = {} if part == BASE else {"before": {BASE: before}, "replay": before}
    run_unless(
        folder / "report.html",
        ["evaluate", f"datasets/{options.dataset}"],
        family_name=options.family,
        checkpoint=str(weights_of(part, options)),
        protocols=list(PROTOCOLS),
        seed=options.seed,
        run_name=part,
        output_dir=str(folder),
        **tuned,
    )


def weights_of(part: str, options: argparse.Namespace) -> Path:
    """The checkpoint of the base or of a tuning."""
    return options.checkpoint if part == BASE else options.output / part / "best.safetensors"


def evaluation_of(part: str, options: argparse.Namespace) -> Path:
    """The folder of its evaluation."""
    return options.output / part / "evaluation"


def evaluation_config(options: argparse.Namespace) -> ConfigParser:
    """The layers that every evaluation has, to ask for what it scores."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in ("evaluate", f"datasets/{options.dataset}")])
    parser["family_name"] = options.family
    return parser


def remember(options: argparse.Namespace) -> None:
    """Keep what the run depends on; a run with something else must not be continued.

    Raises:
        ValueError: there is no such base or organ, or the folder holds another run.
    """
    if not options.checkpoint.is_file():
        raise OptionError(f"expected the base's checkpoint at {options.checkpoint}, got no such file; train it first")
    if options.steps < 1:
        raise OptionError(f"expected at least 1 step, got {options.steps}")
    organs = evaluation_config(options).get_parsed_content("scored").values()
    if options.organ not in organs:
        raise OptionError(f"expected one of the organs {', '.join(organs)}, got {options.organ!r}")
    wanted = {name: getattr(options, name) for name in SETTINGS} | {"checkpoint": sha256_of(options.checkpoint)}
    remember_settings(options.output, wanted)


# ---- tables ---------------------------------------------------------------------------------------------------------


def rows_of(part: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """`FIELDS` of every prompt, organ and score, with `PAIRED_FIELDS` against the base for a tuned model."""
    folder = evaluation_of(part, options)
    about = {"tuning": part, "parameters": 0, "seconds": 0}
    if part != BASE:
        *_, last = read_csv(options.output / part / "curve.csv")
        about |= {"parameters": trained_parameters(part, options.family), "seconds": int(last["seconds"])}
    paired = {} if part == BASE else {place(row): row for row in read_csv(folder / "comparison.csv")}
    rows = []
    for row in read_csv(folder / "summary.csv"):
        if row["run"] == part and row["score"] in SCORES:
            rows.append({**row, **about, **_paired(paired.get(place(row)))})
    return rows


def _paired(row: Mapping[str, str] | None) -> dict[str, str]:
    if row is None:
        return {}
    names = {"low": "difference_low", "high": "difference_high"}
    return {names.get(name, name): row[name] for name in ("difference", "low", "high", "p_value")}


def place(row: Mapping[str, str]) -> tuple[str, str, str]:
    """What a number belongs to."""
    return row["protocol"], row["organ"], row["score"]


def trained_parameters(tuning: str, family: str) -> int:
    """How many numbers a tuning of configs/tuning trains."""
    layer = json.loads((CONFIGS / "tuning" / f"{tuning}.json").read_text(encoding="utf-8"))
    network = structure_of(load_family(family), layer["network_options"])
    set_trainable(network, layer["trainable"])
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def page(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """The tables as a section of a document: one for each prompt, the organ that was trained on first."""
    organs = sorted({row["organ"] for row in rows} - {"macro mean"}, key=lambda name: (name != options.organ, name))
    cases = {row["organ"]: row["cases"] for row in rows}
    patients = ", ".join(f"{cases[organ]} with {organ}" for organ in organs)
    names = ("checkpoint", "output", *SETTINGS)
    given = [part for name in names for part in (f"--{name}", str(getattr(options, name)))]
    lines = [
        f"```bash\n{shlex.join(['python', 'scripts/compare_tuning.py', *given])}\n```",
        f"Fine-tuned for {options.steps} steps of 8 slices on the training patients' slices of {options.organ}, seed "
        f"{options.seed}; the weights after the last step, no checkpoint was chosen. Validation patients: {patients}. "
        "Means over patients with bootstrap 95 % intervals; p of the paired Wilcoxon test against the base over "
        "patients; NSD at 2 px of 256. Every model is given the same prompts. Seconds are of "
        "the training with the one validation at its end.",
        *(f"**{heading}**\n\n{table_of(rows, protocol, organs).strip()}" for protocol, heading in PROTOCOLS.items()),
        "Truth and answers to the same box on the base's median slice and those of highest and lowest mean gain:",
        f"![the base and its tunings on three slices of {options.organ}](cases.png)\n",
    ]
    return "\n\n".join(lines)


def table_of(rows: Iterable[Mapping[str, Any]], protocol: str, organs: Sequence[str]) -> str:
    """One row for each model, one pair of columns for each organ and score."""
    numbers = [(organ, score) for organ in organs for score in SCORES]
    titles = [f"{organ} {SCORES[score]}" for organ, score in numbers]
    columns = ["tuning", "trained parameters", "seconds", *(word for title in titles for word in (title, "p"))]
    chosen = [row for row in rows if row["protocol"] == protocol]
    cells = []
    for tuning in dict.fromkeys(row["tuning"] for row in chosen):
        found = {(row["organ"], row["score"]): row for row in chosen if row["tuning"] == tuning}
        about = next(iter(found.values()))
        size = [f"{about['parameters']:,}", f"{about['seconds']}"] if tuning != BASE else ["-", "-"]
        cells.append([tuning, *size, *(word for place in numbers for word in _score_and_p(found[place]))])
    return Table(columns, cells, 1).as_markdown()


def _score_and_p(row: Mapping[str, str]) -> tuple[str, str]:
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{float(row['p_value']):.2g}" if "p_value" in row else "-"


# ---- the picture ----------------------------------------------------------------------------------------------------


def picture(options: argparse.Namespace) -> bytes:
    """A PNG: the outlines of the truth and of every model's answer to the same box, on three slices.

    They are the base's median slice by DSC, and those that gain most and least on average over the tunings.
    """
    parts = [BASE, *options.tunings]
    records = {part: box_records(part, options) for part in parts}
    scenes = scenes_shown(records[BASE].values(), options)
    rows = []
    for name, key in chosen_slices(records).items():
        shown = []
        for part in parts:
            title = f"{part}, {name}" if part == BASE else part
            shown += overlays_of({"": {title: records[part][key]}}, evaluation_of(part, options), scenes)[""]
        rows.append(shown)
    return overlay_rows(rows)


def chosen_slices(records: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """What it shows -> key of the three slices, from model -> key -> record; few slices stand for more than one."""
    base = {key: record["dsc"] for key, record in records[BASE].items()}
    tuned = [by_key for part, by_key in records.items() if part != BASE]
    gain = {key: np.mean([by_key[key]["dsc"] for by_key in tuned]) - base[key] for key in base}
    ranked = sorted(base, key=base.get)
    median = ranked[len(ranked) // 2]
    others = [key for key in ranked if key != median] or ranked
    return {"median": median, "highest gain": max(others, key=gain.get), "lowest gain": min(others, key=gain.get)}


def box_records(part: str, options: argparse.Namespace) -> dict[str, Record]:
    """Key of the slice -> the answer to a box around the organ."""
    last = last_steps(read_records(evaluation_of(part, options)))
    return {row["key"]: row for row in last if (row["protocol"], row["organ"]) == (BOX, options.organ)}


def scenes_shown(records: Iterable[Record], options: argparse.Namespace) -> dict[str, Scene]:
    """`"key organ"` -> slice and truth of these records, read as the evaluation reads them."""
    parser = evaluation_config(options)
    cases = slice_cases(parser.get_parsed_content("slices"))
    return scenes_of(cases, records, organs=parser.get_parsed_content("scored"))


if __name__ == "__main__":
    explain_errors()
    sys.exit(main())
