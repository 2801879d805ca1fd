"""Train the network of volumes where nothing but PyTorch, NumPy, SciPy, OpenCV and safetensors is installed.

    python -m bundle.training.batched.cube_training --cubes runs/cubes --output runs/default_3d

It saves itself every minute and goes on from there, without --seconds bit for bit: a step depends on the state and its
number alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bundle.errors import TrainingError
from bundle.families.checkpoints import save_checkpoint
from bundle.files import read_json, write_atomically, write_text
from bundle.networks.prompted_unet_3d import DEPTHS, WIDTHS, PromptedUNet3D
from bundle.root import BUNDLE_ROOT
from bundle.training.batched.cube_objective import CubeObjective
from bundle.training.batched.cube_samples import CubeSamples
from bundle.training.batched.cubes import CubeTensors, read_cubes
from bundle.training.muon import BatchedMuon

RECIPE = BUNDLE_ROOT / "configs" / "recipes" / "volumes" / "train.json"
STATE, LOG, WEIGHTS = "last.pt", "log.jsonl", "best.safetensors"
_SAVE_SECONDS = 60.0
_EARLY, _EARLY_DECAY = 300, 0.97  # steps in which the moving average follows faster

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CubeRecipe:
    """What a training does.

    Attributes:
        steps: of the optimiser.
        batch_size: cubes of a step.
        size: S, cells along a side.
        learning_rate: of Muon.
        weight_decay: of Muon.
        warmup: steps in which the rate rises.
        flat: share of the steps before the rate falls along a cosine.
        average_decay: of the moving average of the weights, which is what is kept.
        clip: largest norm of the gradient.
        seed: of everything.
        widths, depths: of the network.
        correction_share, between, hollow_box: of ``CubeObjective``.
        samples: other arguments of ``CubeSamples``.
    """

    steps: int = 1663
    batch_size: int = 24
    size: int = 96
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup: int = 150
    flat: float = 0.35
    average_decay: float = 0.995
    clip: float = 1.0
    seed: int = 0
    widths: Sequence[int] = WIDTHS
    depths: Sequence[int] = DEPTHS
    correction_share: float = 0.4
    between: int = 3
    hollow_box: float = 0.0
    samples: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, **changes: Any) -> CubeRecipe:
        """A recipe of a JSON file, with some values changed.

        Raises:
            TrainingError: it names something that a recipe does not have.
        """
        values = {key: value for key, value in read_json(path).items() if not key.startswith("_")}
        values |= {key: value for key, value in changes.items() if value is not None}
        if unknown := sorted(set(values) - {one.name for one in fields(cls)}):
            raise TrainingError(f"{path.name} has {unknown[0]!r}; known are {', '.join(f.name for f in fields(cls))}")
        return cls(**values)

    def rate(self, step: int, share: float | None = None) -> float:
        """The learning rate of a step, from 0.

        Args:
            step: which.
            share: of the training that is over; by default that of the steps.
        """
        share = step / self.steps if share is None else share
        falling = 1.0 if share < self.flat else 0.5 * (1 + math.cos(math.pi * (share - self.flat) / (1 - self.flat)))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * falling + 1e-6


class CubeTraining:
    """A training that can be stopped after any step.

    Args:
        recipe: what it does.
        tensors: the packed volumes.
        out: folder of its state, log and weights; a state that lies there is gone on from.
        device: where it runs.
        start: weights to begin with, a state dict; None for random ones.
        seconds: what the whole training may take on a machine that is lent, in all its calls: the rate falls with them
            and no step begins later. Only without it a training that goes on is the same bit for bit.
        compiled: compile the network, which pays on a GPU.

    Raises:
        TrainingError: the state that lies there is of another recipe.
    """

    def __init__(
        self,
        recipe: CubeRecipe,
        tensors: CubeTensors,
        out: Path,
        *,
        device: torch.device | str = "cpu",
        start: Mapping[str, torch.Tensor] | None = None,
        seconds: float = math.inf,
        compiled: bool = False,
    ) -> None:
        self.recipe, self.out, self.device = recipe, Path(out), torch.device(device)
        options = {"size": recipe.size, "batch_size": recipe.batch_size, "seed": recipe.seed, **recipe.samples}
        self.samples = CubeSamples(tensors, device=self.device, **options)
        self.objective = CubeObjective(
            correction_share=recipe.correction_share,
            between=recipe.between,
            hollow_box=recipe.hollow_box,
            seed=recipe.seed,
            compiled=compiled,
        )
        torch.manual_seed(recipe.seed)
        self.network, self.average = (
            PromptedUNet3D(recipe.size, widths=recipe.widths, depths=recipe.depths).to(
                self.device, memory_format=torch.channels_last_3d
            )
            for _ in range(2)
        )
        if start is not None:
            self.network.load_state_dict(start)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = BatchedMuon(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.step, self.seconds, self.elapsed = 0, seconds, 0.0
        if (self.out / STATE).is_file():
            self._resume()

    @property
    def over(self) -> float:
        """Share of the training that is over, by its steps or by its time, whichever is more."""
        return max(self.step / self.recipe.steps, self.elapsed / self.seconds)

    def run(self, *, steps: int | None = None) -> None:
        """Train until the steps or the time are over, or for so many steps; then the state is saved.

        Args:
            steps: of this call, at most.
        """
        began, before, saved = time.monotonic(), self.elapsed, time.monotonic()
        last = self.recipe.steps if steps is None else min(self.recipe.steps, self.step + steps)
        while self.step < last and self.over < 1:
            rate = self.recipe.rate(self.step, self.over)
            loss, mask = self._step(rate)
            self.elapsed = before + time.monotonic() - began
            if self.step <= 2 or self.step % 50 == 0 or self.step == last:
                told = self.step, self.recipe.steps, self.elapsed, loss, mask, rate
                _log.info("step %d of %d, %.0f s: loss %.4f, mask %.4f, rate %.5f", *told)
            self._note(loss, mask, rate)
            if time.monotonic() - saved > _SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.over >= 1:
            self.save_weights()

    def save(self) -> None:
        """Write the state; the one from before stays until it is complete."""
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "recipe": json.dumps(asdict(self.recipe)),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_atomically(self.out / STATE, lambda partial: torch.save(state, partial))

    def save_weights(self) -> Path:
        """Write the moving average of the weights as a checkpoint of the family."""
        family = read_json(BUNDLE_ROOT / "configs" / "families" / "default_3d.json")
        metadata = {
            "family": family["name"],
            "contract": family["contract"],
            "recipe": json.dumps(asdict(self.recipe)),
            "training_data": dict(Counter(self.samples.tensors.groups)),
        }
        return save_checkpoint(self.average, self.out / WEIGHTS, metadata=metadata)

    def _step(self, rate: float) -> tuple[float, float]:
        """One step; its loss and that of the mask alone."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.samples[self.step]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            (terms,) = self.objective(self.network, batch)
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = self.recipe.average_decay if self.step > _EARLY else _EARLY_DECAY
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self.step += 1
        return float(terms.total.detach()), float(terms.mask)

    def _note(self, loss: float, mask: float, rate: float) -> None:
        with (self.out / LOG).open("a", encoding="utf-8") if self.out.is_dir() else self._first_log() as file:
            row = {"step": self.step, "loss": round(loss, 5), "mask": round(mask, 5), "rate": round(rate, 7)}
            file.write(json.dumps(row) + "\n")

    def _first_log(self) -> Any:
        self.out.mkdir(parents=True, exist_ok=True)
        return (self.out / LOG).open("a", encoding="utf-8")

    def _resume(self) -> None:
        state = torch.load(self.out / STATE, map_location=self.device, weights_only=True)
        if state["recipe"] != json.dumps(asdict(self.recipe)):
            raise TrainingError(f"{self.out / STATE} is of another recipe; give another folder, or that recipe")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        if (log := self.out / LOG).is_file():  # steps after the state that was saved are made again
            kept = [line for line in log.read_text("utf-8").splitlines(True) if line.endswith("\n")]
            write_text(log, "".join(kept[: self.step]))
        _log.info("going on after step %d", self.step)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=Path, required=True, help="folder of packed volumes (scripts/pack_cubes.py)")
    parser.add_argument("--output", type=Path, required=True, help="folder of state, log and weights; gone on from")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--checkpoint", type=Path, help="weights of the family default_3d to begin with")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="of the whole training; the rate falls with them"
    )
    parser.add_argument("--steps", type=int, help="make no more of them in this call")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--size", type=int, help="cells along a side, instead of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compiled", action="store_true", help="compile the network")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.backends.cudnn.benchmark = True
    recipe = CubeRecipe.read(options.recipe, batch_size=options.batch_size, size=options.size)
    training = CubeTraining(
        recipe,
        read_cubes(options.cubes),
        options.output,
        device=options.device,
        start=load_file(options.checkpoint) if options.checkpoint else None,
        seconds=options.seconds,
        compiled=options.compiled,
    )
    training.run(steps=options.steps)


if __name__ == "__main__":
    main()
