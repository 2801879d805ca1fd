"""What a request wants of its answer beside the prompts, and what a reply says of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.interactive.answer_options import LENGTHS, AnswerOptions
from bundle.interactive.session import InteractiveSession
from monailabel_app.errors import RequestError
from monailabel_app.wire import fields as wire
from monailabel_app.wire.numbers import read_array, short

NO_LENGTHS = dict.fromkeys(LENGTHS, 0.0)
"""What a client that shows options offers: nothing is cleaned."""


def read_options(params: Mapping[str, Any], shape: Sequence[int], *, axis: int) -> AnswerOptions:
    """How the answers of a request are bounded and cleaned; what it leaves out is not.

    Args:
        params: the request's JSON.
        shape: (I, J, K) of the image.
        axis: stored axis of the slices.

    Raises:
        RequestError: no numbers, or not as many as there should be.
        PromptError: numbers that do not fit the image.
    """
    limits = read_array(params, wire.SLICE_LIMITS)
    if limits is not None and limits.shape != (2,):
        raise RequestError(
            f"{wire.SLICE_LIMITS} must be the first and the last slice, got {short(params[wire.SLICE_LIMITS])}"
        )
    lengths = {name: _length(params, name) for name in LENGTHS}
    ends = None if limits is None else tuple(limits.tolist())
    return AnswerOptions(ends, axis, **lengths).validated(shape)


def _length(params: Mapping[str, Any], name: str) -> float:
    value = read_array(params, name)
    if value is not None and value.size != 1:
        raise RequestError(f"{name} must be one number of millimetres, got {short(params[name])}")
    return 0.0 if value is None else float(value.item())


def statistics(session: InteractiveSession, names: Sequence[str], *, axis: int) -> dict[str, dict[str, Any]]:
    """What would be measured of some objects, see ``InteractiveSession.statistics``."""
    return {name: session.statistics(name, axis=axis) for name in names}
