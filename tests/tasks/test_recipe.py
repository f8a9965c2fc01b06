"""A file becomes a Recipe: defaults, digests, changes from the command line, and faults with their lines.

Whole bad recipes stand in `tests/corpus/recipe`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from tasks import problems, recipe
from tasks.errors import BadInput
from tasks.metrics.marks import LOWER
from tasks.recipe import Architecture, Recipe, Section, TrainedTokenizer, reading

SHORT = "name: a\ntask: text-classification\ndata: {source: rows.jsonl}\nmodel: {base: minilm}\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return written


def refusal(path: Path, *changes: str) -> str:
    with pytest.raises(BadInput) as caught:
        recipe.load(path, changes)
    return str(caught.value)


def test_a_short_recipe_is_a_whole_one(write: Any) -> None:
    found = recipe.load(write(SHORT))
    assert (found.train.epochs, found.train.learning_rate, found.tokens.length) == (3, 5e-5, 128)
    assert (found.data.split.by, found.data.split.validation, found.rules.leaks) == ("auto", 0.1, "drop")
    assert (found.gate.confidence, found.gate.floors, found.metric) == (0.95, {}, "macro_f1")


def sections(section: type[Section]) -> list[type[Section]]:
    inner = [each for field in section.model_fields.values() for each in reading._sections(field.annotation)]
    return [section, *(deeper for each in inner for deeper in sections(each))]


@pytest.mark.parametrize("section", sections(Recipe), ids=lambda section: section.__name__)
def test_every_dial_has_one_default_that_keeps_its_own_rules(section: type[Section]) -> None:
    asked = {name for name, field in section.model_fields.items() if field.is_required()}
    own = {"architecture", "module", "class_", "metric", "below"}
    assert asked <= {"name", "task", "data", "model", "source", "base", "train", *own}
    for name, field in section.model_fields.items():
        if field.is_required():
            continue
        default = field.get_default(call_default_factory=True)
        assert default is not PydanticUndefined
        plain = default.model_dump() if isinstance(default, Section) else default
        alone = section.__pydantic_validator__.validate_assignment(section.model_construct(), name, plain)
        assert getattr(alone, name) == default


def test_the_walk_over_sections_finds_those_that_stand_in_a_choice() -> None:
    assert {Architecture, TrainedTokenizer, recipe.Files, recipe.SplitBy} <= set(sections(Recipe))


def test_the_digest_knows_neither_the_order_of_keys_nor_defaults_written_out(write: Any) -> None:
    short = recipe.load(write(SHORT))
    turned = recipe.load(write("".join(reversed(SHORT.splitlines(keepends=True)))))
    whole = recipe.load(write(json.dumps(short.model_dump(mode="json"))))
    spelled = recipe.load(write(SHORT + "train: {learning_rate: 0.00005, epochs: 3}\n"))
    assert short.digest == turned.digest == whole.digest == spelled.digest


@pytest.mark.parametrize(
    "change", ["train.epochs=4", "name=b", "data.source=other.jsonl", "gate.seed=1", "rules.labels=[a, b]"]
)
def test_every_change_of_a_value_changes_the_digest(write: Any, change: str) -> None:
    path = write(SHORT)
    assert recipe.load(path, [change]).digest != recipe.load(path).digest


def test_a_stored_recipe_reads_back_as_itself(write: Any) -> None:
    found = recipe.load(
        write(SHORT + "gate: {floors: {accuracy: 0.5, recall_per_class: 0.1}}\nexam: {slices: [length, product]}\n")
    )
    again = Recipe.model_validate_json(found.model_dump_json())
    assert again == found
    assert again.digest == found.digest


def test_a_recipe_cannot_be_changed(write: Any) -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe.load(write(SHORT)).train.epochs = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ("train.learning_rate=1e-5", "train.learning_rate", 1e-5),
        ("train.precision=bf16", "train.precision", "bf16"),
        ("train.micro_batch=~", "train.micro_batch", None),
        ("exam.slices=[length, product]", "exam.slices", ("length", "product")),
        ("gate.floors={accuracy: 0.5}", "gate.floors", {"accuracy": 0.5}),
        ("gate.floors.accuracy=0.5", "gate.floors", {"accuracy": 0.5}),
        ("model.base={architecture: encoder, d_model: 64}", "model.base.d_model", 64),
        ("data.source=a=b.jsonl", "data.source", "a=b.jsonl"),
    ],
)
def test_a_change_is_read_as_the_file_would_be(write: Any, change: str, place: str, value: object) -> None:
    found: Any = recipe.load(write(SHORT), [change])
    for part in place.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_last_of_two_changes_holds(write: Any) -> None:
    assert recipe.load(write(SHORT), ["train.epochs=4", "train.epochs=5"]).train.epochs == 5


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("train.epochs", "E-SET --set 'train.epochs': wanted section.key=value, for example train.epochs=2"),
        ("=3", "E-SET --set '=3': wanted section.key=value"),
        ("train..epochs=3", "E-SET --set 'train..epochs=3': wanted section.key=value"),
        ("name.first=3", "E-SET --set 'name.first=3': name is 'a', not a section"),
        ("train.epochs=!!int 3", "E-YAML-TAG --set train.epochs line 1: tag"),
        ("train.epochs=0", "E-RECIPE recipe.yaml: train.epochs: found 0, wanted a number greater than or equal to 1"),
        ("name=NO", "E-RECIPE recipe.yaml: line 1 name: found 'NO', wanted text of the form"),
        ("train.sharding=full", "E-RECIPE recipe.yaml: train.sharding: found 'full' with launch 'here', wanted launch"),
        ("train.epoch=2", "E-RECIPE recipe.yaml: train.epoch: unknown key (did you mean 'epochs'?)"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(write: Any, change: str, answer: str) -> None:
    assert refusal(write(SHORT), change).startswith(answer)


def test_every_fault_of_a_recipe_stands_in_one_error_with_its_line(write: Any) -> None:
    told = refusal(write("name: A\ntask: translatoin\ndata:\n  text: ''\ntrain: {batch: 0}\nseed: 3\n"))
    assert told.startswith("E-RECIPE recipe.yaml: line 1 name: found 'A', wanted text of the form")
    for fault in (
        "line 2 task: found 'translatoin', wanted one of causal-language-modelling, dialogue, instruction, ",
        "line 3 data.source: missing, and it has no default",
        "line 4 data.text: found '', wanted text of the form",
        "model: missing, and it has no default",
        "line 5 train.batch: found 0, wanted a number greater than or equal to 1",
        "line 6 seed: unknown key",
    ):
        assert fault in told


def test_more_than_ten_faults_are_counted(write: Any) -> None:
    assert refusal(write(SHORT + "".join(f"unknown{n}: 1\n" for n in range(25)))).endswith("; and 15 more")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("trian: {}\n", "trian: unknown key (did you mean 'train'?)"),
        ("train: {learning_rat: 1}\n", "train.learning_rat: unknown key (did you mean 'learning_rate'?)"),
        (
            "tokens: {tokenizer: {train: bpe, vocab: 9}}\n",
            "tokens.tokenizer.vocab: unknown key (did you mean 'vocabulary'?)",
        ),
        ("gate: {floors: {f1_macro: 0.5}}\n", "gate.floors.f1_macro: unknown metric (did you mean 'macro_f1'?)"),
        ("zzz: {}\n", "line 5 zzz: unknown key"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_one_that_was_meant(write: Any, text: str, meant: str) -> None:
    assert meant in refusal(write(SHORT + text))


@pytest.mark.parametrize(
    "location",
    [
        "rows.jsonl",
        "2026/**/*.parquet",
        "/data/rows",
        "s3://tickets/2026/day=12:30/part-?.jsonl",
        "s3://tickets/mail@example/rows.jsonl",
        "hf://stanfordnlp/sst2@8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        "registry://support-intent@champion",
    ],
)
def test_a_place_that_may_be_named(write: Any, location: str) -> None:
    assert recipe.load(write(SHORT), [f"data.source={json.dumps(location)}"]).data.source == location


@pytest.mark.parametrize(
    "location",
    [
        "s3://key:hunter2@bucket/rows",
        "s3://key:hunter2/x@bucket/rows",
        "s3://hunter2@bucket/rows",
        "s3://hunter2@bucket",
        "hf://hunter2@org/name@8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        "https://reader:hunter2@host/rows.jsonl",
        "https://host/rows.jsonl?signature=hunter2",
        "postgresql://reader:hunter2@host/rows",
    ],
)
def test_a_secret_inside_a_url_is_refused_and_not_shown(write: Any, location: str) -> None:
    for key in ("data.source", "data.source.train", "model.base"):
        told = refusal(write(SHORT.replace("{source: rows.jsonl}", "{text: t}")), f"{key}={json.dumps(location)}")
        assert "(value not shown)" in told
        assert "hunter2" not in told


def test_a_metric_must_be_one_of_the_task(write: Any) -> None:
    tags = SHORT.replace("text-classification", "token-classification")
    assert recipe.load(write(tags), ["exam.metric=entity_f1"]).metric == "entity_f1"
    assert recipe.load(write(tags), ["train.metric=loss"]).train.metric == "loss"
    assert "line 4" not in refusal(write(tags), "train.metric=macro_f1")
    assert "train.metric: found 'macro_f1', wanted a metric of token-classification: entity_f1" in refusal(
        write(tags), "train.metric=macro_f1"
    )


def test_a_vocabulary_of_bytes_has_room_for_all_of_them(write: Any) -> None:
    told = refusal(write(SHORT), "tokens.tokenizer={train: byte-bpe, vocabulary: 200}")
    assert "tokens.tokenizer.vocabulary: found 200, wanted 261 or more" in told


def test_only_a_task_that_writes_is_told_how(write: Any) -> None:
    told = refusal(write(SHORT), "package.decoding={beams: 4}")
    assert "package.decoding: found a mapping, wanted none: text-classification writes no texts" in told
    written = SHORT.replace("text-classification", "sequence-to-sequence")
    assert recipe.load(write(written), ["package.decoding={beams: 4}"]).package.decoding.beams == 4


WRITTEN = ("causal-language-modelling", "dialogue", "instruction", "masked-language-modelling")
PERFECT: dict[str, list[Any]] = {
    "text-classification": ["a", "b"],
    "pair-classification": ["a", "b"],
    "multi-label-classification": [["a", "b"], ["b"], []],
    "token-classification": [["B-X"], ["O"]],
    "regression": [1.0, 2.5],
    "similarity": [1.0, 2.5],
    "relevance": [{"text": "a", "relevant": 0.0}, {"text": "a", "relevant": 1.0}],
    "multiple-choice": [0, 2],
    "question-answering": [["to be"], []],
    "sequence-to-sequence": ["to be or not to be", "that is the question"],
    **{task: [{"nats": 0.0, "tokens": 3.0, "right": 3.0, "characters": 9.0}] for task in WRITTEN},
}


@pytest.mark.parametrize("task", problems.names())
def test_every_metric_that_a_recipe_may_name_is_measured(task: str) -> None:
    problem, truth = problems.named(task), PERFECT[task]
    said = {"question-answering": ["to be", ""], "relevance": [0.1, 0.9]}.get(task, truth)
    marks = problem.marks(truth, said, ("a", "b") if "token" not in task else ("O", "B-X", "I-X"))
    best = {metric: float(metric not in LOWER or metric == "perplexity") for metric in problem.metrics}
    assert {metric: float(marks.score(metric)) for metric in problem.metrics} == pytest.approx(best)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path / "no.yaml")
        == f"E-RECIPE-MISSING {tmp_path}/no.yaml: No such file or directory; name a recipe file"
    )
