"""Requests as one model takes them."""

from __future__ import annotations

from typing import Any

import pytest

from routellm_core.providers.parameters import fitted
from routellm_core.providers.settings import ModelSettings

CHAT = "chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]


def model(**settings: Any) -> ModelSettings:
    return ModelSettings(**{"model": "openai/m", "api_base": "http://x/v1", **settings})


def test_what_needs_no_change_is_the_same_object() -> None:
    request = {"messages": HELLO, "max_tokens": 5}
    assert fitted(model(), CHAT, request) is request
    assert fitted(model(drop_params=("seed",), rename_params={"a": "b"}), CHAT, request) is request


def test_parameters_are_left_out_and_renamed_and_the_request_stays_as_it_was() -> None:
    request = {"messages": HELLO, "max_tokens": 5, "seed": 1, "logit_bias": {}}
    settings = model(
        drop_params=["seed"],
        rename_params={"max_tokens": "max_completion_tokens"},
        extra={"additional_drop_params": ["logit_bias"]},
    )
    assert fitted(settings, CHAT, request) == {"messages": HELLO, "max_completion_tokens": 5}
    assert request["seed"] == 1


def test_a_name_that_the_request_gives_itself_wins_over_a_renamed_one() -> None:
    request = {"max_tokens": 5, "max_completion_tokens": 7}
    assert fitted(model(rename_params={"max_tokens": "max_completion_tokens"}), CHAT, request) == {
        "max_completion_tokens": 7
    }


def test_foreign_fields_of_the_history_are_stripped() -> None:
    history = [*HELLO, {"role": "assistant", "content": "a", "reasoning_content": "hm", "x": 1}, "odd"]
    found = fitted(model(drop_message_fields=["reasoning_content"]), CHAT, {"messages": history})
    assert found["messages"] == [*HELLO, {"role": "assistant", "content": "a", "x": 1}, "odd"]
    assert "reasoning_content" in history[1]


@pytest.mark.parametrize(
    ("settings", "is_renamed"),
    [
        ({"model": "openai/gpt-5.4", "api_base": None}, True),
        ({"model": "o3-mini", "api_base": None}, True),
        ({"model": "azure/gpt-5", "api_base": "https://r.example"}, True),
        ({"model": "openai/gpt-4o", "api_base": None}, False),
        ({"model": "openai/gpt-5.4", "api_base": "http://my-server/v1"}, False),
    ],
)
def test_openai_s_reasoning_models_take_max_completion_tokens(settings: dict[str, Any], is_renamed: bool) -> None:
    name = "max_completion_tokens" if is_renamed else "max_tokens"
    assert fitted(model(**settings), CHAT, {"max_tokens": 5}) == {name: 5}
