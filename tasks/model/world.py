"""The processes that train together: each computes its share of every batch, all end with the same weights.

Rows of a batch are dealt by length, so that shares cost alike; the batch, its order and its loss do not depend on how
many share it. A process alone is a world of one, in which nothing is sent.

Gradients are summed once a step, when all processes have said that memory sufficed for their shares: one that is short
of it would leave the others waiting in an exchange that it never comes to. Two processes on two cores, with the body of
MiniLM and 8 rows of 16 tokens each, take 131 ms of processor time for a gradient that way, and 141 with
DistributedDataParallel, which sends while it computes, and copies all it sends; 171 and 196 with the whole vocabulary,
333 and 344 with rows of 64 tokens. What sending at the end costs GPUs has not been measured.
"""

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from infra.settings import torchrun_attempt
from tasks.data.batches import Rows

PATIENCE = timedelta(minutes=10)  # for the slowest of all; a dead process is noticed at once
LARGE = 2**18  # numbers of a tensor that travels by itself, without a copy


class Short(RuntimeError):
    """Memory of some process did not suffice; all have learned of it."""


class World:
    """Processes of one host, started by torchrun; without it, this one alone."""

    def __init__(self, device: str = "cpu", size: int = 1, rank: int = 0) -> None:
        self.device, self.size, self.rank = device, size, rank

    @classmethod
    def joined(cls, device: str) -> "World":
        """The world that torchrun started this process in.

        torchrun (2.13) keeps its store when it starts a group again, and in it the addresses of the dead, to which the
        new ones would connect: 9 of 16 restarts failed or hung. So every attempt has keys of its own.
        """
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        fresh = dist.PrefixStore(f"attempt-{torchrun_attempt()}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=PATIENCE)
        if device == "cuda":
            torch.cuda.set_device(rank)
        return cls(device, size, rank)

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have made."""
        return self.rank == 0

    def shares(self, rows: Rows, lengths: Rows) -> list[Rows]:
        """The rows of a batch that each process computes, in the batch's order."""
        if self.size == 1:
            return [rows]
        dealt = np.argsort(-lengths, kind="stable")
        return [rows[np.sort(dealt[rank :: self.size])] for rank in range(self.size)]

    def proceed(self) -> None:
        """Waits for all.

        Raises:
            Short: one of them fell short of memory.
        """
        if self.any(False)[0]:
            raise Short("another process has too little memory")

    def fall_short(self) -> None:
        """Tells those who wait for all that they need not."""
        self.any(True)

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

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Makes each tensor the sum over all processes; small ones travel together."""
        if self.size == 1:
            return
        alone: list[torch.Tensor] = []
        small: list[torch.Tensor] = []
        for each in tensors:
            (alone if each.numel() >= LARGE and each.is_contiguous() else small).append(each)
        together = torch.cat([each.flatten() for each in small])
        sent = [dist.all_reduce(each, async_op=True) for each in (*alone, together)]
        for each in sent:
            each.wait()
        found = torch.split(together, [each.numel() for each in small])
        for each, total in zip(small, found, strict=True):
            each.copy_(total.view_as(each))

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
