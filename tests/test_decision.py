from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_core.decision import (
    ModelWish,
    decide,
    format_model_name,
    parse_model_name,
    requested_model,
    validate_threshold,
)
from routellm_core.errors import ConfigError, InvalidThresholdError, RoutingError
from routellm_core.types import Ladder, ModelPair

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


@pytest.mark.parametrize(
    ("name", "router", "threshold"),
    [
        ("router-mf-0.11593", "mf", 0.11593),
        ("router-sw_ranking-1", "sw_ranking", 1.0),
        ("router-my-own-router-0.5", "my-own-router", 0.5),
        ("router-mf-1e-05", "mf", 1e-05),
    ],
)
def test_parses_router_and_threshold(name: str, router: str, threshold: float) -> None:
    assert parse_model_name(name) == ModelWish(router=router, threshold=threshold)


@given(st.from_regex(r"[a-z][a-z_]{0,9}(-[a-z]{1,5})?", fullmatch=True), st.floats(0, 1))
def test_what_is_formatted_parses_back(router: str, threshold: float) -> None:
    assert parse_model_name(format_model_name(router, threshold)) == ModelWish(router=router, threshold=threshold)


@pytest.mark.parametrize("name", ["gpt-4", "router-mf", "router", "", "router--", None, 3, "my-router-mf-0.5"])
def test_other_names_are_refused_with_the_form(name: Any) -> None:
    with pytest.raises(RoutingError, match=r"router-\[router name\]-\[threshold\]"):
        parse_model_name(name)


@pytest.mark.parametrize("name", ["router-mf-high", "router-mf-1.5", "router-mf--0.5", "router-mf-nan"])
def test_a_bad_threshold_is_named(name: str) -> None:
    with pytest.raises(InvalidThresholdError):
        parse_model_name(name)


@pytest.mark.parametrize(
    ("model", "wish"),
    [
        (None, ModelWish()),
        ("auto", ModelWish()),
        ("strong", ModelWish(force="strong")),
        ("big", ModelWish(force="strong")),
        ("weak", ModelWish(force="weak")),
        ("small", ModelWish(force="weak")),
        ("router-mf-0.3", ModelWish(router="mf", threshold=0.3)),
    ],
)
def test_what_model_may_ask_for(model: str | None, wish: ModelWish) -> None:
    assert requested_model(model, PAIR) == wish


@pytest.mark.parametrize("model", ["gpt-9", "router-mf", "", 3, ["strong"]])
def test_another_model_is_refused_with_what_is_allowed(model: Any) -> None:
    with pytest.raises(RoutingError, match=r"'auto', 'strong' or 'big', 'weak' or 'small', or 'router-\[router name\]"):
        requested_model(model, PAIR)


def test_a_name_that_two_tiers_share_means_the_stronger() -> None:
    assert requested_model("same", ModelPair("same", "same")) == ModelWish(force="strong")


def test_a_ladder_takes_the_strongest_model_whose_threshold_is_reached() -> None:
    ladder = Ladder(("nano", "mini", "full"))
    chosen = [decide(score, (0.1, 0.25), ladder, router="r") for score in (0.0, 0.1, 0.24, 0.25, 1.0)]
    assert [decision.model for decision in chosen] == ["nano", "mini", "mini", "full", "full"]
    assert [decision.tier for decision in chosen] == ["weak", "tier-2", "tier-2", "strong", "strong"]
    assert [decision.threshold for decision in chosen] == [0.1, 0.1, 0.1, 0.25, 0.25]
    with pytest.raises(ConfigError, match="at least two models"):
        Ladder(("alone",))


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_pair_is_the_ladder_of_two(score: float, threshold: float) -> None:
    pair = decide(score, threshold, PAIR, router="r")
    assert pair == decide(score, (threshold,), Ladder(("small", "big")), router="r")
    assert pair.tier == ("strong" if score >= threshold else "weak")
