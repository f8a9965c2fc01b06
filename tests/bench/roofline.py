"""The fastest matrix product seen on this machine while a bench ran: what its figures are a share of."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

SHAPES = ((1024, 1024, 1024), (512, 384, 1536), (512, 1536, 384), (256, 768, 3072))  # rows, inputs, outputs


class Peak:
    """Best GFLOP/s (of CPU time, one thread) over all samples, in fp32 and bf16."""

    def __init__(self) -> None:
        self.best = {torch.float32: 0.0, torch.bfloat16: 0.0}
        self.sample()
        self.sample()

    def sample(self) -> None:
        """Times each shape once; about 0.1 s."""
        for kind in self.best:
            for rows, inputs, outputs in SHAPES:
                x, w = torch.randn(rows, inputs, dtype=kind), torch.randn(outputs, inputs, dtype=kind)
                seconds = _seconds(lambda x=x, w=w: functional.linear(x, w))  # type: ignore[misc]
                self.best[kind] = max(self.best[kind], 2e-9 * rows * inputs * outputs / seconds)


def _seconds(product: Callable[[], torch.Tensor]) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        product()
        times.append(time.process_time() - began)
    return min(times)
