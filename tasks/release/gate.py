"""The gate: is the challenger proved better than the champion on the same rows (pure)?

Both models answered the same rows. A percentile bootstrap over rows, in pairs (Efron 1979), gives the interval of the
gain; the challenger goes live if the lower end is above minus the margin, and every floor holds. Pairs matter: 90.0 %
against 92.0 % on 1,000 rows is not proved when the two err independently (low end -0.5 points), and is when the
challenger only mends (low end +1.2 points).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.model import metrics
from tasks.recipe import Gate

CHUNK = 100  # resamples drawn at once; 8 bytes a row and resample


@dataclass(frozen=True)
class Judgement:
    """Whether the challenger goes live, the gain in score points with its interval, and why."""

    promoted: bool
    gain: float | None
    low: float | None
    high: float | None
    reasons: tuple[str, ...]


def judge(champion: metrics.Counts | None, challenger: metrics.Counts, metric: str, gate: Gate) -> Judgement:
    """The verdict over counts of the same rows in the same order; without a champion only the floors speak.

    Raises:
        ValueError: the counts are not of the same rows and classes.
    """
    broken = broken_floors(challenger, gate)
    if champion is None:
        return Judgement(not broken, None, None, None, tuple(broken or ["there is no champion yet"]))
    if champion.table.shape != challenger.table.shape:
        raise ValueError(f"champion {champion.table.shape} and challenger {challenger.table.shape} sat different exams")
    gain = float(metrics.score(metric, challenger.total) - metrics.score(metric, champion.total))
    low, high = interval(champion, challenger, metric, gate)
    proved = low > -gate.margin
    share = f"{100 * gate.confidence:g} %"
    found = f"{metric} {gain:+.4f}, {share} interval [{low:+.4f}, {high:+.4f}] on {len(challenger)} rows"
    if proved:
        reason = f"proved better: {found}" if low > 0 else f"not worse than the margin of {gate.margin:g}: {found}"
    else:
        reason = f"not proved better: {found}; the lower end must be above {-gate.margin:g}"
    return Judgement(proved and not broken, gain, low, high, (reason, *broken))


def broken_floors(counts: metrics.Counts, gate: Gate) -> list[str]:
    """A reason for each floor that does not hold."""
    broken = []
    for name, floor in gate.floors.items():
        if name.endswith("_per_class"):
            values = metrics.per_class(counts, name.removesuffix("_per_class"))
            worst = min(values, key=lambda each: values[each], default=None)
            if worst is not None and values[worst] < floor:
                share = f"{sum(value < floor for value in values.values())} of {len(values)} classes"
                broken.append(f"{name} of {worst!r} is {values[worst]:.4f} < {floor:g} ({share})")
        elif (value := float(metrics.score(name, counts.total))) < floor:
            broken.append(f"{name} is {value:.4f} < {floor:g}")
    return broken


def interval(champion: metrics.Counts, challenger: metrics.Counts, metric: str, gate: Gate) -> tuple[float, float]:
    """The gain's two-sided interval at the gate's confidence."""
    gains = resampled(champion, challenger, metric, gate.draws, gate.seed)
    tail = (1 - gate.confidence) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    return float(low), float(high)


def resampled(
    champion: metrics.Counts, challenger: metrics.Counts, metric: str, draws: int, seed: int
) -> npt.NDArray[np.float64]:
    """The gain in each of `draws` resamples of the rows, (draws,)."""
    random = np.random.default_rng(seed)
    rows = len(challenger)
    gains = []
    for start in range(0, draws, CHUNK):
        picked = random.integers(0, rows, (min(CHUNK, draws - start), rows))
        weights = np.stack([np.bincount(each, minlength=rows) for each in picked]).astype(np.float64)
        sums = [(each.table.T @ weights.T).T for each in (challenger, champion)]
        gains.append(metrics.score(metric, sums[0]) - metrics.score(metric, sums[1]))
    return np.concatenate(gains)
