"""Where tensors live, and in which arithmetic they are computed."""

import ctypes
import os
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from infra.settings import repeatable_cublas, settings
from tasks.recipe import Train

SMALL = 5_000_000  # parameters
MMAP_THRESHOLD = -3  # as glibc's malloc.h numbers it

_ALL_THREADS = torch.get_num_threads()


def share_cores(parameters: int) -> None:
    """One thread for a small model, all for others.

    Threads wait for each other after every operation. The quickstart's model (0.8 M parameters) trains in 30 s on two
    idle cores with two threads; beside one busy neighbour it took 560 s with two threads and 46 s with one.
    """
    torch.set_num_threads(1 if parameters < SMALL else _ALL_THREADS)


def chosen() -> str:
    """cpu or cuda: what the settings say, or the GPU if there is one."""
    if settings().device != "auto":
        return settings().device
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(how: Train, device: str) -> str:
    """fp32 or bf16: what the recipe says, or bf16 where the hardware is faster in it."""
    if how.precision != "auto":
        return how.precision
    return "bf16" if (torch.cuda.is_bf16_supported() if device == "cuda" else bf16_pays()) else "fp32"


@cache
def bf16_pays() -> bool:
    """Whether this CPU multiplies matrices faster in bf16 than in fp32, by the best of five of each in turns.

    The flag of the instruction does not tell: with AVX512-BF16 a core of an AMD Zen 4 gets 200 GFLOP/s against 84, one
    of an Intel Xeon without AMX 80 against 150.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    sides = [torch.ones(512, 512, dtype=kind) for kind in (torch.float32, torch.bfloat16)]
    seconds = np.array([[_seconds(side) for side in sides] for _ in range(6)])
    plain, half = seconds[1:].min(0)
    return bool(half < plain)


def _seconds(side: torch.Tensor) -> float:
    began = time.perf_counter()
    for _ in range(4):
        side @ side
    return time.perf_counter() - began


def memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def room(device: str) -> int:
    """Bytes of memory that the device has."""
    return memory() if device == "cpu" else torch.cuda.get_device_properties(0).total_memory


def give_back_large() -> None:
    """Lets freed memory of a mebibyte and more go back to the system at once, where the C library is glibc.

    Left alone it keeps blocks of up to 32 MiB for later, and weights that come together a layer at a time leave too
    many of them. BERT base in two processes that share it out: 1,340 MB at most in each instead of 2,650 (1,940 where
    each has all of it), 395 of them Python's; a step takes half as much processor time again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 2**20)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; a CPU's allocator has no class of error for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def seed(number: int, device: str) -> None:
    """Seeds what is drawn on the device; `torch.manual_seed` asks every kind of device there is, 0.6 ms a step."""
    torch.default_generator.manual_seed(number)
    if device == "cuda":
        torch.cuda.manual_seed(number)


def repeatable(device: str) -> None:
    """Lets a GPU sum in the same order every time, as a CPU does: a resumed run ends with the same bytes.

    PyTorch warns where it has no such kernel.
    """
    if device == "cuda":
        repeatable_cublas()
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nobody reads it


def sent(numbers: npt.NDArray[Any], device: str) -> torch.Tensor:
    """The numbers on the device; nobody waits until they are there."""
    found = torch.from_numpy(numbers)
    return found.pin_memory().to(device, non_blocking=True) if device == "cuda" else found


def arithmetic(precision: str, device: str) -> AbstractContextManager[object]:
    """The context in which a forward pass computes in `precision`; weights and sums stay fp32."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
