"""A base model -> Checkpoint: looked through, and kept in the store."""

import logging
import math
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from tasks import recipe, stages
from tasks.errors import BadInput
from tasks.model import architectures, bases, inspection, modules, own, state_dicts
from tasks.records import Checkpoint
from tasks.verb import verb

log = logging.getLogger("vernal.load")


@verb
def load(model: recipe.Model, beside: str) -> Checkpoint:
    """The base that the recipe names; relative names are looked up beside the recipe's folder first."""
    base = bases.resolve(model, Path(beside))
    return stages.once(stages.load(base.fingerprint, model), lambda folder: keep(folder, base, model))


def keep(folder: Path, base: bases.Base, model: recipe.Model) -> Checkpoint:
    """The files of the base, put into the store once they were found sound.

    Raises:
        BadInput: see `inspection.inspect` and `state_dicts.convert`; E-TOK-LOAD, its tokenizer cannot be read.
    """
    if isinstance(model.base, recipe.Architecture):
        architectures.config_of(model.base).save_pretrained(folder)
    else:
        base.lay_out(folder)
        state_dicts.convert(folder, base.name)
        if isinstance(model.base, recipe.Own) and base.module:
            own.describe(folder, model.base, base.module)
        look_through(folder, base)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    files = stages.keep(folder)
    log.info("%s: %s, %d files", base.name, config.model_type, len(files))
    return Checkpoint.of(
        files,
        parents=(base.fingerprint,) if base.fingerprint else (),
        architecture=config.model_type,
        parameters=sum(weights_in(path) for path in folder.glob("*.safetensors")),
        tokenizer=stages.tokenizer_digest(files),
        length=architectures.length_of(config) if base.fingerprint else None,
    )


def look_through(folder: Path, base: bases.Base) -> None:
    """Raises, with the name of the base, unless its files in `folder` are sound."""
    try:
        if (base.module or base.ours) and (folder / modules.FILE).exists():
            own.look_through(folder)
        else:
            inspection.inspect(folder)
        complete_tokenizer(folder)
    except BadInput as error:
        raise BadInput(error.code, f"{base.name}: {error.message}") from error


def complete_tokenizer(folder: Path) -> None:
    """Makes `tokenizer.json` out of an older vocabulary file, where only that is there."""
    if (folder / "tokenizer.json").exists() or not any((folder / name).exists() for name in stages.TOKENIZER_FILES):
        return
    try:
        AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    except (ValueError, OSError, ImportError) as error:
        message = f"its tokenizer: {error!s:.150}; save a tokenizer.json beside the weights"
        raise BadInput("E-TOK-LOAD", message) from error


def weights_in(path: Path) -> int:
    """Numbers in a safetensors file."""
    return sum(math.prod(shape) for shape in inspection.look_at_tensors(path).values())
