"""Where tensors live, and in which arithmetic they are computed."""

from contextlib import AbstractContextManager, nullcontext

import torch

from infra.settings import settings
from tasks.recipe import Train

SMALL = 5_000_000  # parameters

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
    """fp32 or bf16: what the recipe says, or bf16 where the hardware computes in it."""
    if how.precision != "auto":
        return how.precision
    able = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if able else "fp32"


def arithmetic(precision: str, device: str) -> AbstractContextManager[object]:
    """The context in which a forward pass computes in `precision`; weights and sums stay fp32."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
