"""Ignite handlers: exponential moving average, run state that survives a kill, best checkpoint, curve."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bundle.networks.checkpoints import save_checkpoint
from bundle.training.samples import DrawNumbers


def averaged(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """A copy of ``network`` that follows it as an exponential moving average, batch statistics included."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


class UpdateAverage:
    """Move the average after every step. It starts as a copy after ``warmup`` steps, past the first wild ones."""

    def __init__(self, average: AveragedModel, network: nn.Module, *, warmup: int = 100) -> None:
        self.average, self.network, self.warmup = average, network, warmup

    def attach(self, engine: Engine) -> None:
        """Follow the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration <= self.warmup:
            self.average.module.load_state_dict(self.network.state_dict())
        else:
            self.average.update_parameters(self.network)


def warmup_cosine(optimizer: Optimizer, *, warmup: int, total: int, floor: float = 0.01) -> LambdaLR:
    """Linear warm-up over ``warmup`` steps, then half a cosine down to ``floor`` of the rate at step ``total``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


class RunState:
    """Write the whole state of a run after every epoch, and go on from it when the run starts again.

    Args:
        path: file of the state; written beside it first, then renamed, so that a kill leaves the old or the new one.
        objects: what to keep, by name, each with ``state_dict`` and ``load_state_dict``.
        draws: the stream of training samples, which goes on where the state stopped.
        batch_size: draws that one step takes, over all processes.
    """

    def __init__(self, path: str | Path, objects: Mapping[str, Any], *, draws: DrawNumbers, batch_size: int) -> None:
        self.path, self.objects, self.draws, self.batch_size = Path(path), dict(objects), draws, batch_size

    def attach(self, engine: Engine) -> None:
        """Resume at the start, save after each epoch (after validation, which is attached before)."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Load the state if there is one."""
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, value in self.objects.items():
            value.load_state_dict(state["objects"][name])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self.draws.first = state["iteration"] * self.batch_size

    def save(self, engine: Engine) -> None:
        """Write the state atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".part")
        objects = {name: value.state_dict() for name, value in self.objects.items()}
        torch.save({"epoch": engine.state.epoch, "iteration": engine.state.iteration, "objects": objects}, partial)
        os.replace(partial, self.path)


class SaveBest:
    """Keep the network of the best validation, and a line per epoch in ``curve.csv`` beside it.

    Attach it to the trainer after the ValidationHandler.

    Args:
        path: checkpoint to write.
        network: what to save, normally the average.
        evaluator: its metrics are read when its run of the same epoch is complete.
        metric: name of the evaluator's metric; higher is better.
        metadata: written into the checkpoint (family, contract, recipe, training data).
    """

    def __init__(
        self, path: str | Path, network: nn.Module, *, evaluator: Engine, metric: str, metadata: Mapping[str, Any]
    ) -> None:
        self.path, self.network, self.evaluator, self.metric = Path(path), network, evaluator, metric
        self.metadata, self.best, self.seconds, self.started = dict(metadata), float("-inf"), 0.0, time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Act after every epoch that was validated."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def state_dict(self) -> dict[str, float]:
        """The best value and the time spent so far, for RunState."""
        return {"best": self.best, "seconds": self._elapsed()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from an interrupted run."""
        self.best, self.seconds, self.started = state["best"], state["seconds"], time.monotonic()

    def __call__(self, engine: Engine) -> None:
        if self.evaluator.state.epoch != engine.state.epoch:
            return
        value = float(self.evaluator.state.metrics[self.metric])
        self._log(engine)
        if value > self.best:
            self.best = value
            notes = {**self.metadata, "epoch": engine.state.epoch, self.metric: round(value, 4)}
            save_checkpoint(self.network, self.path, metadata=notes)

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _log(self, engine: Engine) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        curve = self.path.parent / "curve.csv"
        row = {"epoch": engine.state.epoch, "step": engine.state.iteration, "seconds": round(self._elapsed())}
        row |= {f"train_{name}": round(float(value), 5) for name, value in engine.state.metrics.items()}
        row |= {name: round(float(value), 5) for name, value in self.evaluator.state.metrics.items()}
        new = not curve.exists()
        with curve.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
