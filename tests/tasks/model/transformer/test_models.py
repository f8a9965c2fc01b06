"""Whole models: counted, saved, read back, asked for words, and made to learn 32 rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch.nn import functional

from tasks.model.forward import Forward
from tasks.model.transformer import Transformer, TransformerConfig
from tasks.problems.contract import Reads
from tests.tasks.model.transformer import made

HEADS = [
    (hf.AutoModelForSequenceClassification, "encoder"),
    (hf.AutoModelForSequenceClassification, "decoder"),
    (hf.AutoModelForTokenClassification, "encoder"),
    (hf.AutoModelForTokenClassification, "decoder"),
    (hf.AutoModelForQuestionAnswering, "encoder"),
    (hf.AutoModelForQuestionAnswering, "decoder"),
    (hf.AutoModelForMaskedLM, "encoder"),
    (hf.AutoModelForCausalLM, "decoder"),
    (hf.AutoModelForSeq2SeqLM, "encoder-decoder"),
]
WRITERS = HEADS[-2:]


def named(value: Any) -> str:
    return getattr(value, "__name__", str(value)).removeprefix("AutoModelFor")


def test_nine_sizes_make_a_model_that_is_read_back_and_its_parameters_are_counted_by_a_formula(tmp_path: Path) -> None:
    layers, width, inner, words, targets, known, known_target = 3, 32, 48, 60, 50, 40, 44
    sizes = {
        "num_layers": layers,
        "d_model": width,
        "num_heads": 4,
        "dff": inner,
        "input_vocab_size": words,
        "target_vocab_size": targets,
        "pe_input": known,
        "pe_target": known_target,
        "max_length": 30,
    }
    config = TransformerConfig(architecture="encoder-decoder", positions="learned", tie_embeddings=False, **sizes)
    norm, attention, forward = 2 * width, 4 * width * width, 3 * width * inner
    encoder = layers * (attention + forward + 2 * norm) + norm
    decoder = layers * (2 * attention + forward + 3 * norm) + norm
    tables = (words + targets + known + known_target) * width
    model = hf.AutoModelForSeq2SeqLM.from_config(config)
    assert model.num_parameters() == encoder + decoder + tables + targets * width
    rows = {"input_ids": made.ids(2, 9), "decoder_input_ids": made.ids(2, 6) % 50}
    logits = model.eval()(**rows).logits
    assert logits.shape == (2, 6, targets)
    model.save_pretrained(tmp_path)
    again = hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert {name: getattr(again.config, name) for name in sizes} == sizes
    assert torch.equal(again.eval()(**rows).logits, logits)


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
@pytest.mark.parametrize("glu", [True, False])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_parameters_of_one_stack_are_counted_by_a_formula(architecture: str, glu: bool, norm: str) -> None:
    body = made.body(architecture, glu=glu, norm=norm)
    forward = 3 * 32 * 48 if glu else 2 * 32 * 48 + 48 + 32
    layer = 4 * 32 * 32 + forward + 2 * 2 * 32
    assert body.num_parameters() == 60 * 32 + 2 * layer + (2 * 32 if norm == "pre" else 0)


@pytest.mark.parametrize(("auto", "architecture"), HEADS, ids=named)
def test_a_saved_model_is_read_back_to_the_bit(auto: Any, architecture: str, tmp_path: Path) -> None:
    model = made.model(auto, architecture, positions="learned", num_labels=3)
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path, local_files_only=True).eval()
    for name in TransformerConfig.__annotations__:
        assert getattr(again.config, name) == getattr(model.config, name)
    assert torch.equal(again(made.ids())[0], model(made.ids())[0])
    tables = [name for name in load_file(tmp_path / "model.safetensors") if "embed_tokens" in name or "lm_head" in name]
    assert len(tables) == 1


def test_usual_names_of_sizes_are_known() -> None:
    config = made.config("encoder")
    config.update({"vocab_size": 70, "max_position_embeddings": 20})
    assert (config.input_vocab_size, config.max_length, config.target_vocab) == (70, 20, 70)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 2, 4)
    assert (config.intermediate_size, config.tie_word_embeddings) == (48, True)


@pytest.mark.parametrize(
    ("dials", "told"),
    [
        ({"num_heads": 5}, "num_heads 5"),
        ({"d_model": 20}, "rotary"),
        ({"d_model": 33, "num_heads": 1, "positions": "sinusoidal"}, "sinusoidal"),
        ({"pe_input": 39}, "pe_input 39"),
        ({"architecture": "encoder-decoder", "target_vocab_size": 50}, "one vocabulary"),
    ],
    ids=str,
)
def test_sizes_that_do_not_go_together_are_refused(dials: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TransformerConfig(**{**made.SIZES, **dials})


@pytest.mark.parametrize(
    ("auto", "architecture"),
    [
        (hf.AutoModelForSequenceClassification, "encoder-decoder"),
        (hf.AutoModelForTokenClassification, "encoder-decoder"),
        (hf.AutoModelForQuestionAnswering, "encoder-decoder"),
        (hf.AutoModelForMaskedLM, "decoder"),
        (hf.AutoModelForCausalLM, "encoder"),
        (hf.AutoModelForSeq2SeqLM, "decoder"),
    ],
    ids=named,
)
def test_a_head_that_cannot_read_an_architecture_says_why(auto: Any, architecture: str) -> None:
    with pytest.raises(ValueError, match=f"of an {architecture}, wanted"):
        made.model(auto, architecture)


@pytest.mark.parametrize(("auto", "architecture"), HEADS, ids=named)
@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
def test_every_model_is_packed(auto: Any, architecture: str, positions: str) -> None:
    tokens = (hf.AutoModelForTokenClassification, hf.AutoModelForQuestionAnswering)
    reads: Reads = "rows" if auto is hf.AutoModelForSequenceClassification else "tokens" if auto in tokens else "read"
    assert Forward(made.model(auto, architecture, positions=positions), "cpu", reads=reads).way == "packed"


@pytest.mark.parametrize(("auto", "architecture"), HEADS[:6], ids=named)
def test_padding_changes_nothing(auto: Any, architecture: str) -> None:
    model, ids = made.model(auto, architecture), made.ids()
    padded = functional.pad(ids, (0, 4))
    found = model(padded, attention_mask=(padded > 0).long())[0]
    assert torch.allclose(found[:, :7] if found.shape[1] == 11 else found, model(ids)[0], atol=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
def test_a_decoder_does_not_see_what_comes_next(positions: str) -> None:
    model, ids = made.model(hf.AutoModelForCausalLM, "decoder", positions=positions), made.ids(2, 12)
    before = model(ids).logits
    ids[:, 8] = 59 - ids[:, 8] + 5
    after = model(ids).logits
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


def test_what_is_written_depends_on_the_source() -> None:
    model, target = made.model(hf.AutoModelForSeq2SeqLM, "encoder-decoder"), made.ids(2, 6)
    one, other = (model(made.ids(2, 9, seed), decoder_input_ids=target).logits for seed in (1, 2))
    memory = model.get_encoder()(made.ids(2, 9, 1))
    same = model(encoder_outputs=memory, decoder_input_ids=target).logits
    memory["last_hidden_state"] = torch.zeros_like(memory.last_hidden_state)
    nothing = model(encoder_outputs=memory, decoder_input_ids=target).logits
    assert torch.equal(one, same)
    assert (one - other).abs().max() > 1e-2
    assert (one - nothing).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "none"])
def test_the_order_of_tokens_counts_when_positions_are_told(positions: str) -> None:
    model = made.model(hf.AutoModelForSequenceClassification, "encoder", positions=positions)
    ids = made.ids(2, 12)
    off = (model(ids).logits - model(ids[:, torch.randperm(12)]).logits).abs().max()
    assert off < 1e-5 if positions == "none" else off > 1e-3


@pytest.mark.parametrize(("auto", "architecture"), WRITERS, ids=named)
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("tie", [True, False])
def test_words_written_with_a_cache_are_those_without(auto: Any, architecture: str, beams: int, tie: bool) -> None:
    model, ids = made.model(auto, architecture, tie_embeddings=tie), made.ids()
    ids[0, :3] = 0  # padded on the left, as rows are for writing
    given = {"input_ids": ids, "attention_mask": (ids > 0).long(), "max_new_tokens": 12, "num_beams": beams}
    found = model.generate(**given, do_sample=False)
    assert torch.equal(found, model.generate(**given, do_sample=False, use_cache=False))
    alone = model.generate(ids[:1, 3:], max_new_tokens=12, num_beams=beams, do_sample=False)
    written = found[0, 7:] if architecture == "decoder" else found[0]
    own = alone[0, 4:] if architecture == "decoder" else alone[0]
    assert torch.equal(written[: len(own)], own)


@pytest.mark.parametrize(("auto", "architecture"), WRITERS, ids=named)
def test_a_larger_vocabulary_keeps_the_vectors_of_old_words(auto: Any, architecture: str) -> None:
    model = made.model(auto, architecture)
    old = model.get_input_embeddings().weight.detach().clone()
    assert old.shape[0] == model.config.vocab_size == 60
    model.resize_token_embeddings(75)
    table = model.get_input_embeddings().weight
    assert table.shape[0] == model.config.vocab_size == model(made.ids(1, 3)).logits.shape[-1] == 75
    assert torch.equal(table[:60], old)
    assert model.get_output_embeddings().weight is table
    assert model.get_decoder().embed_tokens.weight is table


@pytest.mark.parametrize(("auto", "architecture"), HEADS, ids=named)
@pytest.mark.parametrize("reentrant", [True, False])
def test_layers_computed_again_give_the_same_gradient(auto: Any, architecture: str, reentrant: bool) -> None:
    gradients = []
    for again in (False, True):
        model = made.model(auto, architecture, dropout=0.0).train()
        if again:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
        model(made.ids())[0].square().sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-5 * gradients[0].abs().max()


def test_states_and_weights_are_shown() -> None:
    model = made.model(hf.AutoModelForSeq2SeqLM, "encoder-decoder")
    model.set_attn_implementation("eager")
    found = model(made.ids(3, 7), decoder_input_ids=made.ids(3, 5), output_hidden_states=True, output_attentions=True)
    assert [each.shape for each in found.encoder_hidden_states] == [(3, 7, 32)] * 3
    assert [each.shape for each in found.decoder_attentions] == [(3, 4, 5, 5)] * 2
    assert [each.shape for each in found.cross_attentions] == [(3, 4, 5, 7)] * 2
    assert torch.allclose(found.cross_attentions[0].sum(-1), torch.ones(3, 4, 5), atol=1e-5)


IDS = made.ids(32, 8)
IDS[:, 0] = torch.arange(32) + 5  # what begins a row tells which one it is
TOLD: dict[str, tuple[Any, Any, dict[str, torch.Tensor], int]] = {
    "classes of an encoder": (*HEADS[0], {"labels": IDS[:, 3] % 3}, 3),
    "classes of a decoder": (*HEADS[1], {"labels": IDS[:, 3] % 3}, 3),
    "numbers": (*HEADS[0], {"labels": IDS[:, 3] / 60}, 1),
    "tags": (*HEADS[2], {"labels": IDS.flip(1) % 3}, 3),
    "spans": (*HEADS[4], {"start_positions": IDS.argmin(1), "end_positions": IDS.argmax(1)}, 2),
    "masked words": (*HEADS[6], {"labels": IDS}, 2),
    "next words": (*HEADS[7], {"labels": IDS}, 2),
    "words of a target": (*HEADS[8], {"labels": IDS.flip(1)}, 2),
}


@pytest.mark.parametrize("name", TOLD)
def test_32_rows_are_learned_by_heart(name: str) -> None:
    auto, architecture, told, labels = TOLD[name]
    model, ids = made.model(auto, architecture, num_labels=labels).train(), IDS.clone()
    if name == "masked words":
        ids[:, 4] = 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        loss = model(input_ids=ids, **told).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_the_loss_of_numbers_is_the_mean_of_squares() -> None:
    model = made.model(hf.AutoModelForSequenceClassification, "encoder", num_labels=1)
    with torch.no_grad():
        found = model(input_ids=made.ids(), labels=torch.tensor([1.0, 2.0, 3.0]))
    squares = (found.logits[:, 0] - torch.tensor([1.0, 2.0, 3.0])) ** 2
    assert float(found.loss) == pytest.approx(float(squares.mean()))


def test_a_body_without_a_head_is_one_of_transformers(tmp_path: Path) -> None:
    made.model(hf.AutoModelForCausalLM, "decoder").save_pretrained(tmp_path)
    body = hf.AutoModel.from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(body, Transformer)
    assert hf.AutoConfig.from_pretrained(tmp_path).model_type == "vernal-transformer"
