"""Files of a base model, looked through before anything is built from them.

safetensors 0.8 refuses truncation, overlap and bad types by itself; it lets duplicate names and NaN pass, and takes 5 s
CPU over a header of 200,000 tensors. A `config.json` is close to code: keys that name code are refused (CVE-2026-4372,
CVE-2026-5241), sizes are bounded before anything is allocated.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from tasks import fits
from tasks.errors import BadInput, listed

MAX_HEADER = 10_000_000  # bytes
MAX_TENSORS = 10_000
MAX_CONFIG = 1_000_000  # bytes
LIMITS = {"hidden_size": 65_536, "num_hidden_layers": 1024, "vocab_size": 10_000_000, "intermediate_size": 1_000_000}
CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "attn_implementation", "_attn_implementation")
HEADS = ("pooler", "classifier", "cls.", "lm_head", "score", "head.", "qa_outputs", "embeddings.position_ids")


def inspect(folder: Path) -> dict[str, Any]:
    """The config of the model in `folder`, once everything in it has been looked through.

    Raises:
        BadInput: E-JSON, E-MODEL-CODE, E-MODEL-CONFIG, E-MODEL-FORMAT, E-MODEL-PATH, E-MODEL-ST, E-MODEL-NONFINITE or
            E-MODEL-SHAPE.
    """
    config = read_config(folder / "config.json")
    look_at_index(folder / "model.safetensors.index.json")
    compare(folder, inspect_weights(folder))
    return config


def inspect_weights(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in `folder`; raises E-MODEL-FORMAT, E-MODEL-ST or E-MODEL-NONFINITE."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        look_at_header(path)
        shapes |= look_at_tensors(path)
    return shapes


def read_json(path: Path, most: int) -> dict[str, Any]:
    """The one object in a file of at most `most` bytes, no key twice; raises E-JSON."""
    if path.stat().st_size > most:
        raise BadInput("E-JSON", f"{path.name}: {path.stat().st_size} bytes > {most}; this is no model's")
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadInput("E-JSON", f"{path.name}: {error!s:.100}; mend the file") from error
    if not isinstance(found, dict):
        raise BadInput("E-JSON", f"{path.name}: found a {type(found).__name__}, wanted an object")
    return found


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` as a mapping without keys that name code, or sizes out of bounds."""
    config = read_json(path, MAX_CONFIG)
    refuse_code(config, path.name)
    if config.get("model_type") == fits.MODULE:
        message = f"{path.name}: model_type {fits.MODULE} brings its own code; name its file in model.base.module"
        raise BadInput("E-MODEL-CODE", message)
    if config.get("model_type") not in CONFIG_MAPPING:
        raise BadInput("E-MODEL-CONFIG", f"{path.name}: model_type {config.get('model_type')!r:.60} is not known here")
    spelled = CONFIG_MAPPING[config["model_type"]].attribute_map
    for name, largest in LIMITS.items():
        value = config.get(spelled.get(name, name), config.get(name, 1))
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise BadInput("E-MODEL-CONFIG", f"{path.name}: {name} is {value!r:.40}, wanted a number in 1..{largest}")
    return config


def refuse_code(value: Any, place: str) -> None:
    """Raises E-MODEL-CODE if a key anywhere below `value` could bring code with it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if (key in CODE and inner) or str(key).endswith("_internal"):
                raise BadInput("E-MODEL-CODE", f"{place}: {key} is refused, since it can name code; remove it")
            refuse_code(inner, f"{place}: {key}")
    elif isinstance(value, list):
        for inner in value:
            refuse_code(inner, place)


def look_at_index(path: Path) -> None:
    """Raises E-MODEL-PATH unless all files that an index of shards names lie beside it; no index is no fault."""
    if not path.exists():
        return
    files = read_json(path, MAX_HEADER).get("weight_map")
    if not isinstance(files, dict):
        raise BadInput("E-JSON", f"{path.name}: weight_map is missing; fetch the file again")
    beside = {each.name for each in path.parent.glob("*.safetensors")}
    if strange := sorted({str(file) for file in files.values()} - beside):
        raise BadInput("E-MODEL-PATH", f"{path.name} names {strange[0]!r:.100}, wanted a .safetensors file beside it")


def look_at_header(path: Path) -> None:
    """Raises if a safetensors file is something else, or its header is too large or names a tensor twice."""
    with path.open("rb") as file:
        start = file.read(8)
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise BadInput("E-MODEL-FORMAT", f"{path.name} is a pickle under another name; convert it to safetensors")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, path.stat().st_size - 8):
            message = f"{path.name}: header of {length} bytes; the file is cut off, or not safetensors"
            raise BadInput("E-MODEL-ST", message)
        try:
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise BadInput("E-MODEL-ST", f"{path.name}: {error!s:.100}; fetch the file again") from error
    if len(header) > MAX_TENSORS:
        raise BadInput("E-MODEL-ST", f"{path.name}: {len(header)} tensors > {MAX_TENSORS}")


def look_at_tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, all of them finite."""
    shapes = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                tensor = file.get_tensor(name)
                shapes[name] = tuple(tensor.shape)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise BadInput("E-MODEL-NONFINITE", f"{path.name}: {name} holds NaN or infinity; use other weights")
    except SafetensorError as error:
        raise BadInput("E-MODEL-ST", f"{path.name}: {error!s:.100}; fetch the file again") from error
    return shapes


def compare(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises E-MODEL-SHAPE unless the tensors are those of the body that the config describes; heads may differ."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            body = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the library says of a config that it cannot build
        told = f"{type(error).__name__}: {error!s:.150}"
        raise BadInput("E-MODEL-CONFIG", f"config.json describes no model ({told}); fetch the file again") from error
    prefix = f"{body.base_model_prefix}."
    found = {_today(name).removeprefix(prefix): shape for name, shape in shapes.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    tied = set(getattr(body, "all_tied_weights_keys", None) or ())
    faults = [
        f"{name} is {found[name]}, the config says {shape}" if name in found else f"{name} is missing"
        for name, shape in wanted.items()
        if found.get(name) != shape and not name.startswith(HEADS) and name not in tied
    ]
    if faults:
        raise BadInput("E-MODEL-SHAPE", f"{listed(faults)}; config.json and the weights are of different models")


def _today(name: str) -> str:
    # the first BERT checkpoints spell their norms as TensorFlow did; transformers reads both
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r:.60} stands there twice")
    return found
