"""What is measured for one router on one benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import Benchmark
from routellm_core.evals.costs import CostTable, mean_dollars
from routellm_core.metrics.curves import (
    Curve,
    ThresholdRow,
    apgr,
    apgr_paper,
    area,
    average_rows,
    call_performance_threshold,
    curve_of_rows,
    first_crossing,
    performance_gap_recovered,
    quality_at_shares,
    threshold_rows,
)
from routellm_core.metrics.intervals import BootstrapSamples, Interval, bootstrap
from routellm_core.metrics.reliability import Reliability, reliability_of
from routellm_core.routers.base import Router
from routellm_core.types import FloatArray

RECOVERED: tuple[float, ...] = (0.2, 0.5, 0.8)
"""The fractions of the gap that CPT is reported for."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How to evaluate.

    Attributes:
        num_results: steps between all strong and all weak.
        random_iters: repetitions of a random router.
        resamples: of the bootstrap, from ``seed``.
        level: coverage of the intervals, in (0, 1).
        at_share: share of strong calls at which PGR is reported, in [0, 1].
        reliability_bins: bins of the reliability plot.
        batch_size: prompts scored, and stored, at a time.
    """

    num_results: int = 10
    random_iters: int = 10
    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    at_share: float = 0.5
    reliability_bins: int = 10
    batch_size: int = 512

    def __post_init__(self) -> None:
        """Refuse settings that would fail later or mean nothing."""
        for name in ("num_results", "random_iters", "resamples", "reliability_bins", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0.0 < self.level < 1.0:
            raise ConfigError(f"level is {self.level}; it must be between 0 and 1, such as 0.95")
        if not 0.0 <= self.at_share <= 1.0:
            raise ConfigError(f"at_share is {self.at_share}; it must be in [0, 1]")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its bootstrap interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One subject or category; qualities in display units.

    Attributes:
        routed: quality when half of the benchmark's prompts, those with the highest scores, go to the strong model.
        strong_share: the share of the group's prompts that then do.
        apgr: within the group; NaN where both models are equally good.
    """

    name: str
    prompts: int
    weak: float
    strong: float
    routed: float
    strong_share: float
    apgr: float


@dataclass(frozen=True, slots=True)
class RouterResult:
    """A router on a benchmark.

    Attributes:
        name: the router's name.
        fingerprint: identifies its checkpoint and options.
        description: what the router says about itself.
        scores: shape (r, n); r is 1 but for random routers.
        rows: results by threshold, from all strong to all weak; averaged over repetitions.
        dollars: dollars per 1,000 prompts of each row, or None.
        metrics: ``apgr``, ``apgr_paper``, ``auc`` (display units), ``pgr``, ``cpt20`` ... with intervals.
        first_crossings: ``cpt20`` ... by first crossing, which is defined for every curve.
        dollars_at: ``cpt20`` ...: dollars per 1,000 prompts where that much of the gap is recovered, or None.
        curve: quality at finely spaced shares, exact for ties; display units.
        low: lower end of the curve's band: the interval of PGR, drawn between the two models' qualities.
        high: upper end.
        reliability: scores against outcomes.
        groups: results by subject or category.
    """

    name: str
    fingerprint: str
    description: Mapping[str, Any]
    scores: FloatArray
    rows: tuple[ThresholdRow, ...]
    dollars: tuple[float, ...] | None
    metrics: Mapping[str, Estimate]
    first_crossings: Mapping[str, float]
    dollars_at: Mapping[str, float] | None
    curve: Curve
    low: FloatArray
    high: FloatArray
    reliability: Reliability
    groups: tuple[GroupResult, ...]


