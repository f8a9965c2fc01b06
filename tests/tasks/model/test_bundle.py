"""A bundle answers the same whatever it is asked together with, and knows when it is not itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.data import batches
from tasks.errors import Corrupt
from tasks.model import bundle
from tests import makers

TEXTS = [row["text"] for row in makers.messages(60, seed=9)]
ROWS = [row["tokens"] for row in makers.sentences(60, seed=9)]


@pytest.fixture
def texts_model(texts: makers.Made, tmp_path: Path) -> bundle.Model:
    return bundle.Model.load(texts.folder(texts.bundle, tmp_path))


@pytest.fixture
def words_model(words: makers.Made, tmp_path: Path) -> bundle.Model:
    return bundle.Model.load(words.folder(words.bundle, tmp_path))


def flat(found: list[bundle.Prediction]) -> tuple[list[str], list[float]]:
    """Labels and scores, one a row or one a word."""
    labels, scores = [], []
    for each in found:
        labels += each.answer if isinstance(each.answer, list) else [each.answer]
        scores += each.score if isinstance(each.score, list) else [each.score]
    return labels, scores


def test_answers_come_in_the_order_of_the_rows(texts_model: bundle.Model) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    straight = texts_model.predict(TEXTS)
    mixed = texts_model.predict([TEXTS[place] for place in order])
    labels, scores = flat([straight[place] for place in order])
    assert flat(mixed)[0] == labels
    assert flat(mixed)[1] == pytest.approx(scores, abs=1e-5)
    assert len(set(labels)) > 1


@pytest.mark.parametrize("budget", [1, 40, 200, 100_000])
@pytest.mark.parametrize("kind", ["texts", "words"])
def test_an_answer_does_not_depend_on_what_is_computed_with_it(
    kind: str, budget: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: bundle.Model = request.getfixturevalue(f"{kind}_model")
    rows = TEXTS if kind == "texts" else ROWS
    labels, scores = flat(model.predict(rows))
    monkeypatch.setitem(batches.AT_ONCE, "cpu", budget)
    assert flat(model.predict(rows))[0] == labels
    assert flat(model.predict(rows))[1] == pytest.approx(scores, abs=1e-5)


def test_a_text_gets_one_label_and_words_get_one_each(texts_model: bundle.Model, words_model: bundle.Model) -> None:
    (one,) = texts_model.predict(["my parcel is late"])
    assert one.answer == "delivery"
    assert isinstance(one.score, float)
    assert 0.5 < one.score <= 1
    (each,) = words_model.predict([["anna", "with", "the", "garden"]])
    assert [tag.split("-")[-1] for tag in each.answer] == ["PER", "O", "O", "O"]
    assert isinstance(each.score, list)
    assert len(each.score) == 4


def test_words_beyond_the_limit_are_outside_with_no_probability(words_model: bundle.Model) -> None:
    row = ["with", "oslo"] * 30
    (found,) = words_model.predict([row])
    assert found.truncated
    assert isinstance(found.score, list)
    assert len(found.answer) == len(found.score) == 60
    seen = int(np.count_nonzero(found.score))
    assert 10 < seen < 24
    assert min(found.score[:seen]) > 0
    assert found.answer[seen:] == ["O"] * (60 - seen)
    assert not words_model.predict([row[:8]])[0].truncated


def test_a_text_beyond_the_limit_says_so(texts_model: bundle.Model) -> None:
    short, long = texts_model.predict(["late parcel", "late parcel " * 30])
    assert (short.truncated, long.truncated) == (False, True)


def test_nothing_to_label_is_no_fault(texts_model: bundle.Model, words_model: bundle.Model) -> None:
    assert texts_model.predict([]) == []
    assert isinstance(texts_model.predict([""])[0].answer, str)
    assert words_model.predict([[]])[0] == bundle.Prediction([], [])
    assert words_model.predict([["\u200b", "anna"]])[0].score[0] == 0.0  # type: ignore[index]


def test_a_bundle_gives_the_answers_it_was_packaged_with(texts_model: bundle.Model, words_model: bundle.Model) -> None:
    assert (len(texts_model.golden), len(words_model.golden)) == (8, 8)
    texts_model.check()
    words_model.check()


def swap_labels(folder: Path) -> None:
    config, described = (json.loads((folder / name).read_text()) for name in ("config.json", "bundle.json"))
    described["labels"].reverse()
    config["id2label"] = dict(enumerate(described["labels"]))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "bundle.json").write_text(json.dumps(described))


def draw_the_head_anew(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = torch.randn(tensors["classifier.weight"].shape, generator=torch.manual_seed(0))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def wear_the_body_down(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: 0.9 * each for name, each in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )


@pytest.mark.parametrize("change", [swap_labels, draw_the_head_anew, wear_the_body_down])
@pytest.mark.parametrize("kind", ["texts", "words"])
def test_another_model_in_the_same_folder_is_caught_by_its_golden_inputs(
    kind: str, change: Callable[[Path], None], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made: makers.Made = request.getfixturevalue(kind)
    folder = shutil.copytree(made.folder(made.bundle, tmp_path), tmp_path / "changed", copy_function=shutil.copyfile)
    bundle.Model.load(folder).check()
    change(folder)
    with pytest.raises(Corrupt) as caught:
        bundle.Model.load(folder).check()
    assert caught.value.code == "E-GOLDEN"


def test_a_bundle_of_before_answers_were_called_so_can_still_sit_an_exam(texts: makers.Made, tmp_path: Path) -> None:
    folder = shutil.copytree(texts.folder(texts.bundle, tmp_path), tmp_path / "before")
    described = json.loads((folder / "bundle.json").read_text())
    first = [
        {"input": each["input"]["text"], "label": each["answer"], "score": each["score"]}
        for each in described["golden"]
    ]
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").write_text(json.dumps({**described, "format": 1, "golden": first}))
    bundle.Model.load(folder).check()
    first[0]["label"] = "another"
    (folder / "bundle.json").write_text(json.dumps({**described, "format": 1, "golden": first}))
    with pytest.raises(Corrupt, match="E-GOLDEN"):
        bundle.Model.load(folder).check()
