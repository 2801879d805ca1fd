"""Errors for people who run a config: one sentence instead of the parser's traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType


def explain_errors() -> None:
    """Let an uncaught error of ours end the program with its sentence alone.

    MONAI's parser wraps what a component raises in a RuntimeError about its keywords, so that the sentence that says
    what to change would stand in the middle of two tracebacks. Other errors are shown as ever.
    """
    sys.excepthook = _explain


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    ours = [link for link in _chain(error) if isinstance(link, ValueError) and _is_ours(type(link))]
    if ours:
        print(f"error: {ours[0]}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] == __name__.split(".")[0]
