"""Learning rates over the steps of a run, each with a linear warm-up. torch's ReduceLROnPlateau serves for plateaus."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, *, warmup: int = 0) -> LambdaLR:
    """The full rate after the warm-up."""
    return _scheduled(optimizer, warmup, lambda step: 1.0)


def cosine(optimizer: Optimizer, *, warmup: int = 0, total: int, floor: float = 0.01, flat: float = 0.0) -> LambdaLR:
    """Half a cosine down to ``floor`` of the rate at step ``total``.

    It begins at the end of the warm-up, or later: the rate stays for the share ``flat`` of the steps between.
    """

    def factor(step: int) -> float:
        share = min(1.0, step / max(1, total - warmup))
        share = share if not flat else max(0.0, share - flat) / (1 - flat)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))

    return _scheduled(optimizer, warmup, factor)


def poly(optimizer: Optimizer, *, warmup: int = 0, total: int, power: float = 0.9) -> LambdaLR:
    """``(1 - t)**power``, where t goes from 0 at the end of the warm-up to 1 at step ``total`` (finetune-SAM)."""
    return _scheduled(optimizer, warmup, lambda step: (1 - min(1.0, step / max(1, total - warmup))) ** power)


def step(optimizer: Optimizer, *, warmup: int = 0, every: int, gamma: float) -> LambdaLR:
    """The rate times ``gamma`` after each ``every`` steps."""
    return _scheduled(optimizer, warmup, lambda step: gamma ** (step // every))


def _scheduled(optimizer: Optimizer, warmup: int, factor: Callable[[int], float]) -> LambdaLR:
    """``factor`` takes the number of steps since the end of the warm-up."""

    def of_step(number: int) -> float:
        return (number + 1) / warmup if number < warmup else factor(number - warmup)

    return LambdaLR(optimizer, of_step)
