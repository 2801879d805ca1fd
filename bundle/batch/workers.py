"""Which GPU a worker takes, as the program that started it says in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from bundle.claims import number_in


def own_device(environment: Mapping[str, str] | None = None) -> torch.device:
    """The GPU of this worker, the first one of a process that is alone, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    environment = os.environ if environment is None else environment
    local = number_in(environment, "LOCAL_RANK") or number_in(environment, "SLURM_LOCALID") or 0
    return torch.device("cuda", local % torch.cuda.device_count())
