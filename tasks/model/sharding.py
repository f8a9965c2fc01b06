"""A model of which each process of a world keeps a share: of every weight, of its gradient and of its moments.

For models that do not fit into one device (FSDP2, Zhao et al. 2023): the weights of a layer come together when it is
computed, and go apart behind it; its gradients are summed as soon as they are there, each share where it is kept.
Outside of a step a sharded tensor looks whole (a DTensor); checkpoints gather it, so they know no world. BERT base
takes 1,062 MB of weights and moments, 531 in each of two processes; a step of MiniLM's body takes 1.8 times the
processor time, and half as much again on a CPU, where freed memory is given back at once.
Embeddings of tokens that do not learn are still in every process, and so is the whole model, in the memory of the host,
until it is shared out.

A process that is short of memory amid a step leaves the others waiting for its share. So all agree to go on before
each exchange, in a byte that travels between processors and does not wait for the device: 3 % of a step.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from tasks.model import hardware
from tasks.model.world import World


def share_out(model: PreTrainedModel, world: World) -> None:
    """Lets each process keep its share of every layer, and of what is outside of layers, on its device.

    Raises:
        ValueError: a weight cannot be cut; what layers have in common is found at the first pass only.
    """
    # no stock model changes what a layer returned, and the warning would come with every layer
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    if world.device == "cpu":
        hardware.give_back_large()
    mesh = init_device_mesh(world.device, (world.size,))
    for part in (*_layers(model), model):
        unit = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        unit.set_gradient_divide_factor(1.0)  # a sum, for the loss is a share of the mean already
        unit.set_force_sum_reduction_for_comms(True)
        unit.set_custom_all_gather(_Gather(world))  # type: ignore[arg-type]
        unit.set_custom_reduce_scatter(_Scatter(world))  # type: ignore[arg-type]


def sharded(model: nn.Module) -> bool:
    """Whether this process keeps no more than a share of the model."""
    return isinstance(model, FSDPModule)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with the shares of all processes, who must ask for it together; one that is whole already is itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(found: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's share of a whole tensor, if `like` is one; what has no dimension is shared with all."""
    if not isinstance(like, DTensor) or not found.dim():
        return found
    found = found.to(like.device_mesh.device_type)
    return distribute_tensor(found, like.device_mesh, like.placements, src_data_rank=None)


def abandon(model: nn.Module) -> None:
    """Forgets a pass that ended amid the layers: weights go apart, and their gradients are dropped."""
    if isinstance(model, FSDPModule):
        model.zero_grad()  # while those weights that are together still are
        model.reset_iter_state()


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        if isinstance(part, nn.ModuleList):
            yield from part
        else:
            yield from _layers(part)


class _Agreed:
    """An exchange that begins when all processes have come to it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class _Gather(_Agreed):
    def __call__(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, group: Any, async_op: bool = False
    ) -> Any:
        self.world.proceed()
        return dist.all_gather_single(output_tensor, input_tensor, group, async_op)


class _Scatter(_Agreed):
    def __call__(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, group: Any, op: Any, async_op: bool = False
    ) -> Any:
        self.world.proceed()
        return dist.reduce_scatter_single(output_tensor, input_tensor, op, group, async_op)
