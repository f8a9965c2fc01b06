"""Bundle + test rows -> Report: the exam of the artifact that would be served, as it would be served."""

import json
import logging
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from seqeval.metrics import classification_report as entity_report
from sklearn.metrics import classification_report

from tasks import recipe, stages
from tasks.model import hardware, metrics, page, pictures
from tasks.model.bundle import Model
from tasks.model.exam import Exam, Sitting
from tasks.records import Bundle, Checked, Report
from tasks.verb import verb

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
    """
    task = cast(recipe.Task, bundle.task)
    model = Model.load(stages.checkout(bundle.files, folder / "bundle"), hardware.chosen())
    model.check()
    exam = Exam.read(task, stages.open_file(checked.files["test.parquet"]))
    sitting = exam.sat_by(model)
    scores = metrics.scores(task, sitting.counts)
    calibration = metrics.calibration(*sitting.confidence())
    scores["ece"] = calibration["ece"]
    facts = {
        "metric": metric,
        "rows": len(exam.rows),
        "scores": scores,
        "per_class": {kind: metrics.per_class(sitting.counts, kind) for kind in ("precision", "recall", "f1")},
        "support": support(sitting),
        "slices": by_slice(sitting, metric, how),
        "calibration": calibration,
        "truncated": sum(each.truncated for each in sitting.answers),
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


def support(sitting: Sitting) -> dict[str, int]:
    """True labels, or entities, of each class."""
    classes = sitting.counts.classes
    return {name: int(sitting.counts.total[2 * len(classes) + place]) for place, name in enumerate(classes)}


def by_slice(sitting: Sitting, metric: str, how: recipe.Exam) -> dict[str, dict[str, float]]:
    """The headline metric and the rows of each slice."""
    table = sitting.counts.table
    return {
        name: {"rows": int(at.sum()), metric: float(metrics.score(metric, table[at.nonzero()[0]].sum(axis=0)))}
        for name, at in sitting.exam.slices(how.slices).items()
    }


def write(folder: Path, facts: dict[str, Any], sitting: Sitting) -> None:
    """`report.json`, `report.txt`, `predictions.parquet`, two pictures and the page that shows it all."""
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False))
    (folder / "report.txt").write_text(as_text(sitting))
    pq.write_table(predictions(sitting), folder / "predictions.parquet", compression="zstd")
    pictures.confusion(sitting, folder / "confusion.png")
    pictures.reliability(facts["calibration"], folder / "calibration.png")
    page.write(folder, facts)


def as_text(sitting: Sitting) -> str:
    """The table of precision, recall and F1 as sklearn prints it, or seqeval for entities of several words."""
    truth, predicted = sitting.exam.truth, sitting.predicted
    if sitting.exam.words and any("-" in tag for tag in sitting.labels):
        spelled = ([metrics.iobes(row) for row in rows] for rows in (truth, predicted))
        return str(entity_report(*spelled, digits=4, zero_division=0))
    if sitting.exam.words:
        truth, predicted = list(chain.from_iterable(truth)), list(chain.from_iterable(predicted))
    return str(classification_report(truth, predicted, digits=4, zero_division=0))


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
