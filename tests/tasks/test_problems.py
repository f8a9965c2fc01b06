"""Every problem goes the whole way from rows to a report; and a new one is one file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks import problems, stages
from tasks.metrics.marks import LOWER, gain
from tasks.model.bundle import Model
from tests import makers

TOY = '''
"""How many words a text has, told as one of two labels."""

from tasks.problems.text_classification import TextClassification


class Long(TextClassification):
    """Whether a text is long."""

    inputs = {"said": "text"}
    answers = {"label": "label"}


PROBLEM = Long()
'''


def rows_of(task: str, count: int = 300) -> list[dict[str, Any]]:
    """Rows of a problem, whose answers follow from what they say."""
    found = makers.messages(count)
    if task == "pair-classification":
        pairs = zip(found, found[::-1], strict=True)
        return [
            {"text": a["text"], "pair": b["text"], "label": "+".join(sorted({a["label"], b["label"]}))}
            for a, b in pairs
        ]
    if task == "multi-label-classification":
        words = {label: set(names) for label, names in makers.SUBJECTS.items()}
        found = [
            {**row, "text": f"{row['text']} {other['text']}"} for row, other in zip(found, found[::-1], strict=True)
        ]
        return [
            {"text": row["text"], "labels": [name for name in words if words[name] & set(row["text"].split())]}
            for row in found
        ]
    score = {"billing": -1.0, "delivery": 0.0, "praise": 1.0}
    if task == "regression":
        return [{"text": row["text"], "score": score[row["label"]]} for row in found]
    if task == "similarity":
        pairs = zip(found, found[::-1], strict=True)
        return [
            {"text": a["text"], "pair": b["text"], "score": score[a["label"]] + score[b["label"]]} for a, b in pairs
        ]
    if task == "relevance":
        return [shown(number) for number in range(count)]
    if task in WRITTEN:
        return [WRITTEN[task](*each) for each in phrases(count)]
    if task == "question-answering":
        return [asked(number) for number in range(count)]
    if task == "multiple-choice":
        return [chosen(number) for number in range(count)]
    return [{"said": row["text"], "label": str(len(row["text"].split()) > 8)} for row in found]


COLOURS = ("red", "blue", "green", "yellow")


def asked(number: int) -> dict[str, Any]:
    """What colour something has, or who has it; every fourth text does not tell, every third comes in windows.

    One passage in ten is a wrong one.
    """
    draw = np.random.default_rng([0, number])
    colour, name = str(draw.choice(COLOURS)), str(draw.choice(makers.NAMES["PER"]))
    kind, wanted = (("colour", colour), ("person", name))[number % 2]
    told = [word for word in (colour, name) if word != wanted or number % 4 < 3]
    words = draw.permutation([*told, *draw.choice(makers.FILLING, 24 if number % 3 == 0 else 8)]).tolist()
    shown, context = words[0] if draw.random() < 0.1 else wanted, " ".join(words)
    passages = [{"text": shown, "start": context.index(shown)}] if shown in words else []
    return {"question": f"which {kind} ?", "context": context, "answers": passages}


def chosen(number: int) -> dict[str, Any]:
    """Which of two or three texts is praise; one in ten is a wrong one."""
    draw = np.random.default_rng([1, number])
    subjects = draw.permutation([*list(makers.SUBJECTS)[:2]])[: 1 + number % 2]
    order = draw.permutation([*subjects, "praise"]).tolist()
    texts = [" ".join([*draw.choice(makers.SUBJECTS[each], 2), *draw.choice(makers.FILLING, 3)]) for each in order]
    right = int(draw.integers(len(order))) if draw.random() < 0.1 else order.index("praise")
    return {"question": "which is praise ?", "choices": texts, "answer": right}


def shown(number: int) -> dict[str, Any]:
    """One of the texts on a page, and whether it was taken: praise is, with one chance in ten of a mistake."""
    draw = np.random.default_rng([2, number])
    told = str(draw.choice(list(makers.SUBJECTS)))
    words = draw.permutation([*draw.choice(makers.SUBJECTS[told], 2), *draw.choice(makers.FILLING, 4)])
    page = " ".join(draw.choice(makers.FILLING[:4], 2))
    return {"text": page, "pair": " ".join(words), "relevant": float((told == "praise") != (draw.random() < 0.1))}


def phrases(count: int) -> Iterator[tuple[str, str]]:
    """Words, and a text that follows from the first of them, whatever stands between: counting letters is no help."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        subject = str(draw.choice(list(makers.SUBJECTS)))
        words = [*map(str, draw.choice(makers.FILLING, 3)), "about"]
        told = [part for word in makers.SUBJECTS[subject] for part in (word, *draw.choice(["my", "the"], 2))]
        yield f"{subject} {' '.join(words)}", " ".join(told)


