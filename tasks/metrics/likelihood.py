"""How probable a model finds texts: perplexity and its kin, all functions of sums over rows.

Long rows weigh more: the loss is the mean over tokens, as in training. Perplexities of two tokenizers cannot be
compared; bits a character can.
"""

import numpy as np
import numpy.typing as npt

from tasks.metrics.marks import Floats
from tasks.metrics.sums import Sums, quotient, ratio

METRICS = ("perplexity", "loss", "bits_per_character", "token_accuracy")


def marks(nats: npt.ArrayLike, tokens: npt.ArrayLike, right: npt.ArrayLike, characters: npt.ArrayLike) -> Sums:
    """The marks of texts.

    Args:
        nats: (rows,) sum of -ln p over the tokens of each row.
        tokens: (rows,) how many tokens were predicted.
        right: (rows,) how many of them the model found most probable.
        characters: (rows,) how many characters they are written with.
    """
    columns = [np.asarray(each, np.float64) for each in (nats, tokens, right, characters)]
    formulas = {
        "perplexity": _perplexity,
        "loss": quotient(0, 1),
        "bits_per_character": _bits,
        "token_accuracy": quotient(2, 1),
    }
    return Sums(np.stack(columns, axis=1), formulas)


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(ratio(sums[..., 0], sums[..., 1])))


def _bits(sums: Floats) -> Floats:
    return np.asarray(ratio(sums[..., 0], sums[..., 3]) / np.log(2))
