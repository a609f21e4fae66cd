from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_core.calibration import (
    PromptCosts,
    PromptQuality,
    RankedScores,
    calibrate_cost,
    calibrate_quality,
    calibrate_share,
)
from routellm_core.calibration.curves import CostCurve, QualityCurve
from routellm_core.errors import CalibrationError

FEW: dict[str, Any] = {"resamples": 5}


def made_up(n: int, *, seed: int = 0) -> tuple[np.ndarray, PromptCosts, PromptQuality]:
    """Scores that know where the strong model wins, long prompts that score high, 0/1 labels."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n)
    strong = (generator.random(n) < 0.95 - 0.2 * difficulty).astype(float)
    weak = (generator.random(n) < 0.95 - 0.7 * difficulty).astype(float)
    tokens = generator.lognormal(5 + difficulty, 0.5)
    return difficulty, PromptCosts(tokens * 3e-5, tokens * 1e-6), PromptQuality(strong, weak)


def routed(column: PromptCosts | PromptQuality, scores: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(scores >= threshold, column.strong, column.weak)


def in_order(column: Any, ranked: RankedScores) -> Any:
    return type(column)(column.strong[ranked.order], column.weak[ranked.order])


def test_curves_are_what_routing_gives() -> None:
    scores, costs, quality = made_up(50)
    ranked = RankedScores(scores)
    cost = CostCurve.of(in_order(costs, ranked), ranked.cuts)
    good = QualityCurve.of(in_order(quality, ranked), ranked.cuts)
    for index, cut in enumerate(ranked.cuts.tolist()):
        threshold = ranked.threshold_at(cut)
        dollars, answers = routed(costs, scores, threshold), routed(quality, scores, threshold)
        assert cost.mean[index] == pytest.approx(dollars.mean())
        assert cost.variance[index] == pytest.approx(dollars.var())
        ratio = answers.mean() / quality.strong.mean()
        spread = np.var(answers - ratio * quality.strong) / quality.strong.mean() ** 2
        assert good.mean[index] == pytest.approx(ratio)
        assert good.variance[index] == pytest.approx(spread)


def test_weights_count_prompts_as_repeating_them_does() -> None:
    scores, costs, quality = made_up(30)
    drawn = np.random.default_rng(1).integers(0, 30, 30)
    ranked, repeated = RankedScores(scores), RankedScores(scores[drawn])
    weights = np.bincount(np.argsort(ranked.order)[drawn], minlength=30)
    cut = repeated.strong_calls(ranked.threshold_at(12))
    for curve, column in ((CostCurve, costs), (QualityCurve, quality)):
        drawn_column = type(column)(column.strong[drawn], column.weak[drawn])
        weighted = curve.of(in_order(column, ranked), np.array([12]), weights)  # type: ignore[attr-defined]
        plain = curve.of(in_order(drawn_column, repeated), np.array([cut]))  # type: ignore[attr-defined]
        assert weighted.mean == pytest.approx(plain.mean)
        assert weighted.variance == pytest.approx(plain.variance)


def test_a_budget_is_spent_and_kept() -> None:
    scores, costs, quality = made_up(20_000)
    result = calibrate_cost(scores, costs, 5.0, quality=quality, **FEW)
    dollars = routed(costs, scores, result.threshold.value).mean() * 1000
    assert result.cost is not None
    assert result.quality is not None
    assert result.cost.value == pytest.approx(dollars)
    assert 4.8 < dollars < result.cost.high <= 5.0
    # Prompts that score high are long here, so the money buys fewer of them than tokens shared out evenly would.
    evenly = (5.0 - costs.weak.mean() * 1000) / ((costs.strong - costs.weak).mean() * 1000)
    assert result.share.value < evenly - 0.02


def test_a_quality_is_kept_with_its_lower_end() -> None:
    scores, costs, quality = made_up(20_000)
    result = calibrate_quality(scores, quality, 0.95, costs=costs, **FEW)
    assert result.quality is not None
    assert 0.95 <= result.quality.low < 0.951
    assert result.cost is not None
    assert result.cost.value == pytest.approx(routed(costs, scores, result.threshold.value).mean() * 1000)
    assert 0.1 < result.share.value < 0.9
    assert result.threshold.low <= result.threshold.value <= result.threshold.high


@settings(max_examples=15, deadline=None)
@given(st.floats(0.9, 0.99), st.floats(0.9, 0.99))
def test_a_higher_quality_never_takes_fewer_strong_calls(first: float, second: float) -> None:
    scores, _, quality = made_up(3000)
    low, high = sorted((first, second))
    assert (
        calibrate_quality(scores, quality, low, **FEW).share.value
        <= calibrate_quality(scores, quality, high, **FEW).share.value
    )


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 9.0), st.floats(1.0, 9.0))
def test_a_greater_budget_never_takes_fewer_strong_calls(first: float, second: float) -> None:
    scores, costs, _ = made_up(3000)
    low, high = sorted((first, second))
    assert (
        calibrate_cost(scores, costs, low, **FEW).share.value <= calibrate_cost(scores, costs, high, **FEW).share.value
    )


def test_the_order_of_rows_does_not_matter() -> None:
    scores, costs, quality = made_up(2000)
    order = np.random.default_rng(9).permutation(2000)
    shuffled = (
        scores[order],
        PromptCosts(costs.strong[order], costs.weak[order]),
        PromptQuality(quality.strong[order], quality.weak[order]),
    )
    for first, second in (
        (calibrate_cost(scores, costs, 4.0, **FEW), calibrate_cost(shuffled[0], shuffled[1], 4.0, **FEW)),
        (calibrate_quality(scores, quality, 0.93, **FEW), calibrate_quality(shuffled[0], shuffled[2], 0.93, **FEW)),
    ):
        assert first.threshold.value == second.threshold.value


def test_the_lower_end_holds_on_other_halves() -> None:
    held, reached = 0, 0
    for seed in range(100):
        scores, _, quality = made_up(3000, seed=seed)
        mine, other = slice(0, 1500), slice(1500, None)
        result = calibrate_quality(
            scores[mine], PromptQuality(quality.strong[mine], quality.weak[mine]), 0.93, resamples=1
        )
        answers = np.where(scores[other] >= result.threshold.value, quality.strong[other], quality.weak[other])
        fraction = answers.mean() / quality.strong[other].mean()
        assert result.quality is not None
        held += fraction >= result.quality.low
        reached += fraction >= 0.93
    assert held >= 97
    assert reached >= 97


def test_too_few_rows_are_refused_with_how_many_it_takes() -> None:
    scores, _, quality = made_up(60)
    with pytest.raises(CalibrationError, match=r"60 rows cannot support 98.0%.* about ([\d,]+) rows") as raised:
        calibrate_quality(scores, quality, 0.98, **FEW)
    rows = raised.value.rows_needed
    assert rows is not None
    assert rows > 60
    more_scores, _, more = made_up(2 * rows, seed=1)
    assert calibrate_quality(more_scores, more, 0.98, **FEW).share.value < 1.0
    fewer_scores, _, fewer = made_up(rows // 2, seed=1)
    with pytest.raises(CalibrationError):
        calibrate_quality(fewer_scores, fewer, 0.98, **FEW)


def test_a_quality_that_no_amount_of_rows_shows_is_said_so() -> None:
    quality = PromptQuality(np.ones(500), np.zeros(500))
    with pytest.raises(CalibrationError, match="no threshold below all strong") as raised:
        calibrate_quality(np.full(500, 0.5), quality, 0.9, **FEW)
    assert raised.value.rows_needed is None


def test_a_budget_below_the_weak_model_is_refused() -> None:
    scores, costs, _ = made_up(500)
    with pytest.raises(CalibrationError, match="everything to the weak model already costs") as raised:
        calibrate_cost(scores, costs, 0.01, **FEW)
    assert raised.value.rows_needed is None


def test_a_budget_too_near_to_the_weak_model_says_how_many_rows() -> None:
    scores, costs, _ = made_up(500)
    budget = float(costs.weak.mean()) * 1000 * 1.01
    with pytest.raises(CalibrationError, match="500 rows cannot support a budget") as raised:
        calibrate_cost(scores, costs, budget, **FEW)
    assert raised.value.rows_needed is not None
    assert raised.value.rows_needed > 500


def test_the_ends_are_said() -> None:
    scores, costs, quality = made_up(2000)
    assert calibrate_cost(scores, costs, 1000.0, **FEW).threshold.value == 0.0
    assert "covers sending everything" in calibrate_cost(scores, costs, 1000.0, **FEW).warnings[0]
    easy = calibrate_quality(scores, quality, 0.3, **FEW)
    assert (easy.share.value, easy.threshold.value) == (0.0, 1.0)
    assert "weak model alone" in easy.warnings[0]


def test_what_sampling_error_costs_is_always_said() -> None:
    scores, costs, quality = made_up(800)
    result = calibrate_quality(scores, quality, 0.95, costs=costs, **FEW)
    assert result.unpadded is not None
    assert result.unpadded.quality is not None
    # The unpadded threshold is the highest from the safe end whose own quality reaches the target.
    answers = routed(quality, scores, result.unpadded.threshold).mean() / quality.strong.mean()
    assert result.unpadded.quality.value == pytest.approx(answers)
    assert 0.95 <= answers < 0.955
    points = 100 * (result.share.value - result.unpadded.share.value)
    assert points > 1
    assert f"takes {points:.1f} points of strong calls more, $" in str(result.padding)
    assert f"would suggest {result.unpadded.share.value:.1%} strong calls" in str(result.padding)
    cheap = calibrate_cost(scores, costs, 4.0, **FEW)
    assert "points of strong calls fewer" in str(cheap.padding)
    assert calibrate_share(scores, 0.5).padding is None


def test_a_refusal_says_what_the_rows_alone_would_suggest() -> None:
    scores, _, quality = made_up(60)
    with pytest.raises(CalibrationError, match=r"would suggest \d+\.\d% strong calls \(threshold 0\.\d{5}\)"):
        calibrate_quality(scores, quality, 0.98, **FEW)


def test_a_share_tells_its_cost_and_quality() -> None:
    scores, costs, quality = made_up(5000)
    result = calibrate_share(scores, 0.5, costs=costs, quality=quality)
    assert result.cost is not None
    assert result.quality is not None
    assert routed(costs, scores, result.threshold.value).mean() * 1000 in result.cost
    assert result.quality.low < result.quality.value < result.quality.high


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: PromptCosts(np.ones(2), np.ones(3)), "2 strong costs, but 3 weak"),
        (lambda: PromptCosts(np.array([-1.0]), np.ones(1)), "strong costs must be finite numbers of at least 0"),
        (lambda: PromptQuality(np.ones(2), np.array([1.0, np.nan])), "weak qualities must be finite"),
        (lambda: PromptQuality(np.ones(2), np.ones(3)), "2 strong qualities, but 3"),
        (lambda: PromptQuality(np.zeros(2), np.ones(2)), "mean is above 0"),
        (lambda: calibrate_cost([0.5], PromptCosts(np.ones(1), np.ones(1)), -1), "max_cost=-1"),
        (lambda: calibrate_quality([0.5], PromptQuality(np.ones(1), np.ones(1)), 1.2), "min_quality=1.2"),
        (lambda: calibrate_cost([0.5], PromptCosts(np.ones(2), np.ones(2)), 1), "1 scores, but 2 costs"),
        (lambda: calibrate_cost([0.5], PromptCosts(np.ones(1), np.ones(1)), 9e9, resamples=0), "resamples=0"),
    ],
)
def test_wrong_input_is_refused(call: Any, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        call()
