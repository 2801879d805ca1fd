"""Which of several workers this process is, as the program that started it says in the environment.

`torchrun`, a SLURM array or job step, and a Kubernetes indexed job each number their processes. The number decides only
where in the list of cases a worker begins and which GPU it takes: who does a case is decided by `bundle.batch.claims`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

_GOLDEN = (5**0.5 - 1) / 2


def worker_number(environment: Mapping[str, str] | None = None) -> int | None:
    """This worker's number from 0; None where it was not started as one of several.

    Args:
        environment: by default that of this process.
    """
    environment = os.environ if environment is None else environment
    steps = _number(environment, "SLURM_PROCID") or 0
    if (array := _number(environment, "SLURM_ARRAY_TASK_ID")) is not None:
        return array * max(1, _number(environment, "SLURM_NTASKS") or 1) + steps
    for name in ("RANK", "JOB_COMPLETION_INDEX", "SLURM_PROCID"):
        if (number := _number(environment, name)) is not None:
            return number
    return None


def own_device(environment: Mapping[str, str] | None = None) -> torch.device:
    """The GPU of this worker, the first one of a process that is alone, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    environment = os.environ if environment is None else environment
    local = _number(environment, "LOCAL_RANK") or _number(environment, "SLURM_LOCALID") or 0
    return torch.device("cuda", local % torch.cuda.device_count())


def first_of(count: int, worker: int | None) -> int:
    """Where in a list a worker begins, so that any number of workers begin far from each other.

    Multiples of the golden ratio spread evenly however many there are (Knuth, TAOCP 3, section 6.4).

    Args:
        count: length of the list.
        worker: its number, None for 0.
    """
    return int(count * ((worker or 0) * _GOLDEN % 1.0))


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
