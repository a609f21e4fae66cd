"""Whether a trained router beats others on rows that it was fitted without, with an interval for each difference.

APGR without steps is 1/2 + cov(U, g) / mean(g): g is a prompt's gain (strong minus weak quality) and U the share of
prompts that score lower. Three things make its estimate by cross-validation honest:

- U is a rank *within a fold*. Scores of different folds come from different fits, whose levels fall where their own
  fold's outcomes are high; ranking them together is biased against the router.
- Held-out rows also trained the fits that scored the other rows. That adds, for noise e and the ranks' variance over
  training samples, e² · var(U) to each row's share of the variance. The ranks' variance is jackknifed over fits that
  leave out one more fold. Without it, intervals of a router that has learned nothing are too short by up to √2.
- mean(g) is uncertain, and little above 0 where rows are few. The ratio's interval is Fieller's (1954), which has no
  ends where the rows do not tell which model is better, and the estimate is Beale's (1962), unbiased to order 1/n.

``benchmarks/training/coverage.py`` measures bias and coverage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra

__all__ = [
    "LENGTH",
    "SHIPPED",
    "TRAINED",
    "HeldOut",
    "compare_held_out",
    "fold_ranks",
    "interval_text",
    "length_scores",
]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
TRAINED: Final = "trained"
SHIPPED: Final = "shipped"
LENGTH: Final = "prompt length"
_LEVEL: Final = 0.95


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a router was fitted without, and how it and others score them."""

    how: str  # how they were held out, in words
    scores: Mapping[str, Floats]  # name of a router to its scores, shape (n,); the trained one comes first
    expected_gain: Floats  # shape (n,), above zero where the trained router expects the strong model to be better
    strong: Floats  # shape (n,), quality of both models
    weak: Floats  # shape (n,), quality of both models
    models: tuple[str, str]  # their names
    folds: Indices | None = None  # shape (n,), the fit that scored a row; None where all rows were scored by one
    # shape (n,), rows that are not independent of each other share a number; None where all are
    groups: Indices | None = None
    # scores of the trained router by fits that leave out one more fold, shape (folds, n), NaN in a row's own fold;
    # None where nothing was cross-fitted
    refitted: Floats | None = None


def length_scores(prompts: Sequence[str]) -> Floats:
    """Return the length-only router's scores, shape (n,): rising with the number of characters, below 1."""
    lengths = np.log1p(np.array([len(prompt) for prompt in prompts], dtype=np.float64))
    return np.asarray(lengths / (1.0 + lengths))


def fold_ranks(scores: Floats, folds: Indices) -> Floats:
    """Return centred ranks among the rows of a fold, shape (n,), in [-1/2, 1/2]; equal scores share their mean rank.

    Scaled by m / (m - 1) for a fold of m rows, so that products with an outcome estimate a covariance without bias.
    """
    rankdata = _scipy_stats().rankdata
    ranks = np.empty(len(scores))
    for fold in np.unique(folds):
        inside = folds == fold
        size = int(inside.sum())
        ranks[inside] = ((rankdata(scores[inside]) - 0.5) / size - 0.5) * size / max(size - 1, 1)
    return ranks


def compare_held_out(held_out: HeldOut) -> dict[str, Any]:
    """Measure every router on the held-out rows (all rows count alike, whatever their training weight).

    Returns:
        JSON-ready: ``apgr`` by router, ``lead`` of the first router over each other one, ``best_single`` (the quality
        of "strong where a gain is expected" minus the better single model's), each with ``value`` and the ends ``low``
        and ``high`` of a 95 % interval, which are None where there is no such end; and ``verdicts`` in words.
    """
    sample = _Sample.of(held_out)
    first, *others = held_out.scores
    ranked = {name: _Ranked.of(scores, sample) for name, scores in held_out.scores.items()}
    figures = {
        name: sample.ratio(each, 0.5, extra=sample.refit_variance() if name == first else 0.0)
        for name, each in ranked.items()
    }
    lead = {}
    for name in others:
        difference = ranked[first].minus(ranked[name])
        lead[name] = sample.ratio(difference, 0.0, extra=sample.refit_variance())
    single = _best_single(held_out, sample)
    verdicts = [_verdict(f"the router {name!r}" if name == SHIPPED else name, row) for name, row in lead.items()]
    verdicts.append(_verdict(f"calling {single['model']} alone", single))
    return {
        "how": held_out.how,
        "rows": len(held_out.strong),
        "groups": sample.group_count,
        "apgr": figures,
        "lead": lead,
        "best_single": single,
        "verdicts": verdicts,
    }


def interval_text(row: Mapping[str, Any], *, sign: str = "") -> str:
    """Return "low to high" of a figure, or that it has no such ends; ``sign`` is ``"+"`` for differences."""
    if row["low"] is None:
        return "undetermined: the rows do not tell which model is better"
    return f"{row['low']:{sign}.3f} to {row['high']:{sign}.3f}"


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A covariance of ranks and gain: its ``value``, and each row's influence on it, shape (n,)."""

    value: float
    influence: Floats

    @classmethod
    def of(cls, scores: Floats, sample: _Sample) -> _Ranked:
        ranks, noise = fold_ranks(scores, sample.folds), sample.gain - sample.gain.mean()
        value = float((noise * ranks).mean())
        # A row also moves the ranks of all rows that score higher.
        _, level = np.unique(-scores, return_inverse=True)
        summed = np.bincount(level, noise) / len(scores)
        above = (np.cumsum(summed) - summed / 2.0)[level]
        return cls(value, noise * ranks + above - above.mean() - value)

    def minus(self, other: _Ranked) -> _Ranked:
        return _Ranked(self.value - other.value, self.influence - other.influence)


