"""PyTorch's own files of weights, turned into safetensors without running what is in them.

Such a file is a pickle. `weights_only` reads tensors, numbers, texts and containers and refuses everything else; what
it refuses is not read in any other way. Mapped from the file where its layout allows: what is read is what is copied.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tasks.errors import BadInput, listed
from tasks.model.bases import TORCH

NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep it, beside their optimizer
WRAPPED = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
SPREAD = 4  # bytes of tensors for each of the file: tied weights lie in it once
REFUSED = re.compile(r"GLOBAL [\w.]+|Unsupported operand \d+|TorchScript archive")  # what torch's long answers say

Tensors = dict[str, torch.Tensor]


def convert(folder: Path, name: str) -> None:
    """`model.safetensors` instead of the state dicts `*.bin` in `folder`, which came from the base `name`.

    Raises:
        BadInput: E-MODEL-PICKLE, a file holds more than weights; E-MODEL-FORMAT, it holds no state dict, or is damaged.
    """
    paths = sorted(folder.glob("*.bin"))
    tensors: Tensors = {}
    for path in paths:
        tensors |= read(path, name if Path(name).suffix in TORCH else path.name)
    if paths:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for path in paths:
        path.unlink()


def read(path: Path, name: str) -> Tensors:
    """The tensors of a state dict by name, each with bytes of its own; `name` is what errors call the file."""
    found = _unwrapped(_loaded(path, name))
    if not (isinstance(found, Mapping) and found and all(isinstance(each, str) for each in found)):
        raise BadInput("E-MODEL-FORMAT", f"{name}: found {_told(found)}, wanted a state dict; {_how(name)}")
    if strange := [key for key, each in found.items() if not _is_plain(each)]:
        message = f"{name}: {listed(strange)}: no plain tensor, wanted a state dict of such; {_how(name)}"
        raise BadInput("E-MODEL-FORMAT", message)
    if sum(each.nbytes for each in found.values()) > SPREAD * path.stat().st_size:
        message = f"{name}: its tensors are more than {SPREAD} times as large as the file; save them without sharing"
        raise BadInput("E-MODEL-FORMAT", message)
    return {_bare(key): each.detach().clone(memory_format=torch.contiguous_format) for key, each in found.items()}


def _loaded(path: Path, name: str) -> Any:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        _look_at_archive(path, name)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles newer than PyTorch's
            return torch.load(path, weights_only=True, map_location="cpu", mmap=zipped)
    except Exception as error:  # torch raises whatever damaged bytes lead to
        refused = REFUSED.search(str(error))
        told = refused[0] if refused else f"{type(error).__name__}: {error!s:.80}".partition("\n")[0]
        message = f"{name}: no state dict but a pickle of something else ({told}), which runs code when it is read, "
        raise BadInput("E-MODEL-PICKLE", f"{message}so it was not; {_how(name)}") from error


def _look_at_archive(path: Path, name: str) -> None:
    try:
        packed = any(each.compress_type for each in zipfile.ZipFile(path).infolist())
    except zipfile.BadZipFile as error:
        raise BadInput("E-MODEL-FORMAT", f"{name}: cut off or damaged ({error}); fetch the file again") from error
    if packed:
        raise BadInput("E-MODEL-FORMAT", f"{name}: a compressed archive, which PyTorch never writes; {_how(name)}")


def _how(name: str) -> str:
    file = Path(name).name
    return (
        f'in the environment that made it: model = torch.load("{file}", weights_only=False); '
        f'torch.save(model.state_dict(), "{file}")'
    )


def _unwrapped(found: Any) -> Any:
    if isinstance(found, Mapping):
        return next((found[key] for key in NESTED if isinstance(found.get(key), Mapping)), found)
    return found


def _bare(key: str) -> str:
    while prefix := next((each for each in WRAPPED if key.startswith(each)), ""):
        key = key.removeprefix(prefix)
    return key


def _told(found: Any) -> str:
    return f"a mapping of {listed(list(map(str, found)))}" if isinstance(found, Mapping) else f"{found!r:.40}"


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor on the CPU with all its numbers in the file: an expanded one would grow."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.nbytes <= value.untyped_storage().nbytes()
