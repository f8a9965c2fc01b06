"""The bundle is a plain Hugging Face directory: others read it without us, and find what we find."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from tasks import recipe, stages
from tasks.data.tokenise import tokenise
from tasks.model import bundle
from tasks.model.finetune import finetune
from tasks.model.package import convert, package
from tasks.records import Bundle, Checked
from tests import makers

TEXTS = [row["text"] for row in makers.messages(40, seed=9)]


def theirs(folder: Path, text: str) -> tuple[str, float]:
    """Label and probability as someone with nothing but transformers would compute them."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        chances = model(**tokenizer(text, return_tensors="pt", truncation=True)).logits.float().softmax(-1)[0]
    best = int(chances.argmax())
    return model.config.id2label[best], float(chances[best])


@pytest.fixture
def bf16(texts: makers.Made) -> Bundle:
    how = recipe.Package(precision="bf16")
    return package.fn(texts.trained, texts.shards, texts.checked, texts.recipe.task, how)


@pytest.mark.parametrize("text", [*TEXTS[:4], "late parcel " * 30])
def test_transformers_alone_gives_the_same_label_and_probability(texts: makers.Made, text: str, tmp_path: Path) -> None:
    folder = texts.folder(texts.bundle, tmp_path)
    (ours,) = bundle.Model.load(folder).predict([text])
    label, score = theirs(folder, text)
    assert ours.answer == label
    assert ours.score == pytest.approx(score, abs=1e-5)


def test_transformers_alone_tags_words_alike(words: makers.Made, tmp_path: Path) -> None:
    folder = words.folder(words.bundle, tmp_path)
    row = makers.sentences(1, seed=9)[0]["tokens"]
    (ours,) = bundle.Model.load(folder).predict([row])
    model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
    given = AutoTokenizer.from_pretrained(folder, local_files_only=True)([row], is_split_into_words=True)
    with torch.inference_mode():
        best = model(torch.tensor(given["input_ids"])).logits.argmax(-1)[0].tolist()
    places = given.word_ids(0)
    tags = [model.config.id2label[best[places.index(word)]] for word in range(len(row))]
    assert ours.answer == tags


def test_a_bundle_of_bf16_is_half_as_large_and_answers_alike(texts: makers.Made, bf16: Bundle, tmp_path: Path) -> None:
    folder = texts.folder(bf16, tmp_path)
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    whole = texts.bundle.files["model.safetensors"].size
    assert bf16.files["model.safetensors"].size < 0.6 * whole
    model = bundle.Model.load(folder)
    model.check()
    found = model.predict(TEXTS)
    exact = bundle.Model.load(texts.folder(texts.bundle, tmp_path)).predict(TEXTS)
    assert sum(one.answer == other.answer for one, other in zip(found, exact, strict=True)) >= 38
    assert [one.score for one in found] == pytest.approx([other.score for other in exact], abs=0.05)


def test_transformers_alone_computes_a_bundle_of_bf16_in_bf16(texts: makers.Made, bf16: Bundle, tmp_path: Path) -> None:
    folder = texts.folder(bf16, tmp_path)
    ours = bundle.Model.load(folder)
    for text in TEXTS[:4]:
        label, score = theirs(folder, text)
        assert ours.predict([text])[0].answer == label
        assert ours.predict([text])[0].score == pytest.approx(score, abs=1e-5)


def test_a_number_that_is_no_weight_stays_what_it_is(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2), "position_ids": torch.arange(300)}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "bf16")
    found = load_file(tmp_path / "b.safetensors")
    assert found["position_ids"].tolist() == list(range(300))
    assert found["weight"].dtype == torch.bfloat16


def test_a_bundle_describes_itself(texts: makers.Made, tmp_path: Path) -> None:
    described = json.loads((texts.folder(texts.bundle, tmp_path) / "bundle.json").read_text())
    golden = described.pop("golden")
    assert described == {
        "format": 3,
        "task": "text-classification",
        "labels": sorted(makers.SUBJECTS),
        "length": 24,
        "precision": "fp32",
    }
    assert len(golden) == texts.recipe.package.golden
    assert set(golden[0]) == {"input", "answer", "score"}


def test_labels_have_the_numbers_in_a_bundle_that_checked_rows_gave_them(texts: makers.Made, tmp_path: Path) -> None:
    wanted, task, old = ("praise", "billing", "delivery"), texts.recipe.task, texts.checked
    assert wanted != old.labels
    facts = {"rows": old.rows, "quarantined": old.quarantined, "labels": wanted}
    checked = Checked.of(old.files, parents=old.parents, **facts)
    shards = tokenise.fn(checked, texts.base, task, texts.recipe.tokens)
    trained = finetune.fn(texts.base, shards, task, texts.recipe.train, "small", texts.recipe.digest)
    made = package.fn(trained, shards, checked, task, texts.recipe.package)
    folder = stages.checkout(made.files, tmp_path / "bundle")
    described, config = (json.loads((folder / name).read_text()) for name in ("bundle.json", "config.json"))
    assert made.labels == tuple(described["labels"]) == wanted
    assert config["id2label"] == {str(number): label for number, label in enumerate(wanted)}
    assert config["label2id"] == {label: number for number, label in enumerate(wanted)}
    rows = makers.messages(40, seed=9)
    answers = bundle.Model.load(folder).predict([row["text"] for row in rows])
    assert sum(each.answer == row["label"] for each, row in zip(answers, rows, strict=True)) > 30


def test_the_history_of_training_is_not_served(texts: makers.Made) -> None:
    assert "history.jsonl" in texts.trained.files
    assert "history.jsonl" not in texts.bundle.files
    assert texts.bundle.bytes_total == sum(file.size for file in texts.bundle.files.values())
    assert texts.bundle.parents == (texts.trained.digest, texts.shards.digest, texts.checked.digest)


def test_the_same_model_is_packaged_to_the_same_bytes(texts: makers.Made, tmp_path: Path) -> None:
    from tasks.model.package import pack

    again = pack(tmp_path, texts.trained, texts.shards, texts.checked, texts.recipe.task, texts.recipe.package)
    assert again == texts.bundle
    assert stages.find(
        stages.package(texts.trained, texts.shards, texts.checked, texts.recipe.task, texts.recipe.package)
    )
