"""How idle threads wait: asleep, not spinning, so that the machine can be shared.

PyTorch's threads meet at the end of every parallel loop. While they wait for the last one, OpenMP lets them spin: on a
machine whose cores are also asked for by others, the ones that spin keep the core that the last one needs
(scripts/benchmark_waiting.py measures it). The runtime reads this once, when PyTorch loads it: `import bundle` must
come before `import torch`, or the variables stand in the environment of the process that is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

# GNU's runtime, in PyTorch's wheels for Linux, knows the first; Intel's and LLVM's (macOS, conda) spin 200 ms unless
# the second says otherwise.
PASSIVE: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


_too_late = False  # whether PyTorch's threads had chosen how to wait before we could


def wait_passively() -> None:
    """Choose passive waiting for this process and those that it starts; what the user has set stays."""
    global _too_late
    _too_late = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)


def waits_actively() -> bool:
    """Whether threads spin in this process although others want its cores: the load is above their number."""
    cores = os.cpu_count() or 1
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > cores
    return _too_late and busy and cores > 1 and os.environ.get("OMP_NUM_THREADS") != "1"
