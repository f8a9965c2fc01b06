"""A base that cannot answer a task is refused before anything is computed, with what could."""

from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto import modeling_auto

from flows.__main__ import main
from tasks import fits, problems

OURS = {"model_type": fits.OURS}
BASES: dict[str, dict[str, Any]] = {
    "our encoder": OURS | {"architecture": "encoder"},
    "our decoder": OURS | {"architecture": "decoder"},
    "our encoder-decoder": OURS | {"architecture": "encoder-decoder"},
    "BERT": {"model_type": "bert"},
    "Llama": {"model_type": "llama"},
    "T5": {"model_type": "t5", "is_encoder_decoder": True},
    "BART": {"model_type": "bart", "is_encoder_decoder": True},
    "a module": {"model_type": fits.MODULE},
}
DECODERS, ENCODERS, BOTH = {"our decoder", "Llama"}, {"our encoder", "BERT"}, {"our encoder-decoder", "T5", "BART"}
LABEL = DECODERS | ENCODERS | {"T5", "BART", "a module"}
ABLE = {
    "causal-language-modelling": DECODERS,
    "instruction": DECODERS,
    "dialogue": DECODERS,
    "masked-language-modelling": ENCODERS,
    "sequence-to-sequence": BOTH,
    "question-answering": LABEL - {"a module"},
    "token-classification": LABEL - {"BART"},
}


@pytest.mark.parametrize("task", problems.names())
def test_who_can_answer_a_task_is_told_from_its_config(task: str) -> None:
    problem = problems.named(task)
    able = {name for name, config in BASES.items() if fits.unfit(problem, config) is None}
    assert able == ABLE.get(task, LABEL)


def test_encoders_are_those_of_transformers_that_fill_gaps_with_one_stack() -> None:
    masked = set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES) - {fits.OURS}
    assert masked - set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES) == fits.ENCODERS


def test_taggers_are_those_of_transformers_that_have_two_stacks_and_a_head_for_each_token() -> None:
    tagging = set(modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES)
    two_stacks = set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    assert fits.TAGGERS == {each for each in tagging & two_stacks if "asr" not in each}, "those that hear are not asked"


def test_check_says_what_could_be_taken_instead(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: x\ntask: masked-language-modelling\ndata: {source: rows.jsonl}\n"
        "tokens: {tokenizer: {train: byte-bpe}}\nmodel: {base: {architecture: decoder}}\n"
    )
    assert main(["check", str(recipe)]) != 0
    told = capsys.readouterr().err
    assert "E-MODEL-TASK" in told
    assert "it is a decoder, and a gap is told from both of its sides; take an encoder" in told
