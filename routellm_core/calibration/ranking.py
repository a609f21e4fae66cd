"""Scores in order, and the shares of strong calls that a threshold can make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routellm_core.errors import CalibrationError
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
