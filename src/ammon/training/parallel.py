"""Parallel: one training in several processes that `torchrun` starts. Each takes its rows of every batch; gradients are averaged.

The batch is drawn alike in every process, so training does not depend on how many there are beyond rounding.
"""

import atexit
import os
from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def processes() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1), or what torchrun says. A group begun here ends with the process."""
    if not distributed.is_initialized():
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return 0, 1
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        # a second group would find the addresses of the first in torchrun's store, and could wait for them for ever
        atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size()


def shared(model: nn.Module, world: int) -> nn.Module:
    """The model as each of `world` processes calls it."""
    if world == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def mean_over(values: Mapping[str, float], world: int) -> dict[str, float]:
    """Each value averaged over the processes."""
    if world == 1 or not values:
        return dict(values)
    sums = torch.tensor(list(values.values()), dtype=torch.float64, device=_device())
    distributed.all_reduce(sums)
    return dict(zip(values, (sums / world).tolist(), strict=True))


def any_of(flag: bool, world: int) -> bool:
    """Whether it is so in any process."""
    if world == 1:
        return flag
    said = torch.tensor([float(flag)], device=_device())
    distributed.all_reduce(said, distributed.ReduceOp.MAX)
    return bool(said)


def gathered(tensors: Mapping[str, Tensor], world: int) -> dict[str, Tensor]:
    """The rows [batch, ...] of all processes, in their order."""
    if world == 1:
        return dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        parts = [torch.empty_like(tensor) for _ in range(world)]
        distributed.all_gather(parts, tensor.contiguous())
        found[name] = torch.cat(parts)
    return found


def rows_of(rows: Tensor, rank: int, world: int) -> Tensor:
    """The rows of a batch that are this process's, as many in each."""
    if len(rows) % world:
        raise ValueError(f"train: a batch of {len(rows)} rows does not divide among {world} processes; choose a multiple of {world}.")
    share = len(rows) // world
    return rows[rank * share : (rank + 1) * share]


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
