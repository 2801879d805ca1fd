"""Train a part of the shipped recipe where PyTorch, NumPy, OpenCV, SciPy and safetensors are all that is installed.

    split -b 15M runs/slices/sets.npz runs/slices/sets.npz.     # if files must be small: pieces that are read as one
    python scripts/train_bare.py --part 4_more_sets --checkpoint version7.safetensors --seconds 470 --output out \
        --pieces runs/slices/sets.npz.*

The slices are gathered before, where the data is (scripts/train_default.py does it).
The files of the recipe say what is drawn and learned; of an overlay (without_ultrasound) give --part twice, the lower
one first. Every minute the moving average is written into -o, in pieces of at most 15 MiB, of which `cat last.0* >
last.safetensors` makes the checkpoint, with `log.csv` beside it, and the whole state, from which the same command goes
on, bit for bit where --steps and not the time says how long it is. The rate falls with the time that is given, so that
a part that is lent for 90 s ends as one of ten minutes does.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bundle  # noqa: E402, F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import torch  # noqa: E402
from safetensors.torch import load_file, save  # noqa: E402
from torch import nn  # noqa: E402

from bundle.files import write_atomically, write_text  # noqa: E402
from bundle.networks.prompted_unet import PromptedUNet  # noqa: E402
from bundle.training.batched.file import read_slice_tensors  # noqa: E402
from bundle.training.batched.objective import BatchedObjective  # noqa: E402
from bundle.training.batched.samples import BatchedSamples  # noqa: E402
from bundle.training.batched.slices import choose  # noqa: E402
from bundle.training.losses import PromptLoss  # noqa: E402
from bundle.training.muon import BatchedMuon  # noqa: E402
from bundle.transforms.contract import Contract  # noqa: E402

RECIPE = ROOT / "configs" / "recipes" / "shipped"
FAMILY = ROOT / "configs" / "families" / "default.json"
PIECE = 15 * 2**20  # bytes; some ways to a lent machine take no file of 16 MiB
SAVE_SECONDS, LOG_STEPS, STATE = 60.0, 50, "state.json"
_OBJECTIVE, _RATES, _SAMPLES = "objective#", "augmentation_rates#", ("batch_size", "quarter_share")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _options(argv)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    recipe = read_recipe(options.part) | ({"batch_size": options.batch_size} if options.batch_size else {})
    family = json.loads(FAMILY.read_text(encoding="utf-8"))
    tensors = choose(
        read_slice_tensors(joined(options.pieces)),
        recipe["weights"],
        hidden=recipe.get("hidden"),
        without=recipe.get("without_sources", ()),
    )
    cuda = device.type == "cuda"
    samples = BatchedSamples(
        tensors,
        Contract.from_config(family["contract"]),
        device=device,
        seed=recipe["seed"],
        rates=recipe.get("augmentation_rates"),
        compiled=cuda,
        **{name: recipe[name] for name in _SAMPLES if name in recipe},
    )
    asked = {name.removeprefix(_OBJECTIVE): value for name, value in recipe.items() if name.startswith(_OBJECTIVE)}
    objective = BatchedObjective(PromptLoss(), compiled=cuda, seed=recipe["seed"], **asked)
    network = PromptedUNet(image_size=family["network_def"]["image_size"])
    network.load_state_dict({name: value.float() for name, value in load_file(options.checkpoint).items()})
    metadata = {"family": "default", "contract": family["contract"], "recipe": options.part[-1]}
    metadata |= {"labels": {}, "training_data": dict(tensors.about)}
    train(network.to(device, memory_format=torch.channels_last), samples, objective, recipe, options, metadata)


def read_recipe(parts: Sequence[str]) -> dict[str, Any]:
    """The literal values of the recipe's files, the later ones over the earlier; expressions of MONAI are left out."""
    values: dict[str, Any] = {"seed": 0}
    for name in ("batched", *parts):
        content = json.loads((RECIPE / f"{name}.json").read_text(encoding="utf-8"))
        values |= {k: v for k, v in content.items() if not (isinstance(v, str) and v[:1] in ("$", "@"))}
    inner = {k.removeprefix(_RATES): v for k, v in values.items() if k.startswith(_RATES)}
    return values | {"augmentation_rates": values["augmentation_rates"] | inner}


def joined(pieces: Sequence[Path]) -> Path | io.BytesIO:
    """One file, or several pieces of one in the order of their names."""
    return pieces[0] if len(pieces) == 1 else io.BytesIO(b"".join(piece.read_bytes() for piece in sorted(pieces)))


def rate(recipe: Mapping[str, Any], step: int, share: float) -> float:
    """The learning rate of a step (from 0), when this share of the time or of the steps is over."""
    flat, peak = recipe.get("lr_scheduler#flat", 0.0), recipe["learning_rate"]
    warm = min(1.0, (step + 1) / recipe["lr_scheduler#warmup"])
    return peak * warm * 0.5 * (1 + math.cos(math.pi * max(0.0, share - flat) / (1 - flat)))


