"""Advice: a table whose first line is to be taken, with reasons for what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForMaskedLM

from flows import advise, candidates
from flows.__main__ import main
from infra.settings import settings
from tasks import recipe
from tasks.data import tokenisers
from tasks.model import hardware, pace
from tests import makers
from tests.tasks.data.test_tokenisers import trained

OWN = "{architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}"
RECIPE = """
name: tiny
task: text-classification
data: {source: rows.jsonl}
tokens: {length: 40, tokenizer: {train: wordpiece, vocabulary: 200}}
model: {base: %s}
train: {epochs: 2, batch: 16, precision: fp32}
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe; below the models root a BERT of 40 positions and one of 20."""
    monkeypatch.setattr(pace, "ENOUGH", 0.1)
    makers.rows_of("text-classification", 200, tmp_path)
    tokenizer = trained("wordpiece")
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    for positions in (20, 40):
        config = BertConfig(**sizes, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=positions)
        folder = tmp_path / "models" / f"bert{positions}"
        BertForMaskedLM(config).save_pretrained(folder)
        tokenisers.write(tokenizer, folder, tokenisers.config_of_trained(positions))
    monkeypatch.setenv("VERNAL_MODELS", str(tmp_path / "models"))
    settings.cache_clear()
    (tmp_path / "recipe.yaml").write_text(RECIPE % OWN)
    return tmp_path / "recipe.yaml"


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    code = main(["advise", *map(str, arguments), "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out)["bases"] if printed.out else None, "".join(printed.err.splitlines()[-1:])


def test_bases_that_can_be_taken_come_with_their_numbers_and_others_with_the_answer_of_a_run(
    given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bases = ["bert20", "bert40", OWN, "nowhere", "{architecture: encoder-decoder}"]
    code, found, _ = told(capsys, given, *(part for base in bases for part in ("--base", base)))
    assert code == 0
    assert {each["base"] for each in found[:2]} == {"bert40", "encoder 1 x 32"}
    refused = {each["base"]: each["refused"].split()[0] for each in found[2:]}
    expected = {"bert20": "E-TOK-LENGTH", "nowhere": "E-SOURCE-MISSING", "encoder-decoder 4 x 256": "E-MODEL-TASK"}
    assert refused == expected
    bert = next(each for each in found if each["base"] == "bert40")
    assert bert["set"] == ["model.base=bert40", "tokens.tokenizer=base"]
    assert bert["steps"] == 2 * 10
    assert bert["length"] == 40
    assert bert["seconds"] == pytest.approx(sum(bert["parts"].values()), abs=0.01)
    assert 0 <= bert["probe"] <= 1
    assert bert["memory"] > 7e8


def test_a_run_reuses_what_was_made(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, (bert,), _ = told(capsys, given, "--base", "bert40")
    main(["check", str(given), *(part for change in bert["set"] for part in ("--set", change)), "--json"])
    checked = json.loads(capsys.readouterr().out)
    reused = [verb for verb, stage in checked["stages"].items() if stage["reused"]]
    assert reused == ["ingest", "validate", "load", "tokenise"]
    assert checked["memory"]["bytes"] == bert["memory"]


def test_people_get_an_aligned_table_with_costs_and_the_command_that_takes_its_first_line(
    given: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERNAL_PRICE_PER_HOUR", "3600")
    settings.cache_clear()
    assert main(["advise", str(given), "--base", "bert20", "--base", "bert40"]) == 0
    title, _, heads, first, refused, _, command = capsys.readouterr().out.rstrip().split("\n")
    assert title == "tiny: text-classification, rows of up to 40 tokens, on cpu"
    assert heads.split("  ")[-1] == "cost"
    assert len(first) == len(heads)
    assert first.split()[0] == "bert40"
    assert refused.split()[:2] == ["bert20", "E-TOK-LENGTH"]
    assert command == f"  vernal run {given} --set model.base=bert40 --set tokens.tokenizer=base"
    (_, (bert,), _) = told(capsys, given, "--base", "bert40")
    assert bert["cost"] == pytest.approx(bert["seconds"], abs=0.001)


def test_without_a_price_there_are_no_costs(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", str(given), "--base", "bert40"]) == 0
    assert "cost" not in capsys.readouterr().out


def test_where_no_base_can_be_taken_the_answer_is_an_error(
    given: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "room", lambda _: 500_000_000)
    code, (bert,), last = told(capsys, given, "--base", "bert40")
    assert code == 2
    assert bert["refused"].startswith("E-MEMORY a run takes about 0.")
    assert last.startswith("E-ADVISE-NONE none of 1 bases")


def test_several_processes_are_not_timed(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, last = told(capsys, given, "--base", "bert40", "--set", "train.launch=torchrun")
    assert (code, found) == (2, None)
    assert last.startswith("E-ADVISE-LAUNCH train.launch torchrun")


def test_by_itself_the_recipe_s_own_base_is_compared_with_what_is_at_hand(given: Path) -> None:
    found = candidates.of(given, ["train.epochs=1"], [])
    assert [each.name for each in found] == [
        "encoder 1 x 32",
        "bert20",
        "bert40",
        "encoder 2 x 128",
        "encoder 4 x 256",
        "encoder 6 x 384",
    ]
    assert found[0].changes == ()
    assert {each.recipe.train.epochs for each in found} == {1}


def test_a_base_is_named_once_and_gets_the_tokenizer_that_it_needs(given: Path) -> None:
    given.write_text((RECIPE % "bert40").replace(", tokenizer: {train: wordpiece, vocabulary: 200}", ""))
    bert, own = candidates.of(given, [], ["bert40", OWN, OWN])
    assert (bert.changes, bert.recipe.tokens.tokenizer) == (("model.base=bert40",), "base")
    assert own.changes[1:] == ("tokens.tokenizer={train: bpe, vocabulary: 8000}",)
    assert isinstance(own.recipe.tokens.tokenizer, recipe.TrainedTokenizer)


def advised(name: str, seconds: float | None, probe: float | None = None) -> advise.Advice:
    candidate = candidates.Candidate(makers.recipe(model={"base": name}))
    if seconds is None:
        return advise.Advice(candidate, "E-NO no")
    taken = pace.Pace(1, 1, "packed", {"steps": pace.np.array([seconds, seconds])})
    return advise.Advice(candidate, pace=taken, probe=probe)


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([("slow", 9, 0.8), ("fast", 1, 0.76), ("weak", 0.5, 0.74)], "fast slow weak"),
        ([("weak", 1, 0.5), ("weaker", 0.5, 0.46), ("strong", 9, 0.9)], "strong weaker weak"),
        ([("b", 2, None), ("a", 1, None)], "a b"),
        ([("no", None, None), ("poor", 9, 0.0)], "poor no"),
    ],
)
def test_the_fastest_of_those_that_a_probe_cannot_tell_apart_comes_first(found: Any, order: str) -> None:
    ranked = advise.ranked([advised(*each) for each in found])
    assert " ".join(each.candidate.name for each in ranked) == order
