"""Labels of texts: one a row, or any number."""

from collections.abc import Sequence

from tasks.metrics.counts import SETS, Counts


def marks(truth: Sequence[str], answers: Sequence[str], classes: Sequence[str]) -> Counts:
    """What one label a row earns; an answer that is none of the classes is wrong, and counts for none."""
    number = {name: place for place, name in enumerate(classes)}
    entries = []
    for row, (true, guess) in enumerate(zip(truth, answers, strict=True)):
        t, p = number.get(true), number.get(guess)
        entries += [(row, 2, t), (row, 1, p)] + ([(row, 0, t)] if true == guess else [])
    right = [int(true == guess) for true, guess in zip(truth, answers, strict=True)]
    return Counts.of(entries, right, [1] * len(right), tuple(classes))


def marks_of_sets(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], classes: Sequence[str]) -> Counts:
    """What sets of labels earn; accuracy is the share of rows with just the true set.

    `samples_f1` is the mean of the rows' F1; of no labels, answered by none, it is 0 (0 / 0), as in sklearn.
    """
    number = {name: place for place, name in enumerate(classes)}
    entries, f1 = [], []
    for row, (true, guess) in enumerate(zip(map(set, truth), map(set, answers), strict=True)):
        entries += [(row, 2, number.get(each)) for each in true]
        entries += [(row, 1, number.get(each)) for each in guess]
        entries += [(row, 0, number.get(each)) for each in true & guess]
        f1.append(2 * len(true & guess) / max(1, len(true) + len(guess)))
    right = [int(set(true) == set(guess)) for true, guess in zip(truth, answers, strict=True)]
    return Counts.of(entries, right, [1] * len(right), tuple(classes), SETS, f1)
