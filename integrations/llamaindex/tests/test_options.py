"""Construction: what is given, what the configuration fills in, what is refused, what is written down."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import MockLLM
from llama_index.llms.routellm import RouteLLM

from routellm_core import ModelPair, ModelSelector, ModelSettings
from routellm_core.errors import ConfigError, InvalidThresholdError, RouteLLMError, RoutingError, UnknownRouterError
from routellm_core.memory import ConversationMemory
from routellm_core.testing import FixedScoreRouter

HARD, EASY = "a hard question", "a question"


def test_the_shipped_router_works_offline() -> None:
    llm = RouteLLM("mf", 0.5, strong=MockLLM(), weak=MockLLM())
    assert llm.decide("Prove that there are infinitely many primes.").score > llm.decide("Hi!").score
    assert llm.model_name == "router-mf-0.5"


@pytest.mark.parametrize("share", [{"threshold": "30%"}, {"strong_share": 0.3}])
def test_a_share_of_strong_calls(share: dict[str, Any]) -> None:
    llm = RouteLLM("mf", strong=MockLLM(), weak=MockLLM(), **share)
    all_strong = RouteLLM("mf", "100%", strong=MockLLM(), weak=MockLLM())
    assert 0 < llm.decide("Hi!").threshold < 1
    assert all_strong.decide("Hi!").tier == "strong"
    assert llm.model_name.startswith("router-mf-")


def test_models_in_every_form(build: Any) -> None:
    base = build().api_base
    llm = build(
        strong=ModelSettings(model="openai/a", api_base=base, api_key="own", extra={"seed": 1}),  # type: ignore[arg-type]
        weak={"model": "openai/b", "api_base": base, "timeout": 9},
        api_base="http://127.0.0.1:1",
    )
    llm.complete(HARD)
    llm.complete(EASY)
    assert build.answered == ["a", "b"]
    assert build.requests[0]["seed"] == 1
    assert (llm.weak.timeout, llm.strong.api_key.get_secret_value()) == (9, "own")


def test_the_configuration_fills_what_is_left_out(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "router: random\nthreshold: 0.0\nno_prompt_tier: weak\nmodels:\n  strong: openai/huge\n  weak: openai/tiny\n"
    )
    monkeypatch.setenv("ROUTELLM_CONFIG", str(path))
    llm = RouteLLM(api_base=build().api_base, api_key="k")
    assert llm.complete("anything").text == "huge answers: anything"
    assert llm.model_name == "router-random-0.0"
    assert llm.no_prompt_tier == "weak"
    assert RouteLLM(threshold=0.7).model_name == "router-random-0.7"


def test_a_selector_may_be_shared(build: Any) -> None:
    router = FixedScoreRouter(score=0.5)
    selector = ModelSelector(router, ModelPair("other", "names"), threshold=0.4)
    llm = build(selector=selector, threshold=None)
    assert llm.complete(EASY).additional_kwargs["routing"]["model"] == "openai/big"
    assert build(selector=selector, threshold=0.9).complete(EASY).additional_kwargs["routing"]["tier"] == "weak"
    with pytest.raises(ConfigError, match="selector= brings its own sticky"):
        build(selector=selector, sticky="conversation")


def test_a_memory_may_be_shared(build: Any) -> None:
    memory = ConversationMemory()
    first, second = (build(sticky="conversation", memory=memory) for _ in range(2))
    first.complete(HARD, session="s")
    assert second.complete(EASY, session="s").additional_kwargs["routing"]["tier"] == "strong"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"threshhold": 0.5}, ConfigError, "Did you mean 'threshold'"),
        ({"threshold": 1.5}, InvalidThresholdError, "1.5"),
        ({"threshold": "150%"}, InvalidThresholdError, "150%"),
        ({"strong_share": 0.5}, InvalidThresholdError, "two ways"),
        ({"router": "randon"}, UnknownRouterError, "Did you mean 'random'"),
        ({"router": 3}, ConfigError, "router must be"),
        ({"strong": 3}, ConfigError, "strong must be a litellm model name"),
        ({"weak": " "}, ConfigError, "got an empty name"),
        ({"weak": {"model": "x", "api_bas": "y"}}, ConfigError, "Did you mean 'api_base'"),
        ({"on_scoring_error": "ignore"}, ConfigError, "on_scoring_error='ignore'"),
        ({"no_prompt_tier": "any"}, ConfigError, "no_prompt_tier='any'"),
        ({"resilience": "yes"}, ConfigError, "resilience must be"),
        ({"resilience": {"atempts": 1}}, ConfigError, "Did you mean 'attempts'"),
        ({"settle_seconds": -1}, ConfigError, "settle_seconds: Input should be greater"),
        ({"max_retries": -1}, ConfigError, "max_retries: Input should be greater"),
        ({"sticky": "user"}, ConfigError, "sticky"),
        ({"selector": "mf"}, ConfigError, "selector must be"),
        ({"weak": MockLLM(), "temperature": 0.5}, ConfigError, r"'MockLLM' \(MockLLM\) has no setting 'temperature'"),
    ],
)
def test_a_bad_construction_is_refused(build: Any, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        build(**options)
    assert isinstance(raised.value, RouteLLMError)


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("gpt-4", RoutingError, "'strong' or 'openai/big'"),
        ("router-mf-0.5", UnknownRouterError, "asks for the router 'mf'"),
        ("router-fixed-7", InvalidThresholdError, "7"),
    ],
)
def test_a_bad_wish_is_refused(build: Any, model: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        build().complete("x", model=model)


def test_it_is_written_down_without_keys_and_built_again(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = build(router="random", threshold=0.0, max_tokens=40, model_kwargs={"api_key": "sk-1"})
    record = llm.to_dict()
    assert record["class_name"] == "RouteLLM" == RouteLLM.class_name()
    assert (record["router"], record["threshold"]) == ("random", 0.0)
    assert "sk-1" not in llm.to_json()
    assert "local" not in llm.to_json()
    monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
    for again in (RouteLLM.from_dict(record), RouteLLM.from_json(llm.to_json())):
        assert again.complete("hello").text == "big answers: hello"
        assert again.to_dict() == record
    assert json.loads(llm.to_json())["strong"]["model"] == "openai/big"


def test_nested_and_foreign_models_are_written_down_too(build: Any) -> None:
    llm = build(router="random", strong=build(router="random"), weak=MockLLM(max_tokens=2))
    again = RouteLLM.from_dict(llm.to_dict())
    assert isinstance(again.strong, RouteLLM)
    assert again.weak.max_tokens == 2

    class Own(MockLLM):
        @classmethod
        def class_name(cls) -> str:
            return "Own"

    record = build(router="random", weak=Own()).to_dict()
    with pytest.raises(ConfigError, match=r"RouteLLM.from_dict\(data, weak=MyLLM"):
        RouteLLM.from_dict(record)
    assert isinstance(RouteLLM.from_dict(record, weak=Own()).weak, Own)


def test_it_can_be_pickled(build: Any) -> None:
    again = pickle.loads(pickle.dumps(build(router="random", threshold=0.0, api_key=None)))
    assert again.decide("x").tier == "strong"
    assert again.strong.model == "openai/big"
