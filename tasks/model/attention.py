"""Attention over packed rows, for stock models of transformers: one registered function, and hooks around the stack.

A hook in front of a stack (encoder or decoder) takes the padding out of the inputs; between stacks and in them every
layer computes tokens only. The hook behind the last stack puts the padding back for a head that reads rows; one that
reads tokens gets them packed, and one as wide as a vocabulary only those that it has to answer. The places of the rows
travel with the call as the keyword `packed`, never in a global, since activation checkpointing computes a layer again
when a later batch is already there; `crosses` says that a decoder asks its encoder.

No mask function is registered for the name, so transformers builds no mask. A model whose attention does not ask the
interface (DeBERTa-v2, MPNet) or mixes tokens by other means (Mamba) would be silently wrong: `tasks.model.forward`
compares before it trusts.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, PreTrainedModel

from tasks.model import dropout as dropping
from tasks.model.packing import Pack, Stretch

NAME = "packed"
QUERY_KEY_VALUE = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))  # BERT and its kin; DistilBERT


class Unpackable(Exception):
    """A model asks for what packed rows cannot give: the next way of computing it is tried."""


def attention(
    module: nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, width); (1, heads, rows, width) where only first positions ask
    key: torch.Tensor,  # (1, heads or groups, tokens asked, width); where first positions ask, not the real ones
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,  # (1, heads, longest, longest)
    sliding_window: int | None = None,
    packed: Pack | None = None,
    crosses: bool = False,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Softmax attention (Vaswani et al. 2017, equation 1) of each packed row over itself, or its source.

    Returns:
        (1, tokens, heads, width)
    """
    if (
        packed is None
        or attention_mask is not None
        or any(others.get(name) is not None for name in ("softcap", "s_aux"))
    ):
        raise Unpackable("packed rows are computed without soft caps, sinks and masks of others")
    packed.asked += 1
    how: dict[str, Any] = {"dropout": dropout, "scaling": scaling}
    if not crosses:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        how |= {"causal": causal, "bias": position_bias, "window": sliding_window}
    if packed.seen:
        return _first_attended(packed, query[0].transpose(0, 1), dropout, scaling)[None], None
    stretches = [
        each.queries.together(
            _attended(
                each,
                each.queries.apart(query[:, :, each.asking]),
                *(each.keys.apart(states[:, :, each.asked]) for states in (key, value)),
                **how,
            )
        )
        for each in (packed.crossing if crosses else packed.groups)
    ]
    return torch.cat(stretches, 1) if len(stretches) > 1 else stretches[0], None


AttentionInterface.register(NAME, attention)


def _first_attended(packed: Pack, queries: torch.Tensor, dropout: float, scaling: float | None) -> torch.Tensor:
    """What one query a row (rows, heads, width) finds among the keys that were set aside, without a grid of them."""
    keys, values = (each.view(packed.tokens, *queries.shape[1:]) for each in packed.seen)
    packed.seen = []
    products = queries.index_select(0, packed.row) * keys
    scores = products.sum(-1, dtype=torch.float32) * (scaling or queries.shape[-1] ** -0.5)  # (tokens, heads)
    grid = scores.new_full((packed.rows * packed.longest, scores.shape[1]), float("-inf"))
    weights = grid.index_copy(0, packed.place, scores).view(packed.rows, packed.longest, -1).softmax(1)
    weights = dropping.drop(weights, dropout)
    weighted = values * weights.flatten(0, 1).index_select(0, packed.place)[..., None].to(values.dtype)
    return torch.zeros_like(queries).index_add(0, packed.row, weighted)


