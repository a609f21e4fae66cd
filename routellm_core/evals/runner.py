"""One evaluation: routers and baselines on a benchmark, with all that a report needs, and a row for each prompt."""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import Benchmark
from routellm_core.evals.costs import CostTable
from routellm_core.evals.router_results import EvaluationSettings, RouterResult, measure_router
from routellm_core.metrics.baselines import Baselines, baselines_of
from routellm_core.metrics.intervals import Interval, paired_difference
from routellm_core.routers.base import Router, checked_scores
from routellm_core.score_cache import ScoreCache
from routellm_core.scoring import score_in_batches
from routellm_core.types import FloatArray

CURVE_SHARES: FloatArray = np.linspace(0.0, 1.0, 101)
COMPARED_METRICS = ("apgr", "apgr_paper", "pgr")


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Two routers on the same prompts: ``first - second`` on a metric, with a paired interval."""

    first: str
    second: str
    metric: str
    difference: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of :func:`run_evaluation`.

    ``baselines`` are the best single model, chance and foresight; ``comparisons`` holds every pair of routers on every
    compared metric; ``costs`` is None where prices are not known; ``versions`` are of everything that the figures
    depend on.
    """

    benchmark: Benchmark
    settings: EvaluationSettings
    baselines: Baselines
    routers: tuple[RouterResult, ...]
    comparisons: tuple[PairComparison, ...]
    costs: CostTable | None
    versions: Mapping[str, str]

    @property
    def has_gap(self) -> bool:
        """Whether the two models differ, so that there is something to recover."""
        return not math.isclose(self.benchmark.strong_mean, self.benchmark.weak_mean, rel_tol=1e-12)

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes figures mean less, or something else, than they seem to; for people."""
        benchmark = self.benchmark
        strong, weak = benchmark.pair.strong, benchmark.pair.weak
        if not self.has_gap:
            return (
                f"{strong} and {weak} are equally good on these prompts ({benchmark.strong_mean:.3f}), so there is no "
                "gap to recover: CPT, APGR and PGR are not defined, and no router can be told from another by them.",
            )
        if benchmark.strong_mean < benchmark.weak_mean:
            return (
                f"the strong model, {strong}, is worse on these prompts than the weak one, {weak} "
                f"({benchmark.strong_mean:.3f} against {benchmark.weak_mean:.3f}). CPT, APGR and PGR then say how soon "
                "quality is lost; if the pair is the wrong way round, swap the two.",
            )
        return ()


def run_evaluation(
    benchmark: Benchmark,
    routers: Mapping[str, Router],
    *,
    settings: EvaluationSettings | None = None,
    cache: ScoreCache | None = None,
    overwrite_cache: Collection[str] = (),
    costs: CostTable | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Evaluate routers on a benchmark.

    Args:
        benchmark: the prompts and both models' qualities.
        routers: name -> router. A random router must be fresh, for its stream to start where RouteLLM's does.
        settings: numbers of steps, repetitions and resamples, and seeds.
        cache: keeps scores across runs; None scores everything anew.
        overwrite_cache: names of routers whose stored scores are dropped first.
        costs: prices, for dollars beside shares.
        on_progress: called with (router, prompts scored, prompts in all).

    Raises:
        ConfigError: no router, or a name in ``overwrite_cache`` that is not evaluated.
        ScoringError: a router failed.
    """
    settings = settings or EvaluationSettings()
    if not routers:
        raise ConfigError("give at least one router to evaluate")
    unknown = sorted(set(overwrite_cache) - set(routers))
    if unknown:
        raise ConfigError(f"overwrite_cache names {', '.join(unknown)}, which is not among the routers evaluated")
    results: dict[str, RouterResult] = {}
    samples = {}
    for name, router in routers.items():
        if cache is not None and name in overwrite_cache:
            cache.forget(router.fingerprint)
        scores = scores_of(
            router, benchmark, settings=settings, cache=cache, on_progress=on_progress and partial(on_progress, name)
        )
        results[name], samples[name] = measure_router(
            name, router, scores, benchmark, settings=settings, shares=CURVE_SHARES, costs=costs
        )
    comparisons = [
        PairComparison(
            first,
            second,
            metric,
            difference=results[first].metrics[metric].value - results[second].metrics[metric].value,
            interval=paired_difference(samples[first], samples[second], metric),
        )
        for first, second in itertools.combinations(routers, 2)
        for metric in COMPARED_METRICS
    ]
    return Evaluation(
        benchmark=benchmark,
        settings=settings,
        baselines=baselines_of(
            benchmark.strong_quality,
            benchmark.weak_quality,
            CURVE_SHARES,
            pair=benchmark.pair,
            scale=benchmark.scale,
            num_results=settings.num_results,
            level=settings.level,
        ),
        routers=tuple(results.values()),
        comparisons=tuple(comparisons),
        costs=costs,
        versions=_versions(),
    )


