"""Are the scores probabilities? Expected calibration error and the points of a reliability plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.types import FloatArray

__all__ = ["Reliability", "reliability_of"]


@dataclass(frozen=True, slots=True)
class Reliability:
    """How scores compare with outcomes."""

    expected_calibration_error: float  # mean of ``|score - win rate|`` over bins, weighted by size, in [0, 1]
    brier_score: float  # mean squared difference of score and outcome, in [0, 1]
    win_rate: float  # how often the strong model strictly wins
    mean_score: float  # mean score
    bin_score: FloatArray  # mean score of each bin that is not empty, shape (k,)
    bin_win_rate: FloatArray  # observed win rate there, shape (k,)
    bin_size: npt.NDArray[np.int64]  # prompts there, shape (k,)


def reliability_of(
    scores: FloatArray,
    strong_wins: npt.NDArray[np.bool_],
    *,
    bins: int = 10,
    bin_by: Literal["width", "mass"] = "width",
) -> Reliability:
    """Compare scores with what happened.

    Expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (2017), equation 3: a score
    is a probability that the strong model strictly wins, and the outcome is whether it did.

    Args:
        scores: shape (n,), in [0, 1].
        strong_wins: shape (n,).
        bins: number of bins.
        bin_by: ``"width"`` for bins of equal width (the published definition), ``"mass"`` for bins of equal size
            (better where scores crowd together).

    Raises:
        ConfigError: ``bins`` is less than 1 or ``bin_by`` is neither.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; it must be at least 1")
    if bin_by not in ("width", "mass"):
        raise ConfigError(f"bin_by is {bin_by!r}; it must be 'width' or 'mass'")
    outcomes = np.asarray(strong_wins, dtype=np.float64)
    inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    edges = np.quantile(scores, inner) if bin_by == "mass" else inner
    index = np.searchsorted(edges, scores, side="right")
    size = np.bincount(index, minlength=bins)
    filled = size > 0
    bin_score = np.bincount(index, weights=scores, minlength=bins)[filled] / size[filled]
    bin_win_rate = np.bincount(index, weights=outcomes, minlength=bins)[filled] / size[filled]
    return Reliability(
        expected_calibration_error=float(np.abs(bin_score - bin_win_rate) @ size[filled] / len(scores)),
        brier_score=float(np.mean((scores - outcomes) ** 2)),
        win_rate=float(outcomes.mean()),
        mean_score=float(scores.mean()),
        bin_score=bin_score,
        bin_win_rate=bin_win_rate,
        bin_size=size[filled].astype(np.int64),
    )