def measure_router(
    name: str,
    router: Router,
    scores: FloatArray,
    benchmark: Benchmark,
    *,
    settings: EvaluationSettings,
    shares: FloatArray,
    costs: CostTable | None = None,
) -> tuple[RouterResult, BootstrapSamples]:
    """Measure a router from its scores, shape (r, n); the samples serve paired comparisons."""
    strong, weak, scale = benchmark.strong_quality, benchmark.weak_quality, benchmark.scale
    repetitions = [_rows(row, benchmark, settings.num_results) for row in scores]
    rows = repetitions[0] if len(repetitions) == 1 else average_rows(repetitions)
    samples = bootstrap(
        scores,
        strong,
        weak,
        shares=shares,
        recovered=RECOVERED,
        at_share=settings.at_share,
        num_results=settings.num_results,
        resamples=settings.resamples,
        seed=settings.seed,
        level=settings.level,
    )
    curve = curve_of_rows(rows)
    fine = np.mean([quality_at_shares(row, strong, weak, shares) for row in scores], axis=0) * scale
    low, high = samples.band()
    by_calls = mean_dollars(costs, scores, repetitions) if costs else None
    dollars = tuple(by_calls[row.strong_calls] for row in rows) if by_calls else None
    targets = {_cpt_name(fraction): fraction for fraction in RECOVERED}
    ends = benchmark.weak_mean, benchmark.strong_mean
    result = RouterResult(
        name=name,
        fingerprint=router.fingerprint,
        description=router.describe(),
        scores=scores,
        rows=tuple(rows),
        dollars=dollars,
        metrics=_metrics(curve, scores, benchmark, settings, samples),
        first_crossings={key: first_crossing(curve, *ends, fraction) for key, fraction in targets.items()},
        dollars_at=_dollars_at(rows, dollars, benchmark, targets) if dollars else None,
        curve=Curve(shares, fine),
        low=ends[0] + low * (ends[1] - ends[0]),
        high=ends[0] + high * (ends[1] - ends[0]),
        reliability=reliability_of(
            scores.ravel(), np.tile(benchmark.strong_wins, len(scores)), bins=settings.reliability_bins
        ),
        groups=tuple(_group_results(scores, benchmark, settings.num_results)),
    )
    return result, samples


def _rows(scores: FloatArray, benchmark: Benchmark, num_results: int) -> list[ThresholdRow]:
    return threshold_rows(
        scores,
        benchmark.strong_quality,
        benchmark.weak_quality,
        num_results=num_results,
        scale=benchmark.scale,
        calls_per_prompt=benchmark.calls_per_prompt,
    )


def _cpt_name(fraction: float) -> str:
    return f"cpt{round(fraction * 100)}"


def _metrics(
    curve: Curve, scores: FloatArray, benchmark: Benchmark, settings: EvaluationSettings, samples: BootstrapSamples
) -> dict[str, Estimate]:
    strong, weak, scale = benchmark.strong_quality, benchmark.weak_quality, benchmark.scale
    ends = benchmark.weak_mean, benchmark.strong_mean
    at = np.array([settings.at_share])
    quality = np.mean([quality_at_shares(row, strong, weak, at) for row in scores]) * scale
    values = {
        "apgr": apgr(curve, *ends),
        "apgr_paper": float(np.mean([apgr_paper(row, strong, weak) for row in scores])),
        "pgr": float(performance_gap_recovered(float(quality), *ends)),
        **{_cpt_name(fraction): call_performance_threshold(curve, *ends, fraction) for fraction in RECOVERED},
    }
    estimates = {key: Estimate(value, samples.interval(key)) for key, value in values.items()}
    unscaled = samples.interval("auc")
    scaled = Interval(unscaled.low * scale, unscaled.high * scale, unscaled.level)
    return {**estimates, "auc": Estimate(area(curve), scaled)}


def _dollars_at(
    rows: Sequence[ThresholdRow], dollars: Sequence[float], benchmark: Benchmark, targets: Mapping[str, float]
) -> dict[str, float]:
    order = sorted(range(len(rows)), key=lambda i: rows[i].strong_calls)
    along = Curve(np.array([dollars[i] for i in order]), np.array([rows[i].quality for i in order]))
    ends = benchmark.weak_mean, benchmark.strong_mean
    return {key: first_crossing(along, *ends, fraction) for key, fraction in targets.items()}


def _group_results(scores: FloatArray, benchmark: Benchmark, num_results: int) -> list[GroupResult]:
    groups = np.array(benchmark.groups)
    chosen = scores >= np.median(scores, axis=1, keepdims=True)
    routed = np.where(chosen, benchmark.strong_quality, benchmark.weak_quality).mean(axis=0)
    share = chosen.mean(axis=0)
    results = []
    for name in sorted(set(benchmark.groups)):
        rows = np.flatnonzero(groups == name)
        part = benchmark.subset(groups == name)
        gap = part.strong_mean - part.weak_mean
        within = [
            apgr(curve_of_rows(_rows(row[rows], part, num_results)), part.weak_mean, part.strong_mean) for row in scores
        ]
        results.append(
            GroupResult(
                name=name,
                prompts=len(part),
                weak=part.weak_mean,
                strong=part.strong_mean,
                routed=float(routed[rows].mean() * benchmark.scale),
                strong_share=float(share[rows].mean()),
                apgr=float(np.mean(within)) if gap else math.nan,
            )
        )
    return results
