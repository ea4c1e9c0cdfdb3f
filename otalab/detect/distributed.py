"""Training in one process or many: `torchrun` starts them, and these functions exchange what they must agree on.

torch.distributed and DistributedDataParallel are used as they are. The training loop reads as that of one process, with
a few calls of these functions in it. In a run of a single process, none of them changes anything.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, for the duration of a run; yields the device of this process.

    GPUs communicate by NCCL, and each process of a machine has a GPU of its own. CPUs communicate by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or in_group():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def in_group() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if in_group() else 0


def num_processes() -> int:
    """How many processes take part in the run."""
    return dist.get_world_size() if in_group() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes of a run; in a single process, the tensor itself."""
    if in_group():
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def gathered(rows: list) -> list:
    """The rows of all processes, in order of rank."""
    if not in_group():
        return rows
    parts: list[list] = [[] for _ in range(num_processes())]
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def from_first(value: object) -> object:
    """The value that the first process passes, returned in every process."""
    box = [value]
    if in_group():
        dist.broadcast_object_list(box)
    return box[0]


def parallel(model: nn.Module, every_weight: bool) -> nn.Module:
    """Wrap a model so that its gradients are averaged over processes; in a single process, return the model itself.

    every_weight: whether each step uses every trainable weight; if False, each step searches for unused weights
    """
    return DistributedDataParallel(model, find_unused_parameters=not every_weight) if in_group() else model


def without_averaging(model: nn.Module) -> AbstractContextManager:
    """A context in which gradients stay in their process; the next backward pass outside averages their sum."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