def scores_of(
    router: Router,
    benchmark: Benchmark,
    *,
    settings: EvaluationSettings,
    cache: ScoreCache | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """Return a router's scores on a benchmark, shape (r, n): r repetitions for a random router, otherwise one.

    Repetitions continue the router's stream of random numbers, prompt by prompt in the benchmark's order, as RouteLLM
    does after ``random.seed(0)``.
    """
    total = len(benchmark)
    report = on_progress or (lambda _done, _total: None)
    if router.is_stochastic:
        repetitions = [checked_scores(router, benchmark.prompts) for _ in range(settings.random_iters)]
        report(total, total)
        return np.stack(repetitions)
    done = 0

    def count(further: int) -> None:
        nonlocal done
        done += further
        report(done, total)

    if cache is not None:
        return cache.scores(router, benchmark.prompts, batch_size=settings.batch_size, on_progress=count)[None, :]
    batches: list[FloatArray] = []
    for scores in score_in_batches(router, benchmark.prompts, batch_size=settings.batch_size):
        batches.append(scores)
        count(len(scores))
    return np.concatenate(batches)[None, :]


def _versions() -> dict[str, str]:
    packages: Sequence[str] = ("routellm-core", "numpy", "tokenizers", "torch", "onnxruntime")
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def prompt_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a JSON-ready row for each router and prompt, in the benchmark's order.

    ``decision`` is the tier when ``settings.at_share`` of the prompts, those with the highest scores (and ties with the
    lowest of them), go to the strong model; of a random router's repetitions, the first. ``lost`` is the quality that
    the better model would have added, in the benchmark's units. ``wrong`` says in words what is wrong with the
    decision: quality was lost, or the strong model was called where the weak one does as well; None for a right one.
    """
    benchmark = evaluation.benchmark
    strong, weak = (quality * benchmark.scale for quality in (benchmark.strong_quality, benchmark.weak_quality))
    rows = []
    for router in evaluation.routers:
        scores = router.scores[0]
        chosen = scores >= _threshold(scores, evaluation.settings.at_share)
        lost = np.maximum(strong, weak) - np.where(chosen, strong, weak)
        for n, prompt in enumerate(benchmark.prompts):
            wasted = bool(chosen[n] and weak[n] >= strong[n])
            wrong = "quality lost" if lost[n] > 0.0 else "strong not needed" if wasted else None
            rows.append(
                {
                    "router": router.name,
                    "id": benchmark.prompt_ids[n],
                    "group": benchmark.groups[n],
                    "prompt": prompt,
                    "score": float(scores[n]),
                    "decision": "strong" if chosen[n] else "weak",
                    "strong": float(strong[n]),
                    "weak": float(weak[n]),
                    "lost": float(lost[n]),
                    "wrong": wrong,
                }
            )
    return rows


def worst_rows(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return the ``count`` worst wrong decisions of each router: most quality lost, then furthest off by the score."""
    kept = []
    for router in dict.fromkeys(row["router"] for row in rows):
        wrong = [row for row in rows if row["router"] == router and row["wrong"]]
        wrong.sort(key=lambda row: (-row["lost"], -row["score"] if row["decision"] == "strong" else row["score"]))
        kept += wrong[:count]
    return kept


def _threshold(scores: FloatArray, share: float) -> float:
    return float(np.quantile(scores, 1.0 - share, method="higher")) if share > 0.0 else float("inf")
