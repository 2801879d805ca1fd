"""Ending an answer in the middle of a forward pass: a ViT takes seconds, and who has left does not wait for them.

What waits for something that others do, as a lock that another thread or process holds, can be ended as well, and the
device is free meanwhile.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from torch import nn

Idle = Callable[[float], object]
"""Waits some seconds for others, as ``time.sleep``; a server's gives them the device meanwhile, and may raise."""

_STEP = 0.01  # seconds between two looks at what is waited for
_check: ContextVar[Callable[[], object] | None] = ContextVar("monai_sam_check", default=None)


class Interrupted(Exception):
    """What nobody waits for was left before its end, because something else wants the device."""


@contextmanager
def interruptible(check: Callable[[], object]) -> Iterator[None]:
    """Call ``check`` before each layer of every network that this thread asks while the block runs.

    What it raises ends the answer: a session stays as it was before the step, and nothing half prepared is kept. It
    is called some hundred times in a pass, so it should be quick.
    """
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def is_interruptible() -> bool:
    """Whether somebody may end what this thread computes."""
    return _check.get() is not None


def check_interruption() -> None:
    """Raise what the check of this thread raises; an engine that runs no layers of PyTorch calls it by itself."""
    check = _check.get()
    if check is not None:
        check()


def wait_until(ready: Callable[[], bool], *, idle: Idle = time.sleep, seconds: float = math.inf) -> bool:
    """Wait until something that others do is ready.

    Args:
        ready: whether it is, without waiting.
        idle: waits between two looks; what it raises ends the waiting, and so does what ``interruptible`` calls.
        seconds: to wait at most.

    Returns:
        Whether it is ready; False where the time is over.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() >= deadline:
            return False
        check_interruption()
        idle(_STEP)
    return True


@contextmanager
def holding(lock: threading.Lock | threading.RLock, *, idle: Idle = time.sleep) -> Iterator[None]:
    """Hold a lock of this process's threads while the block runs; ``idle`` waits for it, see ``wait_until``."""
    wait_until(partial(lock.acquire, blocking=False), idle=idle)
    try:
        yield
    finally:
        lock.release()


def watch(network: Any) -> None:
    """Let ``interruptible`` reach into a network; one that is no PyTorch module is interrupted between passes alone."""
    if not isinstance(network, nn.Module):
        return
    for layer in network.modules():
        has_weights = next(layer.parameters(recurse=False), None) is not None
        if has_weights and _before_layer not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_before_layer)


def _before_layer(layer: nn.Module, arguments: Any) -> None:
    check_interruption()
