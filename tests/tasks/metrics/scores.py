"""Several metrics of the same marks, as plain numbers."""

from collections.abc import Sequence

from tasks.metrics.marks import Marks


def scores(marks: Marks, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric over all rows."""
    return {metric: float(marks.score(metric)) for metric in metrics}
