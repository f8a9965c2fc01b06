"""Pictures of an exam: where a model confuses labels, how far off it is, and whether its confidence can be believed."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from sklearn.metrics import confusion_matrix

from tasks.model.exam import Sitting

MOST_LABELS = 30  # drawn; beyond that, those that are confused most
MOST_ROWS = 2000  # whose metric is computed

INK, SOFT, GREEN = "#22312a", "#d8e2da", "#3f7d58"


def confusion(sitting: Sitting, path: Path) -> None:
    """Share of each true label (rows) that was given each label (columns)."""
    truth, predicted = zip(*sitting.confused, strict=True)
    labels = sorted(set(truth) | set(predicted))
    table = confusion_matrix(truth, predicted, labels=labels)
    if len(labels) > MOST_LABELS:
        wrong = table.sum(0) + table.sum(1) - 2 * table.diagonal()
        worst = np.sort(np.argsort(-wrong, kind="stable")[:MOST_LABELS])
        table, labels = table[np.ix_(worst, worst)], [labels[place] for place in worst]
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    side = 2.5 + 0.32 * len(labels)
    figure, axes = pyplot.subplots(figsize=(side + 1, side), layout="constrained")
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=90, fontsize=7)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(table):
        if count:
            color = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(count), ha="center", va="center", fontsize=6, color=color)
    _save(figure, path)


def scatter(sitting: Sitting, role: str, path: Path) -> None:
    """Each answer against the true number of this role; on the diagonal it is right."""
    truth = np.array([row[role] for row in sitting.exam.rows], float)
    answers = np.array(sitting.predicted, float)
    figure, axes = pyplot.subplots(figsize=(4.2, 4.0), layout="constrained")
    ends = [min(truth.min(), answers.min()), max(truth.max(), answers.max())]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
    axes.scatter(truth, answers, s=9, alpha=0.35, color=GREEN, linewidths=0)
    axes.set(xlabel="true", ylabel="predicted")
    _save(figure, path)


def rows(sitting: Sitting, metric: str, path: Path) -> None:
    """How many rows earn how much of the metric; of many rows, those of every so many."""
    some = np.zeros(len(sitting.marks), bool)
    some[:: -(-len(some) // MOST_ROWS)] = True
    earned = sitting.marks.at(some).score(metric, np.eye(some.sum()))
    figure, axes = pyplot.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.hist(earned, bins=20, color=GREEN, edgecolor=SOFT)
    axes.set(xlabel=f"{metric} of a row", ylabel="rows")
    _save(figure, path)


def reliability(calibration: dict[str, Any], path: Path) -> None:
    """Accuracy against confidence in each bin; on the diagonal, confidence can be taken at its word."""
    bins = calibration["bins"]
    confidence = [each["confidence"] for each in bins]
    figure, axes = pyplot.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    accuracy = [each["accuracy"] for each in bins]
    sizes = np.array([each["rows"] for each in bins], float)
    axes.bar(confidence, accuracy, width=0.05, color=SOFT, edgecolor=GREEN)
    axes.scatter(confidence, accuracy, s=10 + 90 * sizes / max(1.0, sizes.max()), color=GREEN)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"expected calibration error {calibration['ece']:.3f}", fontsize=9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
