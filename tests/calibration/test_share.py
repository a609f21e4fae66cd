from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_core.calibration import PromptCosts, RankedScores, calibrate_share, share_curve
from routellm_core.errors import CalibrationError, InvalidThresholdError

# Coarse scores make ties; fine ones lie as close together as floats get.
SCORES = st.lists(st.one_of(st.integers(0, 8).map(lambda eighth: eighth / 8), st.floats(0, 1)), min_size=1, max_size=40)
SHARES = st.floats(0, 1)


def share_of(scores: list[float], threshold: float) -> float:
    return float(np.mean(np.asarray(scores) >= threshold))


def reachable(scores: list[float]) -> list[float]:
    thresholds = [0.0, *scores, *(float(np.nextafter(score, 2)) for score in scores), 1.0]
    return [share_of(scores, threshold) for threshold in thresholds if threshold <= 1.0]


@given(SCORES, SHARES)
def test_no_threshold_comes_nearer_to_the_share(scores: list[float], share: float) -> None:
    result = calibrate_share(scores, share)
    achieved = share_of(scores, result.threshold.value)
    assert achieved == pytest.approx(result.share.value)
    assert abs(achieved - share) <= min(abs(other - share) for other in reachable(scores)) + 1e-12


@given(SCORES, SHARES, SHARES)
def test_a_greater_share_never_raises_the_threshold(scores: list[float], first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert calibrate_share(scores, low).threshold.value >= calibrate_share(scores, high).threshold.value


@given(SCORES, SHARES, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(scores: list[float], share: float, random: object) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert calibrate_share(scores, share) == calibrate_share(shuffled, share)


@given(SCORES, SHARES)
def test_intervals_hold_their_estimates(scores: list[float], share: float) -> None:
    result = calibrate_share(scores, share)
    for estimate in (result.threshold, result.share):
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0


@given(SCORES)
def test_cuts_are_the_reachable_shares(scores: list[float]) -> None:
    ranked = RankedScores(scores)
    assert sorted({cut / len(scores) for cut in ranked.cuts.tolist()}) == sorted(set(reachable(scores)))
    for cut in ranked.cuts.tolist():
        assert ranked.strong_calls(ranked.threshold_at(cut)) == cut


def test_the_threshold_lies_halfway_between_the_scores_it_divides() -> None:
    result = calibrate_share([0.1, 0.2, 0.4, 0.8], 0.5)
    assert result.threshold.value == pytest.approx(0.3)
    assert result.share.value == 0.5
    assert (result.target.kind, result.target.value, result.sample_size) == ("share", 0.5, 4)


def test_all_and_none_hold_for_scores_not_seen() -> None:
    scores = [0.3, 0.4, 0.5]
    assert calibrate_share(scores, 1.0).threshold.value == 0.0
    assert calibrate_share(scores, 1.0).share.low == 1.0
    assert calibrate_share(scores, 0.0).threshold.value == 1.0


def test_ties_are_said_with_the_shares_that_can_be_reached() -> None:
    scores = [0.2] * 30 + [0.5] * 60 + [0.9] * 10
    result = calibrate_share(scores, 0.5)
    assert result.share.value == 0.7
    (few, ties) = sorted(result.warnings, key=lambda text: "cannot be reached" in text)
    assert "60.0% of the prompts have the same score 0.5" in ties
    assert "only reachable shares are 0.0%, 10.0%, 70.0%, 100.0%" in ties
    assert "100 prompts are few" in few


def test_ties_among_many_scores_name_the_neighbours() -> None:
    scores = np.concatenate([np.linspace(0, 0.4, 500), np.full(1000, 0.5), np.linspace(0.6, 1, 500)])
    result = calibrate_share(scores, 0.6)
    assert any("nearest reachable shares are 25.0%, 75.0%, and 75.0% was taken" in text for text in result.warnings)


def test_a_score_of_one_always_goes_strong() -> None:
    assert calibrate_share([1.0, 1.0, 0.2, 0.1], 0.0).share.value == 0.5


def test_equally_near_shares_take_the_greater() -> None:
    assert calibrate_share([0.5, 0.5], 0.5).share.value == 1.0


def test_a_large_sample_needs_no_warning_and_a_larger_one_narrows_the_interval() -> None:
    generator = np.random.default_rng(0)
    small, large = (calibrate_share(generator.random(size), 0.5) for size in (100, 10_000))
    assert "for ± 2%, calibrate on about 8,294" in small.warnings[0]
    assert large.warnings == ()
    assert large.share.high - large.share.low < (small.share.high - small.share.low) / 8


def test_the_evaluation_size_is_a_parameter() -> None:
    scores = np.random.default_rng(0).random(1000)
    width = {
        size: (lambda estimate: estimate.high - estimate.low)(calibrate_share(scores, 0.5, evaluation_size=size).share)
        for size in (None, 100, 1000, math.inf)
    }
    assert width[100] > width[1000] > width[math.inf]
    assert width[None] == width[1000]
    assert width[1000] / width[math.inf] == pytest.approx(math.sqrt(2), rel=0.05)
    assert calibrate_share(scores, 0.5, evaluation_size=math.inf).evaluation_size is None


def test_the_curve_has_one_point_for_each_share_that_can_be_reached() -> None:
    costs = PromptCosts(np.full(4, 0.01), np.full(4, 0.001))
    points = share_curve([0.1, 0.1, 0.9, 0.9], costs=costs)
    assert [point.share.value for point in points] == [0.0, 0.5, 1.0]
    assert [point.cost.value for point in points if point.cost] == pytest.approx([1.0, 5.5, 10.0])
    assert all(point.quality is None for point in points)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "half", True])
def test_a_share_is_a_number_from_0_to_1(share: float) -> None:
    with pytest.raises(InvalidThresholdError, match="share of strong calls"):
        calibrate_share([0.5], share)


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        ([], {}, "at least one score"),
        ([[0.5]], {}, "at least one score"),
        ([0.5, math.nan], {}, r"number in \[0, 1\]"),
        ([1.5], {}, r"number in \[0, 1\]"),
        ([0.5], {"level": 1.0}, "level=1.0"),
        ([0.5], {"evaluation_size": 0}, "evaluation_size=0"),
        ([0.5], {"evaluation_size": 2.5}, "evaluation_size=2.5"),
        ([0.5], {"costs": PromptCosts(np.ones(2), np.ones(2))}, "1 scores, but 2 costs"),
    ],
)
def test_wrong_input_is_refused(scores: list[float], options: dict[str, object], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        calibrate_share(scores, 0.5, **options)  # type: ignore[arg-type]


@settings(max_examples=20)
@given(st.integers(2, 200), SHARES)
def test_distinct_scores_reach_every_count(count: int, share: float) -> None:
    result = calibrate_share(np.linspace(0.01, 0.99, count), share)
    assert abs(result.share.value - share) <= 0.5 / count + 1e-12