def train(
    network: nn.Module,
    samples: BatchedSamples,
    objective: BatchedObjective,
    recipe: Mapping[str, Any],
    options: argparse.Namespace,
    metadata: Mapping[str, Any],
) -> None:
    """Train until the time or the steps are over, whichever comes first; go on from the state that lies in the folder.

    Raises:
        SystemExit: that state is of another recipe.
    """
    options.output.mkdir(parents=True, exist_ok=True)
    average, optimizer = copy.deepcopy(network), BatchedMuon(network.parameters(), lr=1.0, weight_decay=0.05)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    known = json.dumps({**recipe, "part": options.part}, sort_keys=True)
    first, before, losses = resume(options.output, parts, known)
    begin = saved = time.monotonic()

    def save(steps: int, seconds: float) -> None:
        state = {name: part.state_dict() for name, part in parts.items()}
        recent = [loss.item() for loss in losses[-LOG_STEPS:]]
        save_state(options.output, {**state, "steps": steps, "seconds": seconds, "losses": recent, "recipe": known})
        save_pieces(average, options.output, "last", {**metadata, "epoch": 0, "steps": steps})

    step, seconds = first, before
    with (options.output / "log.csv").open("a", encoding="utf-8") as log:
        while step < min(options.steps, first + options.leave_after):
            seconds = before + time.monotonic() - begin
            share = max(step / options.steps, seconds / options.seconds)
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, step, share)
            losses.append(_step(network, samples[step], objective, optimizer, step))
            step += 1
            _follow(average, network, min(recipe["average_decay"], step / (step + 9)))
            if step % LOG_STEPS == 0 or step <= 3:
                mean = torch.stack(losses[-LOG_STEPS:]).mean().item()
                print(f"{step},{seconds:.0f},{mean:.4f},{rate(recipe, step - 1, share):.5f}", file=log, flush=True)
            if time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                save(step, seconds)
    save(step, seconds)


def resume(folder: Path, parts: Mapping[str, Any], recipe: str) -> tuple[int, float, list[torch.Tensor]]:
    """Load the parts from the state in a folder; its steps, seconds and latest losses, 0 where there is none."""
    log, index = folder / "log.csv", folder / STATE
    if not index.is_file():
        log.unlink(missing_ok=True)
        return 0, 0.0, []
    device = next(parts["network"].parameters()).device
    pieces = b"".join((folder / name).read_bytes() for name in json.loads(index.read_text(encoding="utf-8")))
    state = torch.load(io.BytesIO(pieces), map_location=device, weights_only=True)
    if state["recipe"] != recipe:
        raise SystemExit(f"{folder} holds the state of another recipe; give another --output, or the same --part")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    rows = [row for row in log.read_text(encoding="utf-8").splitlines(keepends=True) if row.endswith("\n")]
    log.write_text("".join(row for row in rows if int(row.split(",")[0]) <= state["steps"]), encoding="utf-8")
    return state["steps"], state["seconds"], [torch.tensor(loss, device=device) for loss in state["losses"]]


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write all that a training needs to go on; the one before stays until this one is whole."""
    stream, index = io.BytesIO(), folder / STATE
    if index.is_file() and f"state_{state['steps']}.00" in index.read_text(encoding="utf-8"):
        return  # its steps are saved already
    torch.save(dict(state), stream)
    names = [piece.name for piece in write_pieces(stream.getbuffer(), folder, f"state_{state['steps']}")]
    write_text(index, json.dumps(names))
    for piece in folder.glob("state_*.*"):
        if piece.name not in names:
            piece.unlink()


def _step(
    network: nn.Module, batch: Any, objective: BatchedObjective, optimizer: torch.optim.Optimizer, step: int
) -> torch.Tensor:
    batch.step = step + 1
    with torch.autocast(batch.images.device.type, torch.bfloat16):
        (terms,) = objective(network, batch)
    terms.total.backward()
    if torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), 1.0)):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return terms.total.detach()


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def save_pieces(network: nn.Module, folder: Path, name: str, metadata: Mapping[str, Any]) -> list[Path]:
    """Write a checkpoint in pieces."""
    heavy = {key for key, parameter in network.named_parameters() if parameter.ndim >= 2}
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    state = {key: value.half() if key in heavy else value for key, value in state.items()}
    return write_pieces(save(state, metadata={"monai_sam": json.dumps(dict(metadata))}), folder, name)


def write_pieces(data: bytes | memoryview, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.00``, ``<name>.01`` ...; a piece appears under its name only when it is whole."""
    pieces = []
    for number, start in enumerate(range(0, len(data), PIECE)):
        part = data[start : start + PIECE]
        piece = folder / f"{name}.{number:02d}"
        pieces.append(write_atomically(piece, lambda partial, part=part: Path(partial).write_bytes(part)))
    return pieces


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", required=True, help="file of configs/recipes/shipped, without .json")
    parser.add_argument("--pieces", type=Path, nargs="+", required=True, help="the gathered slices, or their pieces")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of the family default")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--seconds", type=float, default=470.0, help="how long it trains")
    parser.add_argument("--steps", type=int, default=10**6, help="how many steps at most")
    parser.add_argument("--leave-after", type=int, default=10**6, help="steps of this call; the same command goes on")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--device", help="by default the first GPU, or the CPU")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