def _attended(
    rows: Stretch,
    queries: torch.Tensor,  # (rows, heads, longest, width)
    keys: torch.Tensor,  # (rows, heads or groups, longest asked, width)
    values: torch.Tensor,
    *,
    dropout: float,
    scaling: float | None,
    causal: bool = False,
    bias: torch.Tensor | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """(rows, heads, longest, width)"""
    mask = _mask(rows.keys, causal, bias, window, queries.device)
    grouped = queries.shape[1] != keys.shape[1]
    if not dropout or queries.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            queries, keys, values, mask, dropout, is_causal=causal and mask is None, scale=scaling, enable_gqa=grouped
        )
    # no kernel of the CPU drops out: PyTorch's way through its parts costs three passes more over the scores
    if grouped:
        keys, values = (each.repeat_interleave(queries.shape[1] // each.shape[1], 1) for each in (keys, values))
    if causal and mask is None:
        mask = _before(queries.shape[2], queries.device)
    scores = (queries * (scaling or queries.shape[-1] ** -0.5)) @ keys.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1)
    return dropping.drop(weights, dropout) @ values


def _before(longest: int, device: torch.device) -> torch.Tensor:
    place = torch.arange(longest, device=device)
    return (place[:, None] >= place)[None, None]


def _mask(
    packed: Pack, causal: bool, bias: torch.Tensor | None, window: int | None, device: torch.device
) -> torch.Tensor | None:
    """What a query may see of these rows, as booleans or added to the scores; None: all, or all before it."""
    mask = None if packed.present is None or causal else packed.present[:, None, None]
    place = torch.arange(packed.longest, device=device)
    if window is not None and window <= packed.longest:
        near = ((place[:, None] - place).abs() < window)[None, None]
        mask = near if mask is None else mask & near
    if causal and (mask is not None or bias is not None):
        before = _before(packed.longest, device)
        mask = before if mask is None else mask & before
    if bias is None:
        return mask
    bias = bias[..., : packed.longest, : packed.longest]
    return bias if mask is None else torch.where(mask, bias, torch.finfo(bias.dtype).min)


class Hooks:
    """The hooks that let a model compute packed rows; `remove` makes it a stock model again.

    Args:
        tokens: the head reads each token by itself; else it gets rows.
        first_only: compute the last layer only where each row begins. Exact for heads that read nothing else, such
            as those of BERT for classification; it saves 14 % of a model of 6 layers.

    Raises:
        Unpackable: the last layer is not built like BERT's.
    """

    def __init__(self, model: PreTrainedModel, tokens: bool, first_only: bool) -> None:
        self.model = model
        self.stock = model.config._attn_implementation
        self.handles: list[RemovableHandle] = []
        narrowed = [_last_layer(stack) for stack in _stacks(model)] if first_only else []
        *encoders, last = _stacks(model)
        for encoder in encoders:
            self._in_front_of(encoder, encodes=True)
        self._in_front_of(last, encodes=False)
        self._behind(last, tokens, first_only)
        for parts in narrowed:
            self._narrow(*parts)
        model.set_attn_implementation(NAME)

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self.handles:
            handle.remove()
        self.model.set_attn_implementation(self.stock)

    def _in_front_of(self, stack: nn.Module, encodes: bool) -> None:
        names = tuple(inspect.signature(stack.forward).parameters)
        shift = _shift(stack)

        def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
            named = {**dict(zip(names, given, strict=False)), **named}
            packed: Pack = named["packed"]
            if encodes:
                packed = named["packed"] = packed.source or packed
            for name in ("input_ids", "inputs_embeds", "token_type_ids"):
                if named.get(name) is not None:
                    named[name] = packed.pack(named[name])
            named |= {name: None for name in ("attention_mask", "encoder_attention_mask") if name in names}
            if "position_ids" in names:
                named["position_ids"] = packed.position[None] + shift
            if "use_cache" in names:
                named["use_cache"] = False
            return (), named

        self._pre(stack, before)
        if hasattr(stack, "embed_positions"):
            self._place_positions(stack)
        for module in stack.modules():
            if getattr(module, "has_relative_attention_bias", False):
                self._pre(module, _bias_of_longest)
            taken = tuple(inspect.signature(module.forward).parameters)
            if "key_value_states" in taken:
                self._pre(module, _crossing(taken))

    def _behind(self, stack: nn.Module, tokens: bool, first_only: bool) -> None:
        def behind(_: nn.Module, _given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
            packed: Pack = named["packed"]
            states = out["last_hidden_state"]
            if first_only and states.shape[:2] == (1, packed.rows):
                out["last_hidden_state"] = states.transpose(0, 1)  # (rows, 1, width): each row's first position
            elif not tokens and not first_only and states.shape[:2] == (1, packed.tokens):
                out["last_hidden_state"] = packed.unpack(states)
            elif packed.read is not None:
                out["last_hidden_state"] = states.index_select(1, packed.read)
            return out

        self.handles.append(before_pooler(stack).register_forward_hook(behind, with_kwargs=True))

    def _place_positions(self, stack: nn.Module) -> None:
        # BART's stacks take no position ids: its embedding of positions is told by a hook of its own
        current: list[Pack] = []

        def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            current[:] = [named["packed"]]

        def place(
            _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return given, {**named, "position_ids": current[0].position}

        self._pre(stack, note)
        self._pre(stack.get_submodule("embed_positions"), place)

    def _narrow(self, layer: nn.Module, holder: nn.Module, projections: list[nn.Module]) -> None:
        current: list[Pack] = []  # set by the holder, read by its projections at once

        def begin(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            # a layer that is computed again for its gradient does not run this hook again: `packed` keeps what it did
            packed: Pack = named["packed"]
            packed.states = given[0]
            return (packed.states.index_select(1, packed.first), *given[1:]), named

        def note(_: nn.Module, _given: tuple[Any, ...], named: dict[str, Any]) -> None:
            current[:] = [named["packed"]]

        def all_tokens(_: nn.Module, _given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return (current[0].states,), named

        def aside(_: nn.Module, _given: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
            # the layer goes on with (1, rows, ...), whose shape what it gets has
            current[0].seen.append(out)
            return out[:, : current[0].rows]

        self._pre(layer, begin)
        self._pre(holder, note)
        for projection in projections:
            self._pre(projection, all_tokens)
            self.handles.append(projection.register_forward_hook(aside))

    def _pre(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))


def before_pooler(stack: nn.Module) -> nn.Module:
    """What of a stack ends with the states that a head reads: a pooler is a head of its own."""
    pools = getattr(stack, "pooler", None) is not None
    return stack.get_submodule("encoder") if pools else stack


def _stacks(model: PreTrainedModel) -> list[nn.Module]:
    if model.config.is_encoder_decoder:
        return [model.get_encoder(), model.get_decoder()]  # type: ignore[no-untyped-call]
    return [model.base_model]


def _shift(stack: nn.Module) -> int:
    """RoBERTa and its kin count positions from the padding id on."""
    embeddings: Any = getattr(stack, "embeddings", None)
    shifted = hasattr(embeddings, "create_position_ids_from_input_ids")
    return int(embeddings.padding_idx) + 1 if shifted else 0


def _bias_of_longest(
    module: Any, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # T5 would compute its bias for all tokens by all tokens; that of the longest row is the corner all rows share
    if named.get("position_bias") is None:
        longest = named["packed"].longest
        named = {**named, "position_bias": module.compute_bias(longest, longest)}
    return given, named


def _crossing(names: tuple[str, ...]) -> Callable[..., Any]:
    """A hook that notes whether attention, whose forward takes `names`, is asked to look at other rows."""

    def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        named = {**dict(zip(names, given, strict=False)), **named}
        if named.get("key_value_states") is not None:
            named["crosses"] = True
            if "position_bias" in names:  # T5 would make zeros for all tokens by all tokens
                named["position_bias"] = named["key_value_states"].new_zeros(1)
        return (), named

    return note


def _last_layer(stack: nn.Module) -> tuple[nn.Module, nn.Module, list[nn.Module]]:
    """The last layer of a stack, the part of it that projects, and its projections to keys and values."""
    lists = [each for each in stack.modules() if isinstance(each, nn.ModuleList)]
    last = max(lists, key=len)[-1] if lists else nn.Identity()
    for holder in last.modules():
        for names in QUERY_KEY_VALUE:
            if all(hasattr(holder, name) for name in names):
                return last, holder, [holder.get_submodule(name) for name in names[1:]]
    raise Unpackable(f"{type(stack).__name__}: its last layer has no query of its own")
