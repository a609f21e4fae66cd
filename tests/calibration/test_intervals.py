from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from routellm_core.calibration import RankedScores
from routellm_core.calibration.sample import normal_quantile, rows_for_margin, share_estimate, threshold_estimate


@pytest.mark.parametrize(("k", "n", "m"), [(0, 50, 50), (1, 50, 10), (500, 1000, 1000), (49, 50, 100), (3, 10, 5000)])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_interval_of_the_share_is_the_beta_binomial(k: int, n: int, m: int, level: float) -> None:
    tail = (1 - level) / 2
    expected = stats.betabinom(m, k + 0.5, n - k + 0.5).ppf([tail, 1 - tail]) / m
    estimate = share_estimate(k, n, m, level)
    assert (estimate.low, estimate.high) == pytest.approx((min(expected[0], k / n), max(expected[1], k / n)))


@pytest.mark.parametrize(("k", "n"), [(0, 50), (1, 50), (1960, 3920), (300_000, 1_000_000)])
def test_in_the_long_run_it_is_the_beta(k: int, n: int) -> None:
    estimate = share_estimate(k, n, None, 0.99)
    expected = stats.beta(k + 0.5, n - k + 0.5).ppf([0.005, 0.995])
    assert (estimate.low, estimate.high) == pytest.approx((min(expected[0], k / n), expected[1]), abs=1e-6)


def test_a_million_further_prompts_are_nearly_the_long_run() -> None:
    million, endless = (share_estimate(500, 1000, size, 0.99) for size in (1_000_000, None))
    assert (million.low, million.high) == pytest.approx((endless.low, endless.high), abs=1e-4)


def test_the_interval_of_the_threshold_is_what_resampling_gives() -> None:
    scores = np.random.default_rng(3).beta(2, 5, size=400)
    ranked = RankedScores(scores)
    cut = ranked.nearest_cut(0.3)
    generator = np.random.default_rng(4)
    resampled = [np.quantile(generator.choice(scores, 400), 0.7) for _ in range(4000)]
    estimate = threshold_estimate(ranked, cut, 0.95)
    low, high = np.quantile(resampled, [0.025, 0.975])
    width = high - low
    assert estimate.low == pytest.approx(low, abs=0.1 * width)
    assert estimate.high == pytest.approx(high, abs=0.1 * width)


def test_rows_for_a_margin_give_that_margin() -> None:
    rows = rows_for_margin(0.3, 0.02, 0.99)
    estimate = share_estimate(round(0.3 * rows), rows, rows, 0.99)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(0.02, rel=0.02)


def test_the_normal_quantile() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
