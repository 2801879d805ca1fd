"""The options of a training that a request may set: an allow-list with types and ranges.

A value is read here into a number, a word of a list or a switch; nothing else of a request reaches a training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monailabel_app.errors import RequestError

TRAINER = "finetune"
"""Name of the trainer in ``/info/`` and in ``POST /train/finetune``."""

Value = str | float | int | bool


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: in a request.
        default: if a request says nothing; its type is that of the option.
        about: what it is, for people.
        choices: of a word, the default first: Slicer shows a list whose first entry is chosen.
        low, high: of a number, both included.
    """

    name: str
    default: Value
    about: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def read(self, value: Any) -> Value:
        """A value of a request, which may be the text that Slicer's option table makes of it.

        Raises:
            RequestError: it is of another kind, or outside of its range.
        """
        if isinstance(self.default, bool):
            read = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
            if read is None:
                raise RequestError(f"{self.name} must be true or false, got {value!r:.80}")
            return read
        if self.choices:
            if value not in self.choices:
                raise RequestError(f"{self.name} must be one of {', '.join(self.choices)}, got {value!r:.80}")
            return value
        return self._number(value)

    def _number(self, value: Any) -> float | int:
        whole = isinstance(self.default, int)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            raise RequestError(f"{self.name} must be {kind} from {self.low:g} to {self.high:g}, got {value!r:.80}")
        return int(number) if whole else number

    def told(self) -> dict[str, Any]:
        """As ``/info/`` has it for clients that check what is typed."""
        kind = "choice" if self.choices else {bool: "switch", int: "integer", float: "number"}[type(self.default)]
        found: dict[str, Any] = {"type": kind, "default": self.default, "about": self.about}
        if self.choices:
            found["choices"] = list(self.choices)
        if kind in ("integer", "number"):
            found |= {"low": self.low, "high": self.high}
        return found


TUNINGS = ("lora_only", "lora", "norms", "decoder", "full")
OPTIONS = {
    option.name: option
    for option in (
        Option("tuning", TUNINGS[0], "what trains: a layer of configs/tuning", choices=TUNINGS),
        Option("minutes", 10.0, "of two cores, reading and judging included", low=0.1, high=1440.0),
        Option("steps", 2000, "at most, whatever time is left", low=1, high=100_000),
        Option("learning_rate", 0.0, "0 takes that of the tuning", low=0.0, high=0.1),
        Option("replay_share", 0.5, "of the samples that are to be answered as before", low=0.1, high=0.9),
        Option("seed", 0, "of the samples and prompts that are drawn", low=0, high=2**31 - 1),
        Option("resume", False, "go on with the training that was stopped last, with the options that it had"),
    )
}
BACKGROUND = {"minutes": 2.0}
"""What a training beside annotation has instead: 2 minutes of 2 cores (CLoPA's one short episode, arXiv 2603.06426)."""
_OF_CLIENTS = ("model", "client_id")  # MONAI Label's clients send them along


def read_options(request: Mapping[str, Any]) -> dict[str, Value]:
    """Every option, with the values that a request gives; an empty text of a form is no value.

    Raises:
        RequestError: an option that does not exist, or a value that cannot be used.
    """
    given = {name: value for name, value in request.items() if name not in _OF_CLIENTS}
    if unknown := sorted(set(given) - set(OPTIONS)):
        raise RequestError(f"there is no option {unknown[0]!r:.80} of a training; there are {', '.join(OPTIONS)}")
    return {
        name: option.default if given.get(name) in (None, "") else option.read(given[name])
        for name, option in OPTIONS.items()
    }


def option_table() -> dict[str, Any]:
    """The options as Slicer and OHIF show them: a list is a choice, a bool a box to tick, the rest is text."""
    return {name: list(option.choices) or option.default for name, option in OPTIONS.items()}
