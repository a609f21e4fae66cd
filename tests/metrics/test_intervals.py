from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routellm_core.metrics.baselines import (
    baselines_of,
    oracle_quality,
    random_apgr_interval,
    random_quality,
)
from routellm_core.metrics.curves import (
    apgr,
    apgr_paper,
    area,
    call_performance_threshold,
    curve_of_rows,
    quality_at_shares,
    threshold_rows,
)
from routellm_core.metrics.intervals import Interval, bootstrap, normal_quantile, paired_difference
from routellm_core.types import ModelPair

SHARES = np.linspace(0, 1, 11)


def some_prompts(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(n), 2)  # ties on purpose
    weak = generator.random(n) < 0.3
    strong = generator.random(n) < 0.4 + 0.4 * scores
    return scores, strong.astype(float), weak.astype(float)


def test_a_resample_equals_the_plain_functions_on_the_drawn_prompts() -> None:
    scores, strong, weak = some_prompts(200)
    samples = bootstrap(scores, strong, weak, shares=SHARES, resamples=5, seed=3)
    generator = np.random.default_rng(3)
    for number in range(5):
        drawn = generator.integers(0, 200, size=200)
        part = scores[drawn], strong[drawn], weak[drawn]
        ends = float(part[2].mean()), float(part[1].mean())
        curve = curve_of_rows(threshold_rows(*part))
        assert samples.metrics["apgr"][number] == pytest.approx(apgr(curve, *ends))
        assert samples.metrics["auc"][number] == pytest.approx(area(curve))
        assert samples.metrics["cpt50"][number] == pytest.approx(call_performance_threshold(curve, *ends, 0.5))
        assert samples.metrics["apgr_paper"][number] == pytest.approx(apgr_paper(*part))
        expected = (quality_at_shares(*part, SHARES) - ends[0]) / (ends[1] - ends[0])
        np.testing.assert_allclose(samples.recovered[number], expected, atol=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    truth = 0.0
    for seed in range(40):
        scores, strong, weak = some_prompts(60_000 if seed == 0 else 400, seed)
        if seed == 0:
            truth = apgr_paper(scores, strong, weak)
            continue
        interval = bootstrap(scores, strong, weak, shares=SHARES, resamples=200, level=0.9).interval("apgr_paper")
        covered += truth in interval
    assert 30 <= covered <= 39  # 35.1 expected of 39


def test_paired_intervals_are_narrower_than_unpaired_ones() -> None:
    scores, strong, weak = some_prompts(500)
    nearly = np.clip(scores + np.random.default_rng(1).normal(0, 0.02, 500), 0, 1)
    first, second = (bootstrap(s, strong, weak, shares=SHARES, resamples=300, seed=1) for s in (scores, nearly))
    other_draws = bootstrap(nearly, strong, weak, shares=SHARES, resamples=300, seed=2)
    paired = paired_difference(first, second, "apgr")
    unpaired = paired_difference(first, other_draws, "apgr")
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)
    itself = paired_difference(first, first, "apgr")
    assert (itself.low, itself.high) == (0.0, 0.0)


def test_the_band_starts_at_weak_and_ends_at_strong() -> None:
    low, high = bootstrap(*some_prompts(300), shares=SHARES, resamples=50).band()
    np.testing.assert_allclose([low[0], high[0], low[-1], high[-1]], [0, 0, 1, 1], atol=1e-12)
    assert (low <= high).all()


def test_no_gap_gives_no_interval_and_no_warning() -> None:
    same = np.ones(10)
    samples = bootstrap(np.linspace(0, 1, 10), same, same, shares=SHARES, resamples=5)
    assert np.isnan(samples.interval("apgr").low)
    assert np.isnan(samples.band()[0]).all()


def test_repetitions_of_a_random_router_take_turns() -> None:
    _, strong, weak = some_prompts(200)
    generator = np.random.default_rng(0)
    repeated = generator.random((10, 200))
    wide = bootstrap(repeated, strong, weak, shares=SHARES, resamples=200).interval("apgr")
    assert 0.5 in wide


def test_random_expectation_and_spread_match_simulation() -> None:
    _, strong, weak = some_prompts(50)
    generator = np.random.default_rng(0)
    simulated, slopes = [], []
    for _ in range(4000):
        order = generator.permutation(50)
        gains = np.concatenate(([0.0], np.cumsum((strong - weak)[order])))
        simulated.append(weak.mean() + gains[::5] / 50)
        slopes.append(np.trapezoid(gains[::5] / gains[-1], SHARES))
    expected, deviation = random_quality(strong, weak, SHARES)
    np.testing.assert_allclose(np.mean(simulated, axis=0), expected, atol=0.004)
    np.testing.assert_allclose(np.std(simulated, axis=0), deviation, atol=0.003)
    interval = random_apgr_interval(strong, weak)
    assert (interval.low + interval.high) / 2 == pytest.approx(0.5)
    assert (interval.high - 0.5) / normal_quantile(0.95) == pytest.approx(float(np.std(slopes)), rel=0.05)


def test_oracle_by_hand() -> None:
    strong, weak = np.array([1.0, 5.0, 2.0]), np.array([2.0, 1.0, 1.0])
    # Gains -1, 4 and 1: the first call brings 4, the second 1, the third nothing.
    np.testing.assert_allclose(oracle_quality(strong, weak, np.array([0, 1, 2, 3]) / 3) * 3, [4, 8, 9, 9])


def test_best_single_is_the_better_model_even_when_that_is_the_weak_one() -> None:
    baselines = baselines_of(np.array([0.0, 1.0]), np.array([1.0, 1.0]), SHARES, pair=ModelPair("big", "tiny"))
    assert baselines.best_single == "tiny"
    assert baselines.best_single_quality == 1.0


def test_interval_contains() -> None:
    assert 0.5 in Interval(0.4, 0.6, 0.95)
    assert 0.7 not in Interval(0.4, 0.6, 0.95)
    assert "0.5" not in Interval(0.4, 0.6, 0.95)
