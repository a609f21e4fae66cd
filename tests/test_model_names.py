from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_core.errors import InvalidThresholdError, RoutingError
from routellm_core.model_names import RouterModelName, format_model_name, parse_model_name


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
    assert parse_model_name(name) == RouterModelName(router, threshold)


@given(st.from_regex(r"[a-z][a-z_]{0,9}(-[a-z]{1,5})?", fullmatch=True), st.floats(0, 1))
def test_what_is_formatted_parses_back(router: str, threshold: float) -> None:
    assert parse_model_name(format_model_name(router, threshold)) == RouterModelName(router, threshold)


@pytest.mark.parametrize("name", ["gpt-4", "router-mf", "router", "", "router--", None, 3, "my-router-mf-0.5"])
def test_other_names_are_refused_with_the_form(name: Any) -> None:
    with pytest.raises(RoutingError, match=r"router-\[router name\]-\[threshold\]"):
        parse_model_name(name)


@pytest.mark.parametrize("name", ["router-mf-high", "router-mf-1.5", "router-mf--0.5", "router-mf-nan"])
def test_a_bad_threshold_is_named(name: str) -> None:
    with pytest.raises(InvalidThresholdError):
        parse_model_name(name)
