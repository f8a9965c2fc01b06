"""Whether a model is right as often as it says."""

from typing import Any

import numpy as np
import numpy.typing as npt


def calibration(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = 15) -> dict[str, Any]:
    """Expected calibration error over equal-width bins (Guo et al. 2017, equation 3), with the bins.

    Args:
        confidence: (n,) probability of the predicted label.
        right: (n,) whether it was the true one.

    Returns:
        `ece` in 0..1, and for each filled bin its mean confidence, accuracy and rows.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = [place == number for number in range(bins) if (place == number).any()]
    table = [
        {"confidence": float(confidence[at].mean()), "accuracy": float(right[at].mean()), "rows": int(at.sum())}
        for at in filled
    ]
    gaps = sum(each["rows"] * abs(each["confidence"] - each["accuracy"]) for each in table)
    return {"ece": gaps / max(1, len(confidence)), "bins": table}
