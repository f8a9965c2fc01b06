"""A module of the user's own as a model: what a recipe's `model.base: {module: …, class: …}` becomes.

The contract. The class is an `nn.Module`, built from keyword arguments: those of `config`, and

    vocabulary  number of token ids
    labels      number of outputs
    length      tokens of the longest row

each of which `config` may overrule. It is called as `forward(input_ids, attention_mask)`, both int64 (rows, tokens),
rows padded on the right, where the mask is 0; what it makes of a row must not depend on its padding. It returns logits,
(rows, labels), or (rows, tokens, labels) where tokens are labelled. Buffers and parameters are all that is kept of it.

The source travels with checkpoints and bundles as `modeling.py`, and its digest in their config, so that the code that
runs is the code that the recipe's author named. A file stands alone: it may import installed packages, no file beside
it.
"""

import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tasks import fits, recipe
from tasks.errors import BadInput, Corrupt, listed
from tasks.model import hardware, inspection, modules

WEIGHTS = "model.safetensors"


class OwnConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What a module is built from."""

    model_type = fits.MODULE
    module: str = ""  # as the recipe names it
    class_name: str = ""
    digest: str = ""  # of its source
    distribution: str = ""
    arguments: dict[str, Any] | None = None
    per_token: bool = False
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    pad_token_id: int | None = 0
    eos_token_id: int | None = None
    num_hidden_layers: int = 0  # that Vernal knows of


AutoConfig.register(fits.MODULE, OwnConfig)


class Own(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The user's module where a model of transformers is expected.

    Raises:
        BadInput: E-MODEL-MODULE, it cannot be built, or fails, or gives something else than logits.
    """

    config_class = OwnConfig
    config: OwnConfig

    def __init__(self, config: OwnConfig, source: bytes) -> None:
        super().__init__(config)
        self.source = source
        sizes = {"vocabulary": config.vocab_size, "labels": config.num_labels, "length": config.max_position_embeddings}
        try:
            self.module: nn.Module = class_of(config, source)(**{**sizes, **(config.arguments or {})})
        except (BadInput, Corrupt):
            raise
        except Exception as error:
            raise fault(config, error) from error

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        """Logits, of the shape that the contract says."""
        try:
            logits = self.module(input_ids, attention_mask)
        except Exception as error:
            if isinstance(error, BadInput) or hardware.out_of_memory(error):
                raise
            raise fault(self.config, error) from error
        wanted = (*(input_ids.shape if self.config.per_token else input_ids.shape[:1]), self.config.num_labels)
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if found != wanted:
            name = f"{self.config.module}: {self.config.class_name}"
            raise BadInput("E-MODEL-MODULE", f"{name}.forward gives {found}, wanted logits of shape {wanted}; mend it")
        return SequenceClassifierOutput(logits=logits)

    def get_input_embeddings(self) -> nn.Module:
        """The module itself: how it looks tokens up is its own matter."""
        return self.module

    def save_pretrained(self, save_directory: Any, *_: Any, **__: Any) -> None:
        """Config, source, and weights under the names that the user's module gives them."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        tensors = {name: each.detach().clone().contiguous() for name, each in self.module.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / modules.FILE).write_bytes(self.source)


def describe(folder: Path, base: recipe.Own, source: modules.Source) -> None:
    """Writes the config of a module that lies in `folder`."""
    length = base.config.get("length")
    OwnConfig(
        module=base.module,
        class_name=base.class_,
        digest=source.digest,
        distribution=source.distribution,
        arguments=dict(base.config),
        max_position_embeddings=length if isinstance(length, int) else None,
    ).save_pretrained(folder)


def look_through(folder: Path) -> None:
    """Raises unless the module in `folder` can be imported, has its class, and its weights are sound.

    Raises:
        BadInput: E-MODEL-MODULE, E-MODEL-ST or E-MODEL-NONFINITE.
    """
    class_of(AutoConfig.from_pretrained(folder, local_files_only=True), (folder / modules.FILE).read_bytes())
    inspection.inspect_weights(folder)


def built(folder: Path, config: OwnConfig) -> Own:
    """The model in `folder`, with its weights if it has any.

    Raises:
        BadInput: E-MODEL-MODULE as above; E-MODEL-SHAPE, the weights are of another module.
    """
    model = Own(config, (folder / modules.FILE).read_bytes())
    if (folder / WEIGHTS).exists():
        fill(model, load_file(folder / WEIGHTS))
    return model


def fill(model: Own, found: dict[str, torch.Tensor]) -> None:
    """Gives a model its weights; what has one row for each label stays as drawn where their number is another."""
    config, wanted = model.config, model.module.state_dict()
    for name, tensor in wanted.items():
        if name in found and tensor.dim() and len(tensor) == config.num_labels != len(found[name]):
            if tensor.shape[1:] == found[name].shape[1:]:
                found[name] = tensor
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is not the module's" for name in found if name not in wanted]
    faults += [
        f"{name} is {tuple(found[name].shape)}, {config.class_name} has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if faults:
        message = (
            f"{config.module}: {listed(faults)}; name the weights of this module, and in config what it was made with"
        )
        raise BadInput("E-MODEL-SHAPE", message)
    model.module.load_state_dict(found)


def class_of(config: OwnConfig, source: bytes) -> type[nn.Module]:
    """The class that a config names, out of the very bytes that its digest is of.

    Raises:
        Corrupt: E-INTEGRITY, they are others.
        BadInput: E-MODEL-MODULE, the source does not run, or has no such `nn.Module`.
    """
    if modules.digest(source) != config.digest:
        other = f"{modules.FILE} is {modules.digest(source)[:19]}, packaged was {config.digest[:19]}"
        raise Corrupt("E-INTEGRITY", f"{other}: it is not run; package the model again")
    try:
        module = _run(config, source) if config.module.endswith(".py") else _imported(config)
    except BadInput:
        raise
    except Exception as error:
        raise fault(config, error) from error
    found: Any = getattr(module, config.class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        kinds = [name for name, each in vars(module).items() if isinstance(each, type) and issubclass(each, nn.Module)]
        told = "no nn.Module" if found is not None else f"not there (found {listed(kinds) or 'no nn.Module'})"
        raise BadInput("E-MODEL-MODULE", f"{config.module}: {config.class_name} is {told}; name one in class")
    return found


def _run(config: OwnConfig, source: bytes) -> ModuleType:
    # named by its digest, for champion and challenger may be two states of one file; a class finds its module there
    name = f"vernal_own_{config.digest[7:23]}"
    if name not in sys.modules:
        module = ModuleType(name)
        sys.modules[name] = module
        try:
            exec(compile(source, config.module, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _imported(config: OwnConfig) -> ModuleType:
    there = modules.find(config.module, Path())
    if there.digest != config.digest:
        found = f"{config.module} of {there.distribution} is not the one of {config.distribution} that the model needs"
        raise BadInput("E-MODEL-MODULE", f"{found}; install {config.distribution}")
    return import_module(config.module)


def fault(config: OwnConfig, error: Exception) -> BadInput:
    """The user's own error in one line, with its place in the user's file."""
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == config.module]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    place = f"{config.module} line {line}" if line else f"{config.module}: {config.class_name}"
    told = " ".join(str(error).split())[:200]
    return BadInput("E-MODEL-MODULE", f"{place}: {type(error).__name__}: {told}; mend it, or model.base.config")


def listing(folder: Path) -> dict[str, Any]:
    """What `bundle.json` says of the module in `folder`; nothing where there is none."""
    path = folder / modules.FILE
    return {"module": {"file": path.name, "digest": modules.digest(path.read_bytes())}} if path.exists() else {}
