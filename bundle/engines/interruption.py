"""Leaving an encoder in the middle: what nobody waits for gives the device up within a block, not within an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

from bundle.networks.interface import PromptableNetwork

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("monai_sam_interrupt", default=None)


class Interrupted(Exception):
    """An encoder was left before its end, because something else wants the device."""


@contextmanager
def interruptible(network: Any, asked: Callable[[], bool]) -> Iterator[None]:
    """Let ``prepare`` of a network end with ``Interrupted`` as soon as someone asks for it, in this thread only.

    On PyTorch each transformer block asks before it begins; an engine with ``polls`` asks by itself.

    Args:
        network: what ``on_engine`` gave.
        asked: whether to end.
    """
    is_ours = isinstance(network, PromptableNetwork) and not getattr(network, "polls", False)
    blocks = [block for group in network.tunable("encoder") for block in group] if is_ours else []
    hooks = [block.register_forward_pre_hook(_before) for block in blocks]
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)
        for hook in hooks:
            hook.remove()


def is_interruptible() -> bool:
    """Whether this thread may be interrupted."""
    return _asked.get() is not None


def is_interrupted() -> bool:
    """Whether someone asks this thread to end."""
    asked = _asked.get()
    return asked is not None and asked()


def _before(module: nn.Module, inputs: tuple) -> None:
    if is_interrupted():
        raise Interrupted