WRITTEN: dict[str, Any] = {
    "causal-language-modelling": lambda given, told: {"text": f"{given} {told}"},
    "masked-language-modelling": lambda given, told: {"text": f"{given} {told}"},
    "instruction": lambda given, told: {"prompt": given, "answer": told},
    "dialogue": lambda given, told: {
        "messages": [{"role": "user", "content": given}, {"role": "assistant", "content": told}]
    },
    "sequence-to-sequence": lambda given, _: {"source": given, "target": " ".join(given.upper().split()[::-1])},
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A problem that stands in one file more, `long.py`."""
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems" / "long.py").write_text(TOY)
    monkeypatch.setattr(problems, "__path__", [*problems.__path__, str(tmp_path / "problems")])
    problems.named.cache_clear()
    yield
    problems.named.cache_clear()


LEAST = {"pair-classification": 0.5, "similarity": 0.4}
BASES = {"sequence-to-sequence": "encoder-decoder", "masked-language-modelling": "encoder"}
PICTURES = {
    "multi-label-classification": {"confusion"},
    "multiple-choice": {"rows", "calibration"},
    "question-answering": {"rows"},
    "regression": {"scatter"},
    "relevance": {"scatter"},
    "similarity": {"scatter"},
    **{task: {"rows"} for task in WRITTEN},
}
LEARNED = {"epochs": 6, "batch": 16, "learning_rate": 3e-3, "precision": "fp32"}
HOW: dict[str, dict[str, Any]] = {
    "question-answering": {"epochs": 16, "batch": 8, "early_stopping": 0},
    **{task: {"epochs": 15, "learning_rate": 5e-3, "early_stopping": 0} for task in WRITTEN},
    "sequence-to-sequence": {"epochs": 40, "learning_rate": 5e-3, "early_stopping": 0},
}


@pytest.mark.parametrize("task", [*sorted(set(problems.names()) - {"text-classification", "token-classification"})])
def test_a_problem_is_learned_examined_and_answers_as_it_was_packaged(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {"train": LEARNED | HOW.get(task, {})}
    if task in WRITTEN:
        sections["model"] = {"base": makers.ENCODER | {"architecture": BASES.get(task, "decoder")}}
        sections["tokens"] = {"length": 48, "tokenizer": {"train": "byte-bpe", "vocabulary": 400, "lowercase": False}}
    what = makers.recipe(task, **sections)
    monkeypatch.setattr(makers, "rows_of", written(rows_of(task)))
    with makers.at_home(tmp_path / "home"):
        made = makers.made(tmp_path / "home", what)
        folder = made.folder(made.report, tmp_path)
        facts = json.loads((folder / "report.json").read_text())
        metric = what.problem.metrics[0]
        assert facts["scores"][metric] < 12 if metric in LOWER else facts["scores"][metric] > LEAST.get(task, 0.7)
        assert all(gain(metric, facts["scores"][metric], each[metric]) > 0 for each in facts["baselines"].values())
        assert facts["interval"]["low"] < facts["scores"][metric] < facts["interval"]["high"]
        assert set(facts["signatures"]) == ({"bleu", "chrf"} if task == "sequence-to-sequence" else set())
        drawn = {picture.stem for picture in folder.glob("*.png")}
        assert drawn == PICTURES.get(task, {"confusion", "calibration"})
        assert all(f'<img alt="{name}" src="data:image/png' in (folder / "report.html").read_text() for name in drawn)
        model = Model.load(made.folder(made.bundle, tmp_path))
        model.check()
        table = pq.read_table(stages.open_file(made.checked.files["test.parquet"]))
        rows = table.select(list(what.problem.roles)).to_pylist()
        again = [each.answer for each in model.sit([what.problem.asked(row) for row in rows])]
        kept = pq.read_table(folder / "predictions.parquet")["predicted"].to_pylist()
        if isinstance(kept[0], dict):
            again, kept = ([value for row in rows for value in row.values()] for rows in (again, kept))
        assert again == (pytest.approx(kept, abs=1e-3) if isinstance(kept[0], float) else kept)


def test_a_new_problem_is_one_file(toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = makers.recipe("long", data={"source": "rows.jsonl", "split": {"validation": 0.2, "test": 0.3}})
    monkeypatch.setattr(makers, "rows_of", written(rows_of("long")))
    with makers.at_home(tmp_path / "home"):
        made = makers.made(tmp_path / "home", what)
        assert made.report.scores["accuracy"] > 0.8


def written(rows: list[dict[str, Any]]) -> Any:
    """What writes these rows where a recipe looks for them."""

    def write(_task: str, _count: int, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
