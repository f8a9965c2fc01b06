"""The gate: is the challenger proved better than the champion on the same rows (pure)?

Both models answered the same rows. A percentile bootstrap over rows, in pairs (Efron 1979), gives the interval of the
gain; the challenger goes live if the lower end is above minus the margin, and every floor holds. Pairs matter: 90.0 %
against 92.0 % on 1,000 rows is not proved when the two err independently (low end -0.5 points), and is when the
challenger only mends (low end +1.2 points).
"""

from dataclasses import dataclass

import numpy as np

from tasks.metrics import intervals
from tasks.metrics.marks import LOWER, Marks, gain
from tasks.recipe import Gate


@dataclass(frozen=True)
class Judgement:
    """Whether the challenger goes live, the gain in score points with its interval, and why."""

    promoted: bool
    gain: float | None
    low: float | None
    high: float | None
    reasons: tuple[str, ...]


def judge(champion: Marks | None, challenger: Marks, metric: str, gate: Gate) -> Judgement:
    """The verdict over marks of the same rows in the same order; without a champion only the floors speak.

    Raises:
        ValueError: the marks are not of the same rows and classes.
    """
    broken = broken_floors(challenger, gate)
    if champion is None:
        return Judgement(not broken, None, None, None, tuple(broken or ["there is no champion yet"]))
    if (len(champion), champion.support) != (len(challenger), challenger.support):
        raise ValueError(f"champion ({len(champion)} rows) and challenger ({len(challenger)}) sat different exams")
    gained = float(gain(metric, challenger.score(metric), champion.score(metric)))
    low, high = intervals.of_gain(champion, challenger, metric, gate.confidence, gate.draws, gate.seed)
    proved = low > -gate.margin
    share = f"{100 * gate.confidence:g} %"
    found = f"{metric} {gained:+.4f}, {share} interval [{low:+.4f}, {high:+.4f}] on {len(challenger)} rows"
    if proved:
        reason = f"proved better: {found}" if low > 0 else f"not worse than the margin of {gate.margin:g}: {found}"
    else:
        reason = f"not proved better: {found}; the lower end must be above {0 - gate.margin:g}"
    return Judgement(proved and not broken, gained, low, high, (reason, *broken))


def broken_floors(marks: Marks, gate: Gate) -> list[str]:
    """A reason for each floor that does not hold; what is better when it is smaller has a ceiling."""
    broken = []
    for name, floor in gate.floors.items():
        if name.endswith("_per_class"):
            values = marks.per_class(name.removesuffix("_per_class"))
            worst = min(values, key=lambda each: values[each], default=None)
            if worst is not None and values[worst] < floor:
                share = f"{sum(value < floor for value in values.values())} of {len(values)} classes"
                broken.append(f"{name} of {worst!r} is {values[worst]:.4f} < {floor:g} ({share})")
        elif not gain(name, marks.score(name), np.asarray(floor)) >= 0:  # nor is what is no number
            sign = ">" if name in LOWER else "<"
            broken.append(f"{name} is {float(marks.score(name)):.4f} {sign} {floor:g}")
    return broken
