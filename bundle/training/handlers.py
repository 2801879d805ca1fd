"""Ignite handlers: moving average, run state that survives a kill, best checkpoint and curve, early stop, progress."""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from bundle.errors import RunStateError
from bundle.families.checkpoints import save_checkpoint
from bundle.files import write_atomically
from bundle.training.distributed import is_main
from bundle.training.draws import DrawNumbers

logger = logging.getLogger(__name__)


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


class RunState:
    """Write the whole state of a run after every epoch, and go on from it when the run starts again.

    Args:
        path: file of the state; written beside it first, then renamed, so that a kill leaves the old or the new one.
        objects: what to keep, by name, each with ``state_dict`` and ``load_state_dict``.
        draws: the stream of training samples, which goes on where the state stopped.
        batch_size: draws that one step takes, over all processes; part of the identity unless that has a
            ``batch_size`` of its own.
        identity: what makes it this run and no other (family, seed, data, ...), by name, as JSON has it. A run goes on
            only from a state of the same identity, or from an old one that has none.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        *,
        draws: DrawNumbers,
        batch_size: int,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.objects, self.draws, self.batch_size = Path(path), dict(objects), draws, batch_size
        self.identity = json.loads(json.dumps({"batch_size": batch_size, **(identity or {})}))

    def attach(self, engine: Engine) -> None:
        """Resume at the start, save after each epoch (after validation, which is attached before)."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Load the state if there is one; an object that it does not know keeps its own.

        Raises:
            RunStateError: if another run left the state, naming what differs.
        """
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self._check_identity(state.get("identity"))
        for name in self.objects.keys() & state["objects"].keys():
            self.objects[name].load_state_dict(state["objects"][name])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        engine.state.metrics["skipped"] = state.get("skipped", 0)
        self.draws.first = state["iteration"] * self.batch_size

    def save(self, engine: Engine) -> None:
        """Write the state atomically."""
        if not is_main():
            return
        objects = {name: value.state_dict() for name, value in self.objects.items()}
        state = {
            "identity": self.identity,
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "skipped": engine.state.metrics.get("skipped", 0),
            "objects": objects,
        }
        write_atomically(self.path, lambda partial: torch.save(state, partial))

    def _check_identity(self, found: Mapping[str, Any] | None) -> None:
        if found is None:
            logger.warning("%s does not say of which run it is; it is taken for one of this run", self.path)
            return
        differing = [name for name in self.identity if found.get(name) != self.identity[name]]
        if differing:
            told = ", ".join(_difference(name, found.get(name), self.identity[name]) for name in differing)
            raise RunStateError(
                f"{self.path} is the state of another run, with another {told}; choose another --output_dir"
            )


def _difference(name: str, found: Any, wanted: Any) -> str:
    """What differs, with its values where they are short enough to read."""
    return name if isinstance(wanted, dict) else f"{name} ({found!r} there, {wanted!r} here)"


def _validated(engine: Engine, evaluator: Engine) -> bool:
    """Whether the evaluator ran in this epoch of the trainer: with ``val_interval`` it does not in each."""
    return evaluator.state.epoch == engine.state.epoch


class StepOnPlateau:
    """Step torch's ReduceLROnPlateau with the validation metric. Attach it to the trainer after the ValidationHandler.

    Args:
        lr_scheduler: to step.
        evaluator: its metric is read when its run of the same epoch is complete.
        metric: name of the evaluator's metric.
    """

    def __init__(self, lr_scheduler: ReduceLROnPlateau, evaluator: Engine, *, metric: str) -> None:
        self.lr_scheduler, self.evaluator, self.metric = lr_scheduler, evaluator, metric

    def attach(self, engine: Engine) -> None:
        """Act after every epoch that was validated."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if _validated(engine, self.evaluator):
            self.lr_scheduler.step(self.evaluator.state.metrics[self.metric])


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
        self.metadata, self.best, self.best_epoch = dict(metadata), float("-inf"), 0
        self.seconds, self.started = 0.0, time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Act after every epoch that was validated."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def state_dict(self) -> dict[str, float]:
        """The best value, its epoch and the time spent so far, for RunState."""
        return {"best": self.best, "best_epoch": self.best_epoch, "seconds": self._elapsed()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from an interrupted run."""
        self.best, self.best_epoch = state["best"], int(state.get("best_epoch", 0))
        self.seconds, self.started = state["seconds"], time.monotonic()

    def __call__(self, engine: Engine) -> None:
        if not _validated(engine, self.evaluator):
            return
        value = float(self.evaluator.state.metrics[self.metric])
        better = value > self.best
        if better:
            self.best, self.best_epoch = value, engine.state.epoch
        if is_main():
            self._log(engine)
            if better:
                notes = {**self.metadata, "epoch": engine.state.epoch, self.metric: round(value, 4)}
                save_checkpoint(self.network, self.path, metadata=notes)

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _log(self, engine: Engine) -> None:
        row = {"epoch": engine.state.epoch, "step": engine.state.iteration, "seconds": round(self._elapsed())}
        row |= {f"train_{name}": round(float(value), 5) for name, value in engine.state.metrics.items()}
        row |= {name: round(float(value), 5) for name, value in self.evaluator.state.metrics.items()}
        _add_to_curve(self.path.parent / "curve.csv", row)


def _add_to_curve(path: Path, row: Mapping[str, Any]) -> None:
    """Add the row of an epoch, and a column for each value that none before had.

    Rows of this epoch and of later ones are dropped: their run was killed before it saved its state, and is repeated.
    """
    rows: list[Mapping[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    rows.append(row)
    columns = list(dict.fromkeys(name for each in rows for name in each))

    def write(partial: str) -> None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


class EarlyStop:
    """End the run when validation has not improved for ``patience`` epochs. Attach it after SaveBest and RunState.

    Args:
        best: knows the epoch of the best validation.
        patience: in epochs; None never stops.
    """

    def __init__(self, best: SaveBest, *, patience: int | None = None) -> None:
        self.best, self.patience = best, patience

    def attach(self, engine: Engine) -> None:
        """Look after every epoch, and at the start: a run that was stopped trains no more when it is started again."""
        engine.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.patience is None or engine.state.epoch == 0:
            return
        if engine.state.epoch - self.best.best_epoch >= self.patience:
            logger.info("stopped: no better validation for %d epochs", self.patience)
            engine.terminate()


class Progress:
    """A bar over all steps of the run with loss, validation metric and the time left.

    Args:
        evaluator: whose metric is shown once it has run.
        metric: its name.
    """

    def __init__(self, evaluator: Engine, *, metric: str) -> None:
        self.evaluator, self.metric = evaluator, metric
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Open the bar at the start (after RunState, to begin where the run goes on), close it at the end."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED | Events.TERMINATE, self.close)

    def open(self, engine: Engine) -> None:
        """Start at the step that the run starts from."""
        total = engine.state.max_epochs * engine.state.epoch_length
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="step", mininterval=1.0)

    def __call__(self, engine: Engine) -> None:
        shown = {"loss": f"{engine.state.output['loss']:.3f}"}
        if self.metric in self.evaluator.state.metrics:
            shown[self.metric] = f"{self.evaluator.state.metrics[self.metric]:.3f}"
        if skipped := engine.state.metrics.get("skipped"):
            shown["skipped"] = skipped
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def close(self, engine: Engine, error: BaseException | None = None) -> None:
        """Close the bar, if there is one yet; an exception goes on its way."""
        if self.bar is not None:
            self.bar.close()
        if error is not None:
            raise error
