from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_core.decision import decide, validate_threshold
from routellm_core.errors import InvalidThresholdError
from routellm_core.types import ModelPair

PAIR = ModelPair(strong="big", weak="small")


@pytest.mark.parametrize(
    ("score", "threshold", "tier"),
    [(0.5, 0.5, "strong"), (0.49, 0.5, "weak"), (0.0, 0.0, "strong"), (0.999, 1.0, "weak"), (1.0, 1.0, "strong")],
)
def test_a_score_that_reaches_the_threshold_is_strong(score: float, threshold: float, tier: str) -> None:
    decision = decide(score, threshold, PAIR, router="r")
    assert decision.tier == tier
    assert decision.model == {"strong": "big", "weak": "small"}[tier]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_adds_strong_calls(score: float, first: float, second: float) -> None:
    low, high = sorted((first, second))
    if decide(score, high, PAIR, router="r").tier == "strong":
        assert decide(score, low, PAIR, router="r").tier == "strong"


def test_the_decision_says_why_and_is_plain_json() -> None:
    record = decide(0.25, 0.116, PAIR, router="mf", latency_seconds=0.001).as_dict()
    assert record == {
        "tier": "strong",
        "model": "big",
        "score": 0.25,
        "threshold": 0.116,
        "router": "mf",
        "reason": "score 0.250 reaches the threshold 0.116",
        "latency_seconds": 0.001,
    }


@pytest.mark.parametrize("threshold", [0, 1, 0.116, "0.116", "1e-05"])
def test_numbers_and_numeric_strings_are_thresholds(threshold: Any) -> None:
    assert validate_threshold(threshold) == float(threshold)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, math.nan, math.inf, "high", "", None, True, [0.5]])
def test_anything_else_is_refused_with_what_is_allowed(threshold: Any) -> None:
    with pytest.raises(InvalidThresholdError, match=r"a number in \[0, 1\]"):
        validate_threshold(threshold)