@dataclass(frozen=True, eq=False)
class _Sample:
    gain: Floats
    folds: Indices
    group: Indices
    group_count: int
    refitted: Floats | None

    @classmethod
    def of(cls, held_out: HeldOut) -> _Sample:
        n = len(held_out.strong)
        groups = np.arange(n) if held_out.groups is None else held_out.groups
        named, group = np.unique(groups, return_inverse=True)
        folds = np.zeros(n, dtype=np.intp) if held_out.folds is None else held_out.folds
        return cls(held_out.strong - held_out.weak, folds, group, len(named), held_out.refitted)

    def by_group(self, values: Floats) -> Floats:
        """Sum over each group, shape (groups,)."""
        return np.asarray(np.bincount(self.group, values, self.group_count), dtype=np.float64)

    def covariance(self, first: Floats, second: Floats) -> float:
        """Covariance of the means of two centred columns, groups being independent."""
        adjusted = self.group_count / max(self.group_count - 1, 1) / len(self.gain) ** 2
        return adjusted * float(self.by_group(first) @ self.by_group(second))

    @property
    def quantile(self) -> float:
        """Of Student's t, two-sided."""
        return float(_scipy_stats().t.ppf(0.5 + _LEVEL / 2.0, max(self.group_count - 1, 1)))

    def refit_variance(self) -> float:
        """What training on these rows themselves adds to the variance; see the module's head."""
        if self.refitted is None:
            return 0.0
        rankdata = _scipy_stats().rankdata
        varied = np.full(self.refitted.shape, np.nan)
        for fold, scores in enumerate(self.refitted):
            scored = np.isfinite(scores)
            varied[fold, scored] = rankdata(scores[scored]) / scored.sum()
        deviations = np.nan_to_num(varied - np.nanmean(varied, axis=0))
        noise = self.gain - self.gain.mean()
        left_out = len(varied) - 1
        added = (left_out - 1) / left_out * sum(float((self.by_group(noise * row) ** 2).sum()) for row in deviations)
        return added / len(noise) ** 2

    def ratio(self, ranked: _Ranked, offset: float, *, extra: float) -> dict[str, float | None]:
        """Return offset + covariance / mean gain, with its interval."""
        mean = float(self.gain.mean())
        centred = self.gain - mean
        variance = self.covariance(ranked.influence, ranked.influence) + extra
        shared = self.covariance(ranked.influence, centred)
        of_mean = self.covariance(centred, centred)
        estimate = (ranked.value * mean + shared) / (mean**2 + of_mean) if mean > 0.0 else None
        squared = self.quantile**2
        a, b, c = mean**2 - squared * of_mean, ranked.value * mean - squared * shared, ranked.value**2
        root = np.sqrt(max(b**2 - a * (c - squared * variance), 0.0))
        if mean <= 0.0 or a <= 0.0:
            return _figure(estimate, None, None, offset)
        return _figure(estimate, (b - root) / a, (b + root) / a, offset)


def _best_single(held_out: HeldOut, sample: _Sample) -> dict[str, Any]:
    chosen = held_out.expected_gain > 0.0
    routed = np.where(chosen, held_out.strong, held_out.weak)
    qualities = (float(held_out.strong.mean()), float(held_out.weak.mean()))
    best = int(np.argmax(qualities))
    difference = routed - (held_out.strong, held_out.weak)[best]
    mean = float(difference.mean())
    # Where nearly all prompts go to one model, the few others say little of their kind: as if two more had been seen.
    unseen = 2.0 * float((sample.gain**2).mean()) / len(difference) ** 2
    half = sample.quantile * float(np.sqrt(sample.covariance(difference - mean, difference - mean) + unseen))
    return {
        "model": held_out.models[best],
        "quality": round(qualities[best], 4),
        "strong_share": round(float(chosen.mean()), 4),
        **_figure(mean, mean - half, mean + half, 0.0),
    }


def _figure(value: float | None, low: float | None, high: float | None, offset: float) -> dict[str, float | None]:
    ends = {"value": value, "low": low, "high": high}
    return {name: None if end is None else round(float(end) + offset, 4) for name, end in ends.items()}


def _verdict(other: str, row: Mapping[str, Any]) -> str:
    unit = "quality, strong where a gain is expected" if "model" in row else "APGR"
    if row["low"] is None:
        return f"- Not distinguishable from {other} ({unit} {interval_text(row)})."
    between = f"{row['value']:+.3f}, 95 % interval {interval_text(row, sign='+')}"
    if row["low"] > 0.0:
        return f"- Better than {other} ({unit} {between})."
    if row["high"] < 0.0:
        return f"- Worse than {other} ({unit} {between})."
    return f"- Not distinguishable from {other} ({unit} {between})."


def _scipy_stats() -> Any:
    return import_extra("scipy.stats", extra="train", purpose="Measuring a trained router")
