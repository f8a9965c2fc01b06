"""A language model that only counts: what a neural one has to beat."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

END = "\0"  # of a text; no row has one


class Ngrams:
    """The next character from those before it, by counts of all orders up to `order` (Witten and Bell 1991).

    With c(h) and t(h) the characters, and different ones, that followed h in training, and h' a shorter by one:
    p(x | h) = (c(hx) + t(h) p(x | h')) / (c(h) + t(h)); before any, all characters that were seen, and one more, are
    alike. (Chen and Goodman 1999, equation 15, calls this Witten-Bell smoothing.)
    """

    def __init__(self, order: int, texts: Iterable[str]) -> None:
        self.order = order
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            said = text + END
            for place, character in enumerate(said):
                for before in range(max(0, place - order + 1), place + 1):
                    self.counts[said[before:place]][character] += 1
        self.totals = {history: found.total() for history, found in self.counts.items()}
        self.different = len(self.counts[""]) + 1

    def tell(self, text: str) -> tuple[float, int, int]:
        """Sum of -ln p over a text and its end, characters told right, and how many there were."""
        said = text + END
        told = [self.chance(said[:place], character) for place, character in enumerate(said)]
        return -sum(math.log(chance) for chance, _ in told), sum(best for _, best in told), len(said)

    def chance(self, before: str, character: str) -> tuple[float, bool]:
        """The probability of a character after others, and whether none is more probable."""
        chance, best = 1 / self.different, False
        for length in range(min(self.order, len(before) + 1)):
            history = before[len(before) - length :]
            if not (total := self.totals.get(history)):
                break
            found = self.counts[history]
            chance = (found[character] + len(found) * chance) / (total + len(found))
            best = character == max(found, key=lambda each: (found[each], each))
        return chance, best
