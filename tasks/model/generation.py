"""Texts that a model writes, token after token: transformers' own `generate`, which keeps the states of all before.

Rows of near length are written together; a decoder's are padded on the left, so that each goes on from its last token.
Nothing is drawn at random. A row that has ended waits for the others of its batch, so batches are larger than where
nothing is written (`AT_ONCE`), but not without bound.
"""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.encoding import Encoded
from tasks.recipe import Decoding

AT_ONCE = {"cpu": 8192, "cuda": 131_072}  # tokens that are read or written, in all beams


def written(
    model: PreTrainedModel, encoded: Encoded, how: Decoding, device: str, most: int | None = None
) -> list[list[int]]:
    """The token ids that the model writes for each row, or goes on with, special ones included.

    Args:
        most: tokens of a row and what goes on from it, or of what is written, where the model's positions end.
    """
    found: list[list[int]] = [[]] * len(encoded.lengths)
    spans = encoded.spans()
    costs = (encoded.lengths + how.length) * how.beams
    for places in batches.by_budget(costs, AT_ONCE[device]):
        rows = [encoded.tokens[spans[place]] for place in places]
        for place, ids in zip(places, _together(model, rows, how, device, most), strict=True):
            found[place] = ids
    return found


def _together(model: PreTrainedModel, rows: list[Any], how: Decoding, device: str, most: int | None) -> list[list[int]]:
    config = model.config
    pad = config.pad_token_id if config.pad_token_id is not None else 0
    continues = not config.is_encoder_decoder
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), pad, np.int64), np.zeros((len(rows), longest), np.int64)
    for line, row in enumerate(rows):
        place = slice(longest - len(row), None) if continues else slice(len(row))
        ids[line, place], mask[line, place] = row, 1
    begun = longest if continues else 1
    room = how.length if most is None else max(1, min(how.length, most - begun))
    out: torch.Tensor = model.generate(  # type: ignore[operator]
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        max_new_tokens=room,
        num_beams=how.beams,
        length_penalty=how.length_penalty,
        no_repeat_ngram_size=how.no_repeat,
        early_stopping=how.beams > 1,
        do_sample=False,
        pad_token_id=pad,
    )
    return [_ended(row, model) for row in out[:, begun:].tolist()]


def _ended(ids: list[int], model: PreTrainedModel) -> list[int]:
    """Up to the end, which the batch's longest row may lie behind."""
    ends = model.generation_config.eos_token_id
    known = ends if isinstance(ends, list) else [ends]
    return next((ids[:place] for place, each in enumerate(ids) if each in known), ids)
