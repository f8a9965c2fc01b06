"""Bundle + test rows -> Report: the exam of the artifact that would be served, as it would be served."""

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import recipe, stages
from tasks.data import examples, shards
from tasks.data.shards import Shard
from tasks.metrics.calibration import calibration
from tasks.metrics.intervals import of_gain, of_one
from tasks.metrics.marks import Marks, gain
from tasks.model import ancestry, attribution, before, hardware, loop, page, pictures
from tasks.model.bundle import Model
from tasks.model.exam import Exam, Sitting
from tasks.problems import Problem
from tasks.records import Bundle, Checked, Report
from tasks.verb import verb

CONFIDENCE, DRAWS = 0.95, 1000  # of the interval around the headline

log = logging.getLogger("vernal.evaluate")


@verb
def evaluate(bundle: Bundle, checked: Checked, metric: recipe.Metric, exam: recipe.Exam) -> Report:
    """How the bundle does on the test split."""
    key = stages.evaluate(bundle, checked, metric, exam)
    return stages.once(key, lambda folder: examine(folder, bundle, checked, metric, exam))


def examine(folder: Path, bundle: Bundle, checked: Checked, metric: recipe.Metric, how: recipe.Exam) -> Report:
    """Lets the bundle sit the exam and writes its report.

    Raises:
        Corrupt: E-GOLDEN, the bundle does not answer as it was packaged.
        BadInput: E-EXAM-SEEN, hardly any test row is new to the models that it comes from.
    """
    model = Model.load(stages.checkout(bundle.files, folder / "bundle"), hardware.chosen())
    model.check()
    whole = Exam.read(bundle.task, stages.open_file(checked.files["test.parquet"]))
    unseen = ancestry.unseen(whole, checked, ancestry.ancestors(bundle))
    exam = whole.at(unseen)
    sitting = exam.sat_by(model)
    scores = scored(exam.problem, sitting.marks)
    test = None if "loss" in scores else encoded(folder, exam, model)
    if test is not None:
        scores["loss"], _ = loop.evaluate(model.forward, test, objective=exam.problem)
    low, high = of_one(sitting.marks, metric, CONFIDENCE, DRAWS, 0)
    confidence = sitting.confidence()
    calibrated = calibration(*confidence) if confidence else None
    if calibrated:
        scores["ece"] = calibrated["ece"]
    facts = {
        "task": bundle.task,
        "metric": metric,
        "rows": len(exam.rows),
        "seen": int((~unseen).sum()),
        "scores": scores,
        "interval": {"low": low, "high": high, "confidence": CONFIDENCE},
        **beside(sitting, metric, chain(without_a_model(exam, checked), before.answers(folder, bundle, exam, test))),
        "per_class": {kind: sitting.marks.per_class(kind) for kind in ("precision", "recall", "f1")},
        "support": sitting.marks.support,
        "slices": by_slice(sitting, metric, how),
        "calibration": calibrated,
        "signatures": dict(sitting.marks.signatures),
        "truncated": sum(each.truncated for each in sitting.answers),
        "attribution": attribution.explained(sitting, model) if attribution.explains(exam.problem) else None,
    }
    write(folder / "report", facts, sitting)
    log.info("%s %.4f on %d test rows", metric, scores[metric], len(exam.rows))
    return Report.of(
        stages.keep(folder / "report"),
        parents=(bundle.digest, checked.digest),
        rows=len(exam.rows),
        metric=metric,
        scores=scores,
    )


def encoded(folder: Path, exam: Exam, model: Model) -> Shard:
    """The rows of the exam in tokens of the model, with their labels; laid out in `folder`."""
    pq.write_table(exam.table, folder / "test.parquet")
    numbers = {label: number for number, label in enumerate(model.labels)}
    shards.encode_split(folder / "test.parquet", folder / "test", model.encoder, numbers, exam.problem)
    return shards.read(folder / "test")


def scored(problem: Problem, marks: Marks) -> dict[str, float]:
    """Every metric of the problem."""
    return {metric: float(marks.score(metric)) for metric in problem.metrics}


def without_a_model(exam: Exam, checked: Checked) -> Iterable[tuple[str, list[Any]]]:
    """Answers that cost no model."""
    train = stages.open_file(checked.files["train.parquet"])
    return exam.problem.baselines(examples.rows(train, exam.problem), exam.rows).items()


def beside(sitting: Sitting, metric: str, others: Iterable[tuple[str, list[Any]]]) -> dict[str, Any]:
    """What other answers to the same rows earn, and the gain over each with its interval, over rows in pairs."""
    exam, found = sitting.exam, {}
    for name, answers in others:
        found[name] = exam.problem.marks(exam.truth, answers, sitting.labels)
    gains = {}
    for name, marks in found.items():
        low, high = of_gain(marks, sitting.marks, metric, CONFIDENCE, DRAWS, 0)
        gained = float(gain(metric, sitting.marks.score(metric), marks.score(metric)))
        gains[name] = {"gain": gained, "low": low, "high": high}
    return {"baselines": {name: scored(exam.problem, marks) for name, marks in found.items()}, "gains": gains}


def by_slice(sitting: Sitting, metric: str, how: recipe.Exam) -> dict[str, dict[str, float]]:
    """The headline metric and the rows of each slice."""
    return {
        name: {"rows": int(at.sum()), metric: float(sitting.marks.at(at).score(metric))}
        for name, at in sitting.exam.slices(how.slices).items()
    }


def write(folder: Path, facts: dict[str, Any], sitting: Sitting) -> None:
    """`report.json`, `report.txt`, `predictions.parquet`, `confusion.csv`, pictures and the page that shows it all."""
    folder.mkdir()
    numbers = [role for role, kind in sitting.exam.problem.answers.items() if kind == "number"]
    (folder / "report.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False))
    (folder / "report.txt").write_text(sitting.exam.problem.report(sitting.exam.truth, sitting.predicted))
    pq.write_table(predictions(sitting), folder / "predictions.parquet", compression="zstd")
    if sitting.exam.problem.labelled:
        pictures.confusion(sitting, folder / "confusion.png")
        write_confusion(sitting, folder / "confusion.csv")
    elif numbers:
        pictures.scatter(sitting, numbers[0], folder / "scatter.png")
    else:
        pictures.rows(sitting, facts["metric"], folder / "rows.png")
    if facts["calibration"]:
        pictures.reliability(facts["calibration"], folder / "calibration.png")
    page.write(folder, facts)


def write_confusion(sitting: Sitting, path: Path) -> None:
    """How many rows (or words) of each true label were given each label, those that were given none left out."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("true", "predicted", "count"))
        table.writerows((*pair, count) for pair, count in sorted(Counter(sitting.confused).items()))


def predictions(sitting: Sitting) -> pa.Table:
    """One row for each test row: where it came from, the truth, the answer and its probability."""
    table = sitting.exam.table
    return pa.table(
        {
            "row": table["row"],
            "place": table["place"],
            "truth": pa.array(sitting.exam.truth),
            "predicted": pa.array(sitting.predicted),
            "score": pa.array([each.score for each in sitting.answers]),
            "truncated": pa.array([each.truncated for each in sitting.answers]),
        }
    )
