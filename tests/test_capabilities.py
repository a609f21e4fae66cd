"""Models that cannot take a request are passed over; a request that none can take is refused with both limits."""

from __future__ import annotations

from typing import Any

import pytest

from routellm_core import ModelPair, ModelSelector, ModelSettings, UnfittingRequestError
from routellm_core.capabilities import Capabilities, capabilities_of, common_capabilities, needs_of
from routellm_core.testing import FixedScoreRouter
from routellm_core.turns import Turn

PAIR = ModelPair(strong="openai/big", weak="openai/small")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def selector(strong: dict[str, Any], weak: dict[str, Any], *, score: float = 0.1) -> ModelSelector:
    models = {
        "strong": ModelSettings(model=PAIR.strong, **strong),
        "weak": ModelSettings(model=PAIR.weak, **weak),
    }
    return ModelSelector(FixedScoreRouter(score=lambda _: score), PAIR, threshold=0.5, models=models)


def decided(built: ModelSelector, **parameters: Any) -> Any:
    return built.select(Turn.of(parameters["messages"], parameters))


LONG = user("word " * 5000)  # 25,000 characters, about 6,250 tokens


def test_what_does_not_fit_the_weak_model_s_window_goes_to_the_strong_one() -> None:
    built = selector({}, {"context_window": 4096})
    decision = decided(built, messages=LONG)
    assert (decision.tier, decision.score) == ("strong", 0.1)
    assert "openai/small holds 4096 tokens of about 6250" in decision.reason
    assert decision.details["passed_over"] == {"openai/small": "holds 4096 tokens of about 6250"}
    assert decided(built, messages=user("short")).tier == "weak"
    assert built.select(LONG).tier == "strong"
    assert built.select("word " * 5000).tier == "strong"


def test_a_strong_model_that_is_too_small_is_passed_over_too() -> None:
    assert decided(selector({"context_window": 4096}, {}, score=0.9), messages=LONG).tier == "weak"


def test_the_answer_that_is_asked_for_counts() -> None:
    built = selector({}, {"context_window": 8192})
    assert decided(built, messages=LONG).tier == "weak"
    assert decided(built, messages=LONG, max_tokens=4000).tier == "strong"


@pytest.mark.parametrize("text", ["слово " * 5000, "文字文字" * 2000, "word " * 5000])
def test_a_length_is_estimated_in_any_script(text: str) -> None:
    tokens = needs_of({"messages": user(text)}).tokens
    assert 5000 <= tokens <= 14000
    assert needs_of({"input": text}).tokens == needs_of({"prompt": text}).tokens == tokens


def test_what_fits_neither_is_refused_with_both_limits() -> None:
    built = selector({"context_window": 2048}, {"context_window": 1024})
    with pytest.raises(UnfittingRequestError, match=r"'openai/small' holds 1024.*'openai/big' holds 2048") as raised:
        decided(built, messages=LONG)
    assert raised.value.code == "context_length_exceeded"


def test_an_estimate_alone_refuses_nothing() -> None:
    decision = decided(selector({"context_window": 6000}, {"context_window": 1024}), messages=LONG)
    assert decision.tier == "strong"  # 6,250 by the estimate, which may be wrong by a fifth


@pytest.mark.parametrize(
    ("parameters", "weak", "said"),
    [
        ({"messages": user([{"type": "text", "text": "What is it?"}, IMAGE])}, {"modalities": ["text"]}, "image"),
        ({"messages": user([{"type": "input_audio", "input_audio": {}}])}, {"modalities": ["image"]}, "audio"),
        ({"messages": user([{"type": "file", "file": {"file_id": "f"}}])}, {"modalities": []}, "file"),
        ({"messages": user("q"), "tools": [TOOL]}, {"tools": False}, "tools"),
        (
            {"messages": user("q"), "response_format": {"type": "json_schema", "json_schema": {}}},
            {"json_schema": False},
            "json schema",
        ),
    ],
)
def test_a_model_that_lacks_something_is_passed_over(parameters: Any, weak: dict[str, Any], said: str) -> None:
    decision = decided(selector({}, weak), **parameters)
    assert decision.tier == "strong"
    if decision.score is not None:
        assert f"openai/small does not take {said}" in decision.reason
    plain = {**parameters, "messages": user("q")}
    assert decided(selector({}, weak), messages=plain["messages"]).tier == "weak"
    with pytest.raises(UnfittingRequestError, match=f"'openai/big' does not take {said}") as raised:
        decided(selector(weak, weak), **parameters)
    assert raised.value.code == "unsupported_value"


def test_tools_that_may_not_be_called_are_not_needed() -> None:
    assert decided(selector({}, {"tools": False}), messages=user("q"), tools=[TOOL], tool_choice="none").tier == "weak"


def test_an_image_in_base64_is_not_read_as_text() -> None:
    assert needs_of({"messages": user([IMAGE])}).tokens < 2000


def test_a_forced_model_is_asked_all_the_same() -> None:
    built = selector({}, {"context_window": 100})
    assert built.select(LONG, force="weak").tier == "weak"


def test_known_models_need_no_settings() -> None:
    able = capabilities_of("openai/gpt-4")
    assert (able.context_window, able.tools) == (8192, True)
    assert capabilities_of(ModelSettings(model="gpt-4", context_window=100)).context_window == 100
    assert capabilities_of("gpt-5.4").takes("image")
    assert capabilities_of("nobody/knows-this") == Capabilities()
    built = ModelSelector(FixedScoreRouter(score=lambda _: 0.1), ModelPair("gpt-5.4", "gpt-4"), threshold=0.5)
    assert built.select(user("word " * 10_000)).model == "gpt-5.4"
    # The map says that gpt-5.4 reads images, and nothing of gpt-4.
    assert built.select(user([{"type": "text", "text": "What is it?"}, IMAGE])).model == "gpt-5.4"


def test_what_holds_for_both() -> None:
    both = common_capabilities(
        [
            Capabilities(100, 10, {"image": True, "audio": True}, tools=True, json_schema=None),
            Capabilities(50, None, {"image": True}, tools=True, json_schema=False),
        ]
    )
    assert (both.context_window, both.max_output_tokens) == (50, 10)
    assert (both.takes("image"), both.takes("audio"), both.tools, both.json_schema) == (True, False, True, False)
