from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_core.errors import ConfigError
from routellm_core.metrics.curves import (
    Curve,
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

STRONG = np.array([1.0, 1.0, 1.0, 0.0])
WEAK = np.array([0.0, 0.0, 1.0, 0.0])
SCORES = np.array([0.9, 0.1, 0.5, 0.3])


def test_rows_by_hand() -> None:
    rows = threshold_rows(SCORES, STRONG, WEAK, num_results=2, scale=100.0)
    # Edges 0.1, 0.4 and 0.9: all strong, two strong, none.
    assert [row.threshold for row in rows] == pytest.approx([0.1, 0.4, 0.9])
    assert [row.strong_calls for row in rows] == [4, 2, 0]
    assert [row.quality for row in rows] == [75.0, 50.0, 25.0]
    assert [row.strict for row in rows] == [False, False, True]


def test_metrics_by_hand() -> None:
    curve = curve_of_rows(threshold_rows(SCORES, STRONG, WEAK, num_results=2, scale=100.0))
    assert area(curve) == pytest.approx(50.0)
    assert apgr(curve, 25.0, 75.0) == pytest.approx(0.5)
    assert call_performance_threshold(curve, 25.0, 75.0, 0.8) == pytest.approx(0.8)


def test_quality_at_shares_by_hand() -> None:
    quality = quality_at_shares(SCORES, STRONG, WEAK, np.array([0.0, 0.25, 0.5, 0.75, 1.0, 0.125]))
    # In order of score the gains are 1, 0, 0, 1 of 4 prompts, from a weak mean of 0.25.
    np.testing.assert_allclose(quality, [0.25, 0.5, 0.5, 0.5, 0.75, 0.375])


def test_ties_count_in_expectation() -> None:
    quality = quality_at_shares(np.full(4, 0.5), STRONG, WEAK, np.array([0.5]))
    assert quality[0] == pytest.approx(0.5)
    assert apgr_paper(np.full(4, 0.5), STRONG, WEAK) == pytest.approx(0.5)


def test_equal_scores_leave_two_rows() -> None:
    rows = threshold_rows(np.full(4, 0.5), STRONG, WEAK)
    assert [row.strong_calls for row in rows] == [4, 0]
    assert apgr(curve_of_rows(rows), 0.25, 0.75) == pytest.approx(0.5)


def test_first_crossing_is_defined_where_interpolation_is_not() -> None:
    curve = Curve(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.array([0.0, 0.6, 0.2, 0.4, 1.0]))
    assert first_crossing(curve, 0.0, 1.0, 0.5) == pytest.approx(0.25 * 0.5 / 0.6)
    assert first_crossing(curve, 0.0, 1.0, 0.0) == 0.0
    assert math.isnan(first_crossing(curve, 0.0, 2.0, 0.9))


def test_equal_models_have_no_gap_to_recover() -> None:
    assert math.isnan(float(performance_gap_recovered(0.5, 0.5, 0.5)))
    assert math.isnan(apgr(Curve(np.array([0.0, 1.0]), np.array([0.5, 0.5])), 0.5, 0.5))


def test_average_rows_groups_by_strong_calls() -> None:
    first = threshold_rows(SCORES, STRONG, WEAK, num_results=2)
    second = threshold_rows(SCORES[::-1].copy(), STRONG, WEAK, num_results=2)
    averaged = average_rows([first, second])
    assert [row.strong_calls for row in averaged] == [4, 2, 0]
    assert averaged[1].quality == pytest.approx((first[1].quality + second[1].quality) / 2)


def test_num_results_below_one() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        threshold_rows(SCORES, STRONG, WEAK, num_results=0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_rows_lie_on_the_exact_curve_and_span_it(prompts: list[tuple[float, bool, bool]]) -> None:
    scores, strong, weak = (np.array(column, dtype=np.float64) for column in zip(*prompts, strict=True))
    curve = curve_of_rows(threshold_rows(scores, strong, weak))
    assert curve.shares[0] == 0.0
    assert curve.shares[-1] == 1.0
    np.testing.assert_allclose(curve.quality, quality_at_shares(scores, strong, weak, curve.shares), atol=1e-12)
    assert curve.quality[0] == pytest.approx(weak.mean())
    assert curve.quality[-1] == pytest.approx(strong.mean())
