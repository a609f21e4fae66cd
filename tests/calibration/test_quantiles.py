from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routellm_core.calibration import score_quantiles, share_at_threshold, threshold_for_share
from routellm_core.errors import CalibrationError, InvalidThresholdError

UNIFORM = np.linspace(0, 1, 1001)
TIED = np.concatenate([np.linspace(0, 0.5, 300, endpoint=False), np.full(401, 0.5), np.linspace(0.501, 1, 300)])


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.93, 0.07), (1.0, 0.0)])
def test_the_uniform_distribution_is_its_own_answer(share: float, threshold: float) -> None:
    assert threshold_for_share(UNIFORM, share) == pytest.approx(threshold)
    assert share_at_threshold(UNIFORM, threshold) == pytest.approx(share)


def test_it_is_the_quantile_that_routellm_takes() -> None:
    scores = np.random.default_rng(1).beta(2, 5, size=4001)
    for share in (0.05, 0.3, 0.5, 0.77):
        assert threshold_for_share(score_quantiles(scores), share) == pytest.approx(np.quantile(scores, 1 - share))


def test_tied_scores_go_to_the_nearer_side_together() -> None:
    # The run of equal quantiles is at 300 … 700 of 1000: shares of 0.7 with it and 0.3 without it can be reached.
    for share, reached in ((0.69, 0.7), (0.5, 0.7), (0.49, 0.3), (0.31, 0.3)):
        threshold = threshold_for_share(TIED, share)
        assert (threshold <= 0.5) == (reached == 0.7)
        assert share_at_threshold(TIED, threshold) == pytest.approx(reached, abs=1e-3)


def test_a_threshold_keeps_clear_of_quantiles_that_a_checkpoint_rounded() -> None:
    exact = 0.1234567894999
    rounded = np.full(1001, float(f"{exact:.9g}"))
    assert threshold_for_share(rounded, 0.9) <= exact
    assert threshold_for_share(rounded, 0.1) > exact


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.floats(0, 1), st.floats(0, 1))
@example(scores=[0.0, 3e-56, 3e-56], first=0.5, second=0.75)  # quantiles nearer to each other than the clearance
@example(scores=[0.5, 0.5, 0.5 + 3e-10, 0.5 + 3e-10, 0.5 + 5e-9], first=0.3, second=0.6)
def test_a_greater_share_never_raises_the_threshold(scores: list[float], first: float, second: float) -> None:
    low, high = sorted((first, second))
    quantiles = score_quantiles(scores)
    assert threshold_for_share(quantiles, low) >= threshold_for_share(quantiles, high)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.floats(0, 1))
def test_shares_are_shares(scores: list[float], threshold: float) -> None:
    assert 0.0 <= share_at_threshold(score_quantiles(scores), threshold) <= 1.0


@pytest.mark.parametrize("quantiles", [[], [0.5], [0.5, 0.4], [-0.1, 0.5], [0.5, 1.1], [[0.1, 0.2]], [0.1, np.nan]])
def test_other_numbers_are_no_quantiles(quantiles: list[float]) -> None:
    with pytest.raises(CalibrationError, match="ascending numbers"):
        threshold_for_share(quantiles, 0.5)


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidThresholdError):
        threshold_for_share(UNIFORM, 1.2)
