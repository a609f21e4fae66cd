from __future__ import annotations

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks import Benchmark, PairUsage
from routellm_core.evals.costs import cost_table
from routellm_core.metrics.curves import ThresholdRow
from routellm_core.metrics.reliability import reliability_of
from routellm_core.pricing import parse_price, price_of
from routellm_core.types import ModelPair

PRICES = {
    "big": {"input_cost_per_token": 1e-5, "output_cost_per_token": 3e-5},
    "b/org/small": {"input_cost_per_token": 2e-7, "output_cost_per_token": 4e-7},
    "a/org/small": {"input_cost_per_token": None, "output_cost_per_token": 1e-7},
    "free": {"max_tokens": 5},
}


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.1, 0.1, 0.9, 0.9])
    wins = np.array([False, True, True, True])
    result = reliability_of(scores, wins, bins=2)
    # Bins of two: |0.1 - 0.5| and |0.9 - 1.0|, equally heavy.
    assert result.expected_calibration_error == pytest.approx(0.25)
    assert result.brier_score == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert result.bin_size.tolist() == [2, 2]
    assert result.win_rate == 0.75


def test_edges_belong_to_a_bin() -> None:
    result = reliability_of(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), bins=2)
    assert result.bin_size.tolist() == [1, 2]


def test_bins_of_equal_mass_and_bad_settings() -> None:
    scores = np.array([0.50, 0.51, 0.52, 0.53])
    result = reliability_of(scores, np.array([False, False, True, True]), bins=2, bin_by="mass")
    assert result.bin_win_rate.tolist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match="width"):
        reliability_of(scores, scores > 0.5, bin_by="area")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        reliability_of(scores, scores > 0.5, bins=0)


def priced_benchmark(pair: ModelPair, *, with_usage: bool = True) -> Benchmark:
    tokens = np.array([100.0, 300.0])
    return Benchmark(
        name="priced",
        title="Priced",
        pair=pair,
        prompts=("a", "b"),
        prompt_ids=("1", "2"),
        strong_quality=np.ones(2),
        weak_quality=np.zeros(2),
        groups=("all", "all"),
        scale=1.0,
        quality_label="quality",
        calls_per_prompt=1,
        prompts_before_decontamination=2,
        source="a test",
        usage=PairUsage(tokens, tokens / 10, tokens, tokens / 10, "by hand") if with_usage else None,
    )


def test_dollars_by_hand() -> None:
    table = cost_table(priced_benchmark(ModelPair("big", "org/small")), prices=PRICES)
    assert table is not None
    # 200 tokens sent and 20 answered on average, for a thousand prompts.
    assert table.strong_dollars == pytest.approx(200 * 1e-5 * 1000 + 20 * 3e-5 * 1000)
    assert table.weak_dollars == pytest.approx(200 * 2e-7 * 1000 + 20 * 4e-7 * 1000)
    assert "b/org/small" in table.weak_price.source
    first_only = ThresholdRow(0.5, False, 0.5, 1, 1)
    expected = (100 * 1e-5 + 10 * 3e-5 + 300 * 2e-7 + 30 * 4e-7) / 2 * 1000
    assert table.dollars(np.array([0.5, 0.1]), first_only) == pytest.approx(expected)


def test_unknown_prices_and_tokens_give_no_dollars() -> None:
    assert cost_table(priced_benchmark(ModelPair("big", "unknown")), prices=PRICES) is None
    assert cost_table(priced_benchmark(ModelPair("big", "org/small"), with_usage=False), prices=PRICES) is None
    assert price_of("free", PRICES) is None


def test_given_prices_win() -> None:
    given = parse_price("1,2")
    table = cost_table(priced_benchmark(ModelPair("x", "y")), strong_price=given, weak_price=given)
    assert table is not None
    assert table.strong_dollars == table.weak_dollars == pytest.approx((200 + 2 * 20) / 1000)


def test_a_given_price_is_never_ignored() -> None:
    given = parse_price("1,2")
    with pytest.raises(ConfigError, match="no price is known for 'unknown'; give --strong-price and --weak-price both"):
        cost_table(priced_benchmark(ModelPair("big", "unknown")), strong_price=given, prices=PRICES)
    with pytest.raises(ConfigError, match="does not say how many tokens"):
        cost_table(priced_benchmark(ModelPair("x", "y"), with_usage=False), strong_price=given, weak_price=given)


@pytest.mark.parametrize("text", ["10", "a,b", "-1,2", "nan,1", "1,2,3"])
def test_bad_prices(text: str) -> None:
    with pytest.raises(ConfigError, match="price"):
        parse_price(text)
