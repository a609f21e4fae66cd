"""Scores in order, and the shares of strong calls that a threshold can make of them.

Score quantiles are a traffic's distribution in 1,001 numbers, enough to turn a share into a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routellm_core.decision import StrongShare
from routellm_core.errors import CalibrationError
from routellm_core.metrics.scores import are_quantiles
from routellm_core.types import FloatArray

IntArray = npt.NDArray[np.intp]
_FEW_SHARES = 12


class RankedScores:
    """n scores, the highest first.

    Prompts with equal scores go to the same model whatever the threshold, so only some numbers k of strong calls can
    be made: those where the k-th highest score is above the next one. They are the *cuts*.

    Args:
        scores: shape (n,), each in [0, 1], in any order.

    Attributes:
        order: rows of ``scores`` by falling score, shape (n,).
        scores: in that order, shape (n,), float64.
        cuts: the possible numbers of strong calls, ascending, shape (c,). The last is n (threshold 0); the first is 0
            unless a score is exactly 1, which no threshold keeps from the strong model.

    Raises:
        CalibrationError: no scores, or one that is not a number in [0, 1].
    """

    def __init__(self, scores: npt.ArrayLike) -> None:
        values = np.asarray(scores, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise CalibrationError(f"calibration needs at least one score, shape (n,); got shape {values.shape}")
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise CalibrationError("every score must be a number in [0, 1]")
        self.order: IntArray = np.argsort(-values, kind="stable")
        self.scores: FloatArray = values[self.order]
        steps = np.flatnonzero(self.scores[:-1] > self.scores[1:]) + 1
        none_possible = [0] if self.scores[0] < 1.0 else []
        self.cuts: IntArray = np.concatenate([none_possible, steps, [len(values)]]).astype(np.intp)

    def __len__(self) -> int:
        return len(self.scores)

    def nearest_cut(self, share: float) -> int:
        """Return the cut nearest to ``share`` of the prompts, the greater one of two that are equally near."""
        wanted = share * len(self)
        above = int(np.searchsorted(self.cuts, wanted))
        candidates = self.cuts[max(above - 1, 0) : above + 1]
        return int(min(candidates, key=lambda cut: (abs(int(cut) - wanted), -int(cut))))

    def threshold_at(self, cut: int) -> float:
        """Return the threshold that makes ``cut`` strong calls.

        It lies halfway between the last score above it and the first one below, so that rounding on another machine
        or in another batch flips no prompt. All and none are 0 and 1, which also hold for scores not seen here.
        """
        if cut <= 0:
            return 1.0
        if cut >= len(self):
            return 0.0
        above, below = float(self.scores[cut - 1]), float(self.scores[cut])
        halfway = below + (above - below) / 2.0
        return halfway if halfway > below else above

    def strong_calls(self, threshold: float) -> int:
        """Return how many scores reach ``threshold``."""
        return int(np.searchsorted(-self.scores, -threshold, side="right"))

    def spread_cuts(self, limit: int) -> IntArray:
        """Return about ``limit`` cuts spread evenly over the prompts, both ends included, ascending."""
        if len(self.cuts) <= limit:
            return self.cuts
        wanted = np.linspace(self.cuts[0], self.cuts[-1], limit)
        return self.cuts[np.unique(np.searchsorted(self.cuts, wanted))]

    def describe_ties(self, share: float) -> str:
        """Say which shares can be reached around ``share``, and why not that one."""
        cut = self.nearest_cut(share)
        place = int(np.searchsorted(self.cuts, share * len(self)))
        around = self.cuts[max(place - 1, 0) : place + 1]
        tied_from = int(around[0])
        tied = (int(around[-1]) - tied_from) / len(self)
        score = float(self.scores[min(tied_from, len(self) - 1)])
        if len(self.cuts) <= _FEW_SHARES:
            reachable = f"the only reachable shares are {self._percentages(self.cuts)}"
        else:
            reachable = f"the nearest reachable shares are {self._percentages(around)}"
        return (
            f"a share of {share:.1%} cannot be reached: {tied:.1%} of the prompts have the same score {score:.6g} and "
            f"go together; {reachable}, and {cut / len(self):.1%} was taken"
        )

    def _percentages(self, cuts: Sequence[int] | IntArray) -> str:
        return ", ".join(f"{int(cut) / len(self):.1%}" for cut in cuts)


QUANTILES = 1001
# Checkpoints round their quantiles to nine digits, and a tied score must not fall on the wrong side of its own copy.
_TIE_CLEARANCE = 1e-9


def score_quantiles(scores: npt.ArrayLike) -> FloatArray:
    """Return the quantiles 0, 1/1000, …, 1 of scores, shape (1001,), interpolated linearly.

    Args:
        scores: shape (n,) with n > 0, each in [0, 1].
    """
    values = np.quantile(np.asarray(scores, dtype=np.float64), np.linspace(0.0, 1.0, QUANTILES))
    return np.maximum.accumulate(values)  # interpolation may miss monotonicity in the last bit


def checked_quantiles(quantiles: npt.ArrayLike) -> FloatArray:
    """Return quantiles as an array.

    Raises:
        CalibrationError: another number of them, not ascending, or outside [0, 1].
    """
    if not are_quantiles(quantiles):
        raise CalibrationError(f"score quantiles must be {QUANTILES} ascending numbers in [0, 1]")
    return np.asarray(quantiles, dtype=np.float64)


def threshold_for_share(quantiles: npt.ArrayLike, share: float) -> float:
    """Return the threshold t with P(score >= t) as near as possible to ``share``.

    That is the quantile at 1 − share, interpolated linearly, as RouteLLM takes it. A run of equal quantiles is a score
    that many prompts share and that go together: the threshold is then put on the side of it that comes nearer, the
    strong one when both are equally near. Shares of 0 and 1 give 1 and 0, whatever the quantiles.

    Args:
        quantiles: ascending, evenly spaced from 0 to 1, as from :func:`score_quantiles`.
        share: of strong calls, in [0, 1].

    Raises:
        InvalidThresholdError: a share outside [0, 1].
        CalibrationError: quantiles that are not ascending or lie outside [0, 1].
    """
    wanted = StrongShare(share).share
    values = checked_quantiles(quantiles)
    if wanted in (0.0, 1.0):
        return 1.0 - wanted
    grid = np.linspace(0.0, 1.0, len(values))
    threshold = float(np.interp(1.0 - wanted, grid, values))
    first, last = _run(values, threshold)
    if last <= first:
        return threshold
    below, above = max(values[first] - _TIE_CLEARANCE, 0.0), min(values[last] + _TIE_CLEARANCE, 1.0)
    if threshold < values[first] or threshold > values[last]:  # between two runs, but within the clearance of one
        return float(below if threshold < values[first] else above)
    share_with, share_without = 1.0 - float(grid[first]), 1.0 - float(grid[last])
    is_nearer_with = abs(share_with - wanted) <= abs(share_without - wanted)
    return float(below if is_nearer_with or threshold >= 1.0 else above)


def share_at_threshold(quantiles: npt.ArrayLike, threshold: float) -> float:
    """Return P(score >= threshold) under ``quantiles``, interpolated linearly between them."""
    values = checked_quantiles(quantiles)
    first = int(np.searchsorted(values, threshold, side="left"))
    if first == 0:
        return 1.0
    if first == len(values):
        return 0.0
    below, above = float(values[first - 1]), float(values[first])
    position = first - 1 + (threshold - below) / (above - below)
    return 1.0 - position / (len(values) - 1)


def _run(values: FloatArray, score: float) -> tuple[int, int]:
    """Return the first and last index of the quantiles that count as equal around ``score``.

    Quantiles too near to each other to put a threshold clear of both belong to one run; an empty run has last < first.
    """
    runs = np.concatenate([[0], np.cumsum(np.diff(values) > 2 * _TIE_CLEARANCE)])
    near = np.flatnonzero(np.abs(values - score) <= _TIE_CLEARANCE)
    if not len(near):
        return 0, -1
    members = np.flatnonzero(runs == runs[near[0]])
    return int(members[0]), int(members[-1])
