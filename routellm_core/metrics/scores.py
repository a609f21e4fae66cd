"""What scores are made of and summarised by: logits as probabilities, and quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["are_quantiles", "sigmoid", "softmax"]


def sigmoid(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return 1 / (1 + exp(−x)) for each logit x, float64 and of the same shape, without overflow."""
    values = np.asarray(logits, dtype=np.float64)
    decayed = np.exp(-np.abs(values))  # of the negative magnitude only
    return np.where(values >= 0, 1.0, decayed) / (1.0 + decayed)


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the probabilities of each row of ``logits``, shape (n, classes), float64, whatever their size."""
    values: npt.NDArray[Any] = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def are_quantiles(values: npt.ArrayLike) -> bool:
    """Whether ``values`` can be the quantiles at 0, 1/1000, …, 1 of scores: 1001 ascending numbers in [0, 1]."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    # NaN ascends nowhere.
    return array.shape == (1001,) and bool((np.diff(array) >= 0).all() and array[0] >= 0 and array[-1] <= 1)
