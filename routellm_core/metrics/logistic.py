"""Log-odds and logits as probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["sigmoid", "softmax"]


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
