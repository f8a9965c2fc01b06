"""The processes that train together: each computes its share of every batch, all end with the same weights.

Rows of a batch are dealt by length, so that shares cost alike; the batch, its order and its loss do not depend on how
many share it. A process alone is a world of one, in which nothing is sent.
"""

from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tasks.data.batches import Rows

PATIENCE = timedelta(minutes=10)  # for the slowest of all; a dead process is noticed at once


class World:
    """Processes of one host, started by torchrun; without it, this one alone."""

    def __init__(self, device: str = "cpu", size: int = 1, rank: int = 0) -> None:
        self.device, self.size, self.rank = device, size, rank

    @classmethod
    def joined(cls, device: str) -> "World":
        """The world that torchrun started this process in."""
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
        if device == "cuda":
            torch.cuda.set_device(dist.get_rank())
        return cls(device, dist.get_world_size(), dist.get_rank())

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have made."""
        return self.rank == 0

    def share(self, rows: Rows, lengths: Rows) -> Rows:
        """This process's rows of a batch, in the batch's order."""
        if self.size == 1:
            return rows
        dealt = np.argsort(-lengths, kind="stable")[self.rank :: self.size]
        return rows[np.sort(dealt)]

    def distributed(self, model: nn.Module) -> nn.Module:
        """The model, whose gradients are averages over all processes."""
        return model if self.size == 1 else DistributedDataParallel(model, forward_sync_buffers=False)

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether some process raised it."""
        if self.size == 1:
            return list(flags)
        return [bool(each) for each in self.most(torch.tensor(flags, dtype=torch.uint8)).tolist()]

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def most(self, numbers: torch.Tensor) -> torch.Tensor:
        """The largest of all processes, number by number."""
        if self.size > 1:
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers

    def agree(self, step: int) -> None:
        """Waits for all, who must have come to the same step."""
        low, high = self.most(torch.tensor([-step, step])).tolist()
        if -low != high:
            raise RuntimeError(f"processes stand at different steps, from {-low} to {high}")

    def leave(self) -> None:
        """Ends the group."""
        if self.size > 1:
            dist.destroy_process_group()


ALONE = World()
