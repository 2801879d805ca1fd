"""A training that ends when its time is spent: the rate falls with what is spent, and the last weights are kept."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bundle.families.checkpoints import save_checkpoint
from bundle.files import write_text
from bundle.training.distributed import is_main
from bundle.training.handlers import SaveBest


class BudgetedCosine(LambdaLR):
    """Half a cosine after a warm-up, over the steps or the computing time of a run, whichever is spent first.

    Computing time is what all threads of this process have used of a processor, so that a run that is stopped for
    somebody else's work, or shares its cores, still gets all of it; what a run used before it was interrupted counts,
    to the last state that it saved.

    Args:
        optimizer: whose rates are set.
        warmup: steps until the full rate.
        total: steps.
        seconds: of computing; infinite if nothing is said.
        floor: share of the rate at the end.
    """

    def __init__(
        self, optimizer: Optimizer, *, warmup: int = 0, total: int, seconds: float = math.inf, floor: float = 0.0
    ) -> None:
        self.warmup, self.total, self.seconds, self.floor = warmup, total, seconds, floor
        self.used, self._since = 0.0, time.process_time()
        super().__init__(optimizer, self._factor)

    @property
    def spent(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        return min(1.0, max(self.last_epoch / max(1, self.total), self.used / self.seconds))

    def step(self, epoch: int | None = None) -> None:
        """Count the time since the last step, and set the rates."""
        now = time.process_time()
        self.used, self._since = self.used + now - self._since, now
        super().step(epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a run that was interrupted; the budget is this run's."""
        budget = self.warmup, self.total, self.seconds, self.floor
        super().load_state_dict(state_dict)
        self.warmup, self.total, self.seconds, self.floor = budget
        self._since = time.process_time()

    def _factor(self, number: int) -> float:
        if number < self.warmup:
            return (number + 1) / self.warmup
        first = self.warmup / max(1, self.total)
        share = min(1.0, max(0.0, (self.spent - first) / max(1e-9, 1 - first)))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))


class StopWhenSpent:
    """End the run when its budget is spent, after the epoch in which that happens.

    Args:
        lr_scheduler: counts.
    """

    def __init__(self, lr_scheduler: BudgetedCosine) -> None:
        self.lr_scheduler = lr_scheduler

    def attach(self, engine: Engine) -> None:
        """Look after every epoch, and at the start: a run that had ended trains no more when it is started again."""
        engine.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.lr_scheduler.spent >= 1:
            engine.terminate()


class SaveLast(SaveBest):
    """Keep the weights after the last step instead of the best of a validation: whoever trains judges them elsewhere.

    Arguments are those of ``SaveBest``; the evaluator is not asked.
    """

    def attach(self, engine: Engine) -> None:
        """Act at the end."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if is_main():
            notes = {**self.metadata, "epoch": engine.state.epoch, "steps": engine.state.iteration}
            save_checkpoint(self.network, self.path, metadata=notes)


class ReportProgress:
    """Write how far a run is into a file, for another process to read: at most once in ``every`` seconds.

    The file holds ``{"step", "steps", "share", "loss"}``; ``share`` is that of the budget, 0 to 1, and ``steps`` None
    where the time ends the run.

    Args:
        path: of the file; it is replaced, so that a reader never sees half of it.
        lr_scheduler: knows the budget.
        every: seconds.
    """

    def __init__(self, path: str | Path, lr_scheduler: BudgetedCosine, *, every: float = 1.0) -> None:
        self.path, self.lr_scheduler, self.every = Path(path), lr_scheduler, every
        self._written = -math.inf

    def attach(self, engine: Engine) -> None:
        """Write after steps, and at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def __call__(self, engine: Engine) -> None:
        if time.monotonic() - self._written >= self.every:
            self.write(engine)

    def write(self, engine: Engine) -> None:
        """Write it now."""
        self._written = time.monotonic()
        timed = math.isfinite(self.lr_scheduler.seconds)
        loss = (engine.state.output or {}).get("loss")
        found = {
            "step": engine.state.iteration,
            "steps": None if timed else self.lr_scheduler.total,
            "share": round(self.lr_scheduler.spent, 3),
            "loss": None if loss is None or not math.isfinite(loss) else round(loss, 4),
        }
        write_text(self.path, json.dumps(found), mode=0o600)
