"""How much memory a run will take at most, told before it begins: arithmetic on a config and the lengths of rows.

What is counted, in bytes, for a model of P parameters of which L learn:

    weights       4 P: everything is kept in fp32
    optimizer     8 L: two moments (Kingma and Ba 2015); 4 L of gradient descent with momentum
    gradients     4 L, and 4 L more where a group of processes averages them
    activations   what a part of a step keeps for its backward pass: `Shape.numbers`, counted from the graph
    copies        12 L (8 L): weights and moments, while a thread writes a checkpoint; they never lie on a GPU
    exam          `batches.AT_ONCE` tokens without a backward pass; on a CPU the bundle too, mapped from its file beside
                  all that the training has left in the heap, and the packages that draw the report
    libraries     interpreter and packages, on a CPU
    gaps          what the heap of a CPU has grown beyond what is in it: see `grown`

Embeddings of tokens that do not occur never learn, so L follows from the rows. Attention on a CPU keeps three numbers a
score where it drops out, since no kernel there can: scores, mask and product.

On a CPU the sum stands for the most that the process of `vernal run` holds (VmHWM). On CUDA it stands for the memory of
tensors on the device; those figures follow from the same counts and were not measured. A tokenizer that is trained on
many megabytes of text without spaces may need more than all of this, and is not counted. Imports no torch.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.settings import settings
from tasks import recipe, stages
from tasks.data import batches, sources
from tasks.data.corruption import SHARE
from tasks.data.lengths import Lengths, of_shards, of_source
from tasks.fits import OURS
from tasks.model.bases import Base
from tasks.records import Checkpoint, Record, Shards

LIBRARIES = 730_000_000  # bytes at the end of training one layer of width 16
REPORT = 80_000_000  # bytes that the exam of this layer and its report added
GAPS, SETTLED = 1.0, 90  # bytes for each that comes and goes in a step, and parts until two thirds of them are there
TRIMMED = 1 / 3  # of what a step took: given back when the training is over
ENCODED = 150  # bytes of a token in the exam, as the tokenizer hands it over
EPOCHS = 3  # looked at for the largest batch
MOST_ROWS = 1_000_000  # of an epoch that is looked at

NAMES = {
    "width": ("hidden_size", "d_model", "n_embd", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    "inner": ("intermediate_size", "d_ff", "n_inner", "hidden_dim", "encoder_ffn_dim", "dff"),
    "positions": ("max_position_embeddings", "n_positions", "max_length"),
    "vocabulary": ("vocab_size", "input_vocab_size"),
    "drops": ("hidden_dropout_prob", "mlp_dropout", "resid_pdrop", "dropout_rate", "dropout"),
    "drops_scores": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "dropout_rate"),
}
FIRST = {"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}  # classify by the first position
PADDED = {"deberta", "deberta-v2", "mamba", "mpnet"}  # mix rows when they are packed
IN_PARTS = {"gelu_fast", "gelu_new", "quick_gelu"}  # computed in several operations, each of which keeps its input


@dataclass(frozen=True)
class Shape:
    """What a config says of a model's size."""

    kind: str  # model_type
    width: int
    layers: int
    heads: int
    inner: int  # width of the feed-forward layer
    keys: int  # width of keys, and of values
    positions: int  # that have an embedding
    vocabulary: int
    gated: bool  # three matrices in the feed-forward layer
    rms: bool  # norms without a mean, which transformers computes in four operations
    pieces: bool  # an activation of several operations
    drops: bool
    drops_scores: bool
    crossed: bool  # as many layers again that attend twice

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape | None":
        """The shape that a config describes; None: it names no width or no layers."""
        found = {name: next((config[key] for key in keys if config.get(key)), 0) for name, keys in NAMES.items()}
        width, kind = found["width"], str(config.get("model_type", ""))
        if not (width and found["layers"]):
            return None
        heads = found["heads"] or max(1, width // 64)
        acts = str(config.get("hidden_act") or config.get("activation_function") or config.get("activation") or "")
        forward = str(config.get("feed_forward_proj", ""))
        rms = "rms_norm_eps" in config or kind == "t5"
        turned = rms or kind == "modernbert" or any(key.startswith(("rope", "rotary")) for key in config)
        if kind == OURS:
            turned, found["drops_scores"] = config["positions"] != "learned", found["drops"]
        return cls(
            kind=kind,
            width=width,
            layers=found["layers"],
            heads=heads,
            inner=found["inner"] or 4 * width,
            keys=(config.get("num_key_value_heads") or heads) * (config.get("head_dim") or width // heads),
            positions=0 if turned else found["positions"],
            vocabulary=found["vocabulary"],
            gated=kind == "modernbert"
            or (rms and kind != "t5")
            or forward.startswith("gated")
            or bool(config.get("glu")),
            rms=rms,
            pieces=acts in IN_PARTS or forward == "gated-gelu",
            drops=bool(found["drops"]),
            drops_scores=bool(found["drops_scores"]),
            crossed=bool(config.get("is_encoder_decoder")) or config.get("architecture") == "encoder-decoder",
        )

    @property
    def layer(self) -> int:
        """Parameters of a layer; of an encoder's and a decoder's together, where there are both."""
        attention = 2 * self.width * (self.width + self.keys)
        forward = (2 + self.gated) * self.width * self.inner
        return (3 * attention + 2 * forward) if self.crossed else attention + forward

    @property
    def parameters(self) -> int:
        """Those of the body, and of a head as wide as the states."""
        tables = (self.vocabulary + (1 + self.crossed) * self.positions) * self.width
        return tables + self.layers * self.layer + self.width**2

    def numbers(self, tokens: int, scores: int, device: str) -> tuple[int, int]:
        """What a layer keeps for its backward pass: numbers that stay fp32 in any precision, and all others.

        Counted with `torch.autograd.graph.saved_tensors_hooks`. Of each norm: what comes in, which stays fp32 (twice,
        where it is computed in several operations), and what leaves; a mask, where dropout comes before it. Of
        attention: queries, keys and values set apart, and what it found; on a CPU three numbers a score where it drops
        out, else its result once more. Of the feed-forward layer: what comes into the activation and what leaves it;
        with a gate also that and the product.
        """
        norms, attentions, forwards = (5, 3, 2) if self.crossed else (2, 1, 1)
        single = norms * (1 + self.rms) * self.width
        attention = (2 if self.drops_scores else 3) * self.width + 2 * self.keys
        inside = self.gated and self.kind != OURS  # dropout in the feed-forward layer
        masks = self.drops * (self.width + self.inner if inside else norms * self.width)
        between = (4 if self.gated else 2) + 3 * self.pieces
        others = attentions * attention + norms * self.width + masks + forwards * between * self.inner
        held = 3 * attentions * self.heads * scores if self.drops_scores and device == "cpu" else 0
        return single * tokens, others * tokens + held


@dataclass(frozen=True)
class Part:
    """The rows of a step that are computed at once, where they are most."""

    tokens: int
    scores: int  # of a head: the squares of the rows' lengths


@dataclass(frozen=True)
class Forecast:
    """The most memory that a run takes, in bytes, and what it is made of."""

    device: str
    parts: dict[str, int]
    step: int  # tokens computed at once
    rows: str  # how it is known how long rows are
    processes: int = 1

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        made = ", ".join(f"{size / 1e9:.2f} {name}" for name, size in self.parts.items() if size >= 5_000_000)
        where = "this machine's cpu" if self.device == "cpu" else "the GPU, for tensors"
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        told = f"{self.step:,} tokens at once, {self.rows}"
        return f"about {self.total / 1e9:.1f} GB of memory on {where}{each} (in GB: {made}; {told})"


def of(what: recipe.Recipe, base: Base, parts: list[sources.Part], records: Mapping[str, Record]) -> Forecast | None:
    """The forecast of a recipe whose finished stages are `records`; None: the base's config is not here yet."""
    loaded, tokenised = records.get("load"), records.get("tokenise")

    def read(name: str) -> bytes | None:
        if isinstance(loaded, Checkpoint):
            return stages.artifacts().read(loaded.files[name].digest) if name in loaded.files else None
        return base.read(name)

    rows = of_shards(tokenised) if isinstance(tokenised, Shards) else of_source(what, parts, read("tokenizer.json"))
    shape = _shape(what, rows, read("config.json"))
    if shape is None:
        return None
    counted = loaded.parameters if isinstance(loaded, Checkpoint) else 0
    return memory(what, shape, rows, device(), counted or shape.parameters)


def device() -> str:
    """cpu or cuda: what the settings say, or what a driver lets expect."""
    if settings().device != "auto":
        return settings().device
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"


def _shape(what: recipe.Recipe, rows: Lengths, config: bytes | None) -> Shape | None:
    own = what.model.base
    if isinstance(own, str):
        with suppress(ValueError, TypeError, AttributeError):  # `load` says what is wrong with a config
            return Shape.of(json.loads(config or b"{}"))
        return None
    if isinstance(own, recipe.Own):
        return None
    sizes = {"dff": own.dff or 4 * own.d_model, "vocab_size": rows.vocabulary, "max_length": what.tokens.length}
    return Shape.of(own.model_dump() | sizes | {"model_type": OURS})


def memory(what: recipe.Recipe, shape: Shape, rows: Lengths, device: str, parameters: int) -> Forecast:
    """The forecast for a model of `parameters` parameters."""
    how, on_cpu = what.train, device == "cpu"
    processes = (how.processes or 1) if how.launch == "torchrun" else 1
    part, several = largest(rows, how, shape.kind in PADDED, processes)
    narrowed = how.decoupled and how.top_layers is None and not shape.crossed and rows.used <= 0.9 * shape.vocabulary
    learned = learning(shape, rows, how, parameters, narrowed)
    moments = (4 if how.optimizer == "sgd" else 8) * learned
    gradients = 4 * learned * (2 if processes > 1 else 1)
    kept = activations(shape, part, what, device)
    step = gradients + kept if several > 1 or processes > 1 else max(gradients, kept)
    found = {
        "libraries": LIBRARIES * on_cpu,
        "weights": 4 * (parameters + (rows.used * shape.width if narrowed else 0)),
        "optimizer": moments,
        "gradients and activations": step,
    }
    if not on_cpu:
        found["exam"] = max(0, sum(evaluation(shape, rows, device)) - step)
        return Forecast(device, found, part.tokens, rows.told, processes)
    copies = 4 * learned + moments
    changing = copies + gradients + kept
    loading = 8 * parameters - moments - copies  # three times the weights, before anything learns
    validation = sum(evaluation(shape, rows, device))
    encoded = max(0, ENCODED * rows.tokens["test"] - changing)
    exam = REPORT + 4 * parameters + validation + encoded - round(TRIMMED * step)
    found |= {
        "copies for a checkpoint": copies,
        "states of frozen layers": frozen(shape, rows, how),
        "gaps in the heap": max(round(grown(rows, how, several) * changing), loading),
        "exam": max(exam, validation),
    }
    return Forecast(device, found, part.tokens, rows.told, processes)


def grown(rows: Lengths, how: recipe.Train, several: int) -> float:
    """Bytes of gaps in the heap for each byte that comes and goes in a step of `several` parts.

    Rows differ, so every part asks for blocks of other sizes, and the heap of glibc (2.36, which aligns blocks by
    cutting larger ones) gives nothing back between those that stay. Measured on MiniLM, batch 32, without checkpoints:
    gaps of 14, 36, 77, 120 and 160 % of activations and gradients after 2, 20, 60, 120 and 280 steps, an exponential
    approach. In whole runs of thirteen kinds, copies included, they came to between 0 and 2 bytes for each of all that
    changes; with 1.0 forecasts lie between 15 % below the measured peak (MiniLM, 1,410 steps) and as much above it
    (bert-base, 50 steps). This is the least certain part of a forecast.
    """
    steps = how.epochs * math.ceil(min(rows.rows, how.max_rows or rows.rows) / how.batch)
    return GAPS * (1 - math.exp(-steps * several / SETTLED))


def learning(shape: Shape, rows: Lengths, how: recipe.Train, parameters: int, narrowed: bool) -> int:
    """Parameters that learn: all, all but the embeddings not in use, or those of the top layers and the head."""
    if how.top_layers is not None:
        return min(parameters, how.top_layers * shape.layer + shape.width**2)
    return parameters - (shape.vocabulary - rows.used) * shape.width if narrowed else parameters


def activations(shape: Shape, part: Part, what: recipe.Recipe, device: str) -> int:
    """Bytes that a part of a step holds as its backward pass begins."""
    how = what.train
    half = how.precision == "bf16" or (how.precision == "auto" and device == "cuda")
    single, others = shape.numbers(part.tokens, part.scores, device)
    layer = 4 * single + (2 if half else 4) * others
    first = what.problem.reads == "rows" and shape.kind in FIRST
    layers: float = shape.layers if how.top_layers is None else how.top_layers
    if first:
        layers = max(0.0, layers - 1)  # the last layer computes one position of a row
    around = 0 if how.top_layers is not None else 5 * 4 * shape.width * part.tokens  # embeddings and head
    passing = 4 * part.tokens * (2 * shape.inner + 2 * shape.width)  # gradients of the states on their way down
    passing += told(shape, what, part.tokens)
    if how.recompute:
        return round(layers * 4 * shape.width * part.tokens + layer + around + passing)
    cast = 2 * shape.layer * shape.layers if half else 0  # the weights in bf16
    return round(layers * layer + around + passing + cast)


def told(shape: Shape, what: recipe.Recipe, tokens: int) -> int:
    """Bytes of the logits over a vocabulary, their logarithms and gradients, as the backward pass begins."""
    if what.problem.reads != "read":
        return 0
    share = SHARE if what.problem.corrupted else 1 / (1 + shape.crossed)  # of the tokens; half of them are a target's
    return round(3 * 4 * share * tokens * shape.vocabulary)


def evaluation(shape: Shape, rows: Lengths, device: str) -> list[int]:
    """Bytes of each block of a feed-forward layer, over as many tokens as are evaluated at once."""
    most = max(rows.tokens["validation"], rows.tokens["test"])
    tokens = max(min(batches.AT_ONCE[device], most), int(rows.train.max()))
    widths = [shape.inner] * (3 if shape.gated else 2) + [shape.width] * 3
    if shape.kind == "modernbert":
        widths = [2 * shape.inner, *widths[1:]]  # both halves in one product
    return [4 * tokens * width for width in widths]


def frozen(shape: Shape, rows: Lengths, how: recipe.Train) -> int:
    """Bytes of the states that enter the lowest layer that learns, unless they lie in a file."""
    if how.top_layers is None:
        return 0
    states = 4 * shape.width * (rows.tokens["train"] + rows.tokens["validation"])
    return states if states <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 8 else 0


def largest(rows: Lengths, how: recipe.Train, padded: bool, processes: int = 1) -> tuple[Part, int]:
    """The part of a step with the most tokens, and the number of its step's parts; of the first epochs' batches.

    Where only a sample of the rows is known, a dataset of as many is drawn from it.
    """
    lengths = rows.train
    count = min(rows.rows, MOST_ROWS)
    if len(lengths) != count:
        lengths = np.random.default_rng(0).choice(lengths, max(1, count))
    chosen = batches.subset(len(lengths), how.max_rows, how.seed)
    taken = [
        batch
        for epoch in range(min(EPOCHS, how.epochs))
        for batch in batches.epoch_of(chosen, lengths if padded else None, how.batch, how.seed, epoch)
    ]
    heaviest = max(taken, key=lambda batch: int(lengths[batch].sum()))
    mine = heaviest[np.argsort(-lengths[heaviest], kind="stable")][::processes]
    parts = batches.parted(mine, lengths[mine], how.token_budget, how.micro_batch or len(mine))
    first = lengths[max(parts, key=lambda part: int(lengths[part].sum()))]
    if padded:
        first = np.full(len(first), first.max())
    return Part(int(first.sum()), int((first**2).sum())), len(parts)
