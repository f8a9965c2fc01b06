"""What a model writes is what it finds most probable, token after token, whoever else is written beside it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch.nn import functional
from transformers import PreTrainedModel

from tasks import problems
from tasks.data.corruption import Corruption
from tasks.encoding import IGNORED, Encoded
from tasks.model import generation
from tasks.model.bundle import Model
from tasks.model.forward import Forward
from tasks.model.transformer import TransformerConfig, heads
from tasks.recipe import Decoding
from tests.tasks.model.families import BART, GPT2, T5
from tests.tasks.test_encoding import bracketed

SMALL: dict[str, Any] = {"d_model": 64, "num_layers": 2, "num_heads": 4, "dff": 128, "input_vocab_size": 300}
ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "initializer_range": 0.5}
WRITERS: dict[str, Callable[[], PreTrainedModel]] = {
    "GPT-2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2 | {"eos_token_id": 3, "initializer_range": 0.5})),
    "BART": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BART)),
    "T5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),
    "our decoder": lambda: heads.TransformerForCausalLM(
        TransformerConfig(architecture="decoder", dropout=0.0, **SMALL, **ENDS)
    ),
    "ours, learned positions": lambda: heads.TransformerForCausalLM(
        TransformerConfig(architecture="decoder", dropout=0.0, positions="learned", max_length=64, **SMALL, **ENDS)
    ),
    "our encoder and decoder": lambda: heads.TransformerForSeq2SeqLM(
        TransformerConfig(architecture="encoder-decoder", dropout=0.0, decoder_start_token_id=2, **SMALL, **ENDS)
    ),
}


def rows(lengths: tuple[int, ...] = (3, 9, 1, 6, 9, 2)) -> list[list[int]]:
    draw = np.random.default_rng(3)
    return [draw.integers(5, 250, length).tolist() for length in lengths]


def encoded(texts: list[list[int]]) -> Encoded:
    flat = np.concatenate(texts).astype(np.uint32)
    return Encoded(flat, np.array([len(each) for each in texts]), np.zeros(len(texts), bool))


def likeliest(model: PreTrainedModel, row: list[int], length: int) -> list[int]:
    """The most probable token again and again, all computed anew for each."""
    config, said = model.config, []
    for _ in range(length):
        ids = torch.tensor([row])
        if config.is_encoder_decoder:
            given = torch.tensor([[config.decoder_start_token_id, *said]])
            logits = model(input_ids=ids, decoder_input_ids=given).logits
        else:
            logits = model(input_ids=torch.tensor([[*row, *said]])).logits
        token = int(logits[0, -1].argmax())
        if token == config.eos_token_id:
            break
        said.append(token)
    return said


def without_forced_ends(model: PreTrainedModel) -> PreTrainedModel:
    model.generation_config.forced_eos_token_id = None  # of BART, for a text that is cut
    return model


@pytest.mark.parametrize("name", WRITERS)
def test_each_row_is_the_likeliest_whatever_its_batch_and_the_model_is_packed_again(name: str) -> None:
    torch.manual_seed(0)
    model = without_forced_ends(WRITERS[name]().eval())
    forward = Forward(model, "cpu", reads="read")
    assert forward.packs
    texts = rows()
    with forward.examined(), forward.unpacked() as stock:
        found = generation.written(stock, encoded(texts), Decoding(length=12), "cpu")
        assert found == [likeliest(model, row, 12) for row in texts]
    assert forward.hooks is not None
    assert len({tuple(each) for each in found}) > 1


def test_with_beams_what_is_written_is_at_least_as_probable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = WRITERS["our decoder"]().eval()

    def told(row: list[int], said: list[int]) -> float:
        chances = model(input_ids=torch.tensor([[*row, *said]])).logits.log_softmax(-1)[0]
        return float(sum(chances[len(row) + place - 1, token] for place, token in enumerate(said)))

    texts = rows((4, 4, 4, 4, 4, 4, 4, 4))
    with torch.no_grad():
        one, many = (
            generation.written(model, encoded(texts), Decoding(length=4, beams=beams, length_penalty=0), "cpu")
            for beams in (1, 8)
        )
        scores = np.array([[told(row, each) for row, each in zip(texts, found, strict=True)] for found in (one, many)])
    assert (scores[1] >= scores[0] - 1e-4).all()
    assert (scores[1] > scores[0] + 1e-3).any()


def test_no_tokens_stand_twice_in_a_row_where_that_is_asked() -> None:
    torch.manual_seed(0)
    model = WRITERS["GPT-2"]().eval()
    how = Decoding(length=40, no_repeat=2)
    for said in generation.written(model, encoded(rows()), how, "cpu"):
        pairs = list(pairwise(said))
        assert len(pairs) == len(set(pairs))


def test_a_text_never_grows_beyond_the_positions_of_the_model() -> None:
    torch.manual_seed(0)
    model = WRITERS["ours, learned positions"]().eval()
    texts = [list(range(5, 65)), [7, 8]]
    found = generation.written(model, encoded(texts), Decoding(length=30), "cpu", most=64)
    assert [len(each) for each in found] == [4, 4]


def test_a_target_never_grows_beyond_the_positions_of_the_model() -> None:
    torch.manual_seed(0)
    model = hf.BartForConditionalGeneration(hf.BartConfig(**BART | {"max_position_embeddings": 16})).eval()
    found = generation.written(without_forced_ends(model), encoded(rows()), Decoding(length=40), "cpu", most=16)
    assert max(map(len, found)) == 15


def of_bytes(name: str, head: str, **config: Any) -> Model:
    """A model with a tokenizer that we train."""
    torch.manual_seed(0)
    encoder = bracketed(64)
    problem = problems.named(name)
    sizes = SMALL | {"input_vocab_size": encoder.tokenizer.get_vocab_size()}
    model = getattr(heads, head)(TransformerConfig(dropout=0.0, **sizes, **ENDS, **config)).eval()
    corruption = Corruption.by(encoder.tokenizer, seed=0) if problem.corrupted else None
    forward = Forward(model, "cpu", reads=problem.reads, corruption=corruption)
    return Model(problem, forward, encoder, (), Decoding(length=8))


TEXTS = [{"text": "to be or not to be"}, {"text": "that is the question"}, {"text": "x"}]


def test_how_probable_a_text_is_equals_the_loss_that_the_model_itself_computes() -> None:
    model = of_bytes("causal-language-modelling", "TransformerForCausalLM", architecture="decoder")
    sat = model.sit(TEXTS)
    stock = model.forward.release()
    for row, found in zip(TEXTS, sat, strict=True):
        (tokens,) = model.encoder.pieces([row["text"]])
        ids = torch.tensor([[2, *tokens, 3]])
        with torch.no_grad():
            loss = stock(input_ids=ids, labels=ids).loss
        assert found.answer["tokens"] == len(tokens) + 1
        assert found.answer["nats"] / found.answer["tokens"] == pytest.approx(float(loss), rel=1e-4)
        assert found.answer["characters"] == len(row["text"])


def test_only_the_answer_of_a_prompt_is_asked_for() -> None:
    model = of_bytes("instruction", "TransformerForCausalLM", architecture="decoder")
    row = {"prompt": "to be or", "answer": "not to be"}
    (found,) = model.sit([row])
    prompt, answer = model.encoder.pieces([row["prompt"], row["answer"]])
    ids = torch.tensor([[2, *prompt, 3, *answer, 3]])
    with torch.no_grad():
        logits = model.forward.release()(input_ids=ids).logits[0]
    nats = functional.cross_entropy(logits[len(prompt) + 1 : -1], ids[0, len(prompt) + 2 :], reduction="sum")
    assert found.answer["nats"] == pytest.approx(float(nats), rel=1e-4)
    assert (found.answer["tokens"], found.answer["characters"]) == (len(answer) + 1, len(row["answer"]))


def test_what_is_hidden_is_the_same_for_every_model_and_told_from_both_sides() -> None:
    model = of_bytes("masked-language-modelling", "TransformerForMaskedLM", architecture="encoder")
    one, other = model.sit(TEXTS), model.sit(TEXTS)
    assert [each.answer for each in one] == [each.answer for each in other]
    counts = [len(each) for each in model.encoder.pieces([row["text"] for row in TEXTS])]
    assert [each.answer["tokens"] for each in one] == [max(1, round(0.15 * count)) for count in counts]


def test_the_text_goes_on_in_words() -> None:
    model = of_bytes("causal-language-modelling", "TransformerForCausalLM", architecture="decoder")
    given = model.encoder.begun([["to be or"]], model.room, in_turns=False)
    stock = model.forward.model
    (said,) = model.predict([{"text": "to be or"}])
    with model.forward.unpacked():
        expected = likeliest(stock, given.tokens.tolist(), 8)
    assert said.answer == model.encoder.tokenizer.decode(expected).strip()
    assert IGNORED not in expected
