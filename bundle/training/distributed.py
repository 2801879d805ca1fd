"""Training in several processes: who we are, and what the processes share.

An objective calls ``encode`` and ``decode``, not ``forward``, and may step the optimiser several times per batch, so
torch's DistributedDataParallel does not see its gradients; they are averaged here, after the backward pass. In a single
process every function does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import Tensor, nn

from bundle.errors import ProcessesError


def share_of_batch(batch_size: int, world_size: int) -> int:
    """How many samples of a batch each process takes.

    Raises:
        ProcessesError: if the processes would not have equally many: the run would not be the one that was asked for.
    """
    if batch_size % world_size:
        possible = [str(n) for n in range(1, batch_size + 1) if batch_size % n == 0]
        raise ProcessesError(
            f"a batch of {batch_size} cannot be shared out to {world_size} processes; start {' or '.join(possible)}, "
            f"or take a --batch_size that {world_size} divides"
        )
    return batch_size // world_size


def join_processes(device: torch.device) -> None:
    """Meet the other processes that ``torchrun`` started: over NCCL on GPUs, over gloo on CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_processes() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process writes the files."""
    return not _several() or dist.get_rank() == 0


def gather(rows: list[Any]) -> list[Any]:
    """The rows of all processes, in the order of their ranks."""
    if not _several():
        return rows
    parts: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def average_numbers(numbers: list[float], device: torch.device) -> list[float]:
    """The mean of each number over all processes."""
    if not _several():
        return numbers
    values = torch.tensor(numbers, dtype=torch.float64, device=device)
    _average([values])
    return values.tolist()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; a process without one counts as zero.

    Processes may use different parts of the network in one step. A parameter that no process used keeps no gradient, so
    that the optimiser leaves it alone.
    """
    if not _several():
        return
    parameters = [p for p in parameters if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int, device=parameters[0].device)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    chosen = [p for p, flag in zip(parameters, used.tolist(), strict=True) if flag]
    for parameter in chosen:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    _average([p.grad for p in chosen])


class KeepAlike:
    """Ignite handler: start all processes from the weights of the first one, and average batch statistics each epoch.

    Attach it before validation.

    Args:
        network: that is trained.
        average: its moving average.
    """

    def __init__(self, network: nn.Module, average: nn.Module) -> None:
        self.network, self.average = network, average

    def attach(self, engine: Engine) -> None:
        """Act at the start and after each epoch."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.average_buffers)

    def start(self, engine: Engine) -> None:
        """Send the state of the first process to the others."""
        if _several():
            for module in (self.network, self.average):
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, 0)

    def average_buffers(self, engine: Engine) -> None:
        """Average running means and variances."""
        if _several():
            for module in (self.network, self.average):
                _average([buffer for buffer in module.buffers() if buffer.is_floating_point()])


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def _average(tensors: list[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
