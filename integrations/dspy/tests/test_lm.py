"""A routing LM is a ``dspy.LM``: calls, history, counts, cache, usage, cost, options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request
from dspy_routellm import RouteLLM, calls_by_model, routing_of

from routellm_core import ModelSettings, load_router
from routellm_core.calibration import Calibration
from routellm_core.errors import ConfigError, InvalidThresholdError, UnknownRouterError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Asked = Callable[[RouteLLM], list[str]]
MakeLM = Callable[..., RouteLLM]


def test_the_router_chooses_the_model_and_history_tells_which(lm: RouteLLM, local_models: LocalModelServer) -> None:
    assert lm("What is 6 * 7?") == ["big answers: What is 6 * 7?"]
    assert lm("Hello!") == ["small answers: Hello!"]
    assert [request["model"] for request in local_models.requests[-2:]] == ["big", "small"]
    routing = lm.history[0]["routing"]
    assert (routing["tier"], routing["model"], routing["score"], routing["threshold"]) == (
        "strong",
        "openai/big",
        0.9,
        0.5,
    )
    assert routing_of(lm.history[1])["model"] == "openai/small"
    assert calls_by_model(lm.history) == lm.model_counts == {"openai/big": 1, "openai/small": 1}
    assert calls_by_model([{"model": "openai/other", "response": None}]) == {"openai/other": 1}


async def test_asynchronous_calls_are_routed_alike(lm: RouteLLM) -> None:
    assert await lm.acall("What is 6 * 7?") == ["big answers: What is 6 * 7?"]
    assert lm.history[-1]["routing"]["tier"] == "strong"


def test_a_typed_request_returns_a_typed_response(lm: RouteLLM) -> None:
    response = lm(Request(model=lm.model, messages=(Message.user("Hello!"),)))
    assert response.text == "small answers: Hello!"
    assert routing_of(response)["model"] == "openai/small"
    with pytest.raises(ValueError, match="must match"):
        lm(Request(model="openai/big", messages=(Message.user("Hello!"),)))


def test_several_candidates_come_from_the_decided_model(lm: RouteLLM) -> None:
    assert lm("6 * 7", n=2, temperature=0.7) == ["big answers: 6 * 7"] * 2
    assert lm.history[-1]["routing"]["model"] == "openai/big"
    assert lm.model_counts == {"openai/big": 2}


def test_the_cache_answers_the_same_call_and_keeps_the_decision(lm: RouteLLM) -> None:
    assert lm("6 * 7") == lm("6 * 7")
    assert lm.model_counts == {"openai/big": 1}
    assert [entry["routing"]["model"] for entry in lm.history] == ["openai/big"] * 2
    assert calls_by_model(lm.history) == {"openai/big": 2}
    assert lm.history[1]["usage"] == {}


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.05},
        {"strong": "openai/bigger"},
        {"weak": "openai/tiny"},
        {"router": "random", "threshold": 0.5},
        {"route_fields": ["question"]},
        {"no_prompt_tier": "weak"},
        {"weak": {"model": "openai/small", "extra": {"temperature": 0.1}}},
    ],
)
def test_what_may_change_a_decision_changes_the_cache_key(make_lm: MakeLM, change: dict[str, Any]) -> None:
    first, second = make_lm(), make_lm(**change)
    assert first.model != second.model
    first("Hello!")
    second("Hello!")
    assert sum(second.model_counts.values()) == 1
    assert make_lm().model == first.model


def test_the_name_reads_well_and_triggers_no_rule_of_the_models(make_lm: MakeLM) -> None:
    lm = make_lm("openai/gpt-5.4", "openai/gpt-5.4-nano", threshold=0.116, router="mf")
    assert lm.model.startswith("routellm/router-mf-0.116(openai:gpt-5.4|openai:gpt-5.4-nano)#")
    assert lm.kwargs == {"temperature": None, "max_tokens": None}


def test_usage_is_booked_under_the_model_that_answered(lm: RouteLLM) -> None:
    with dspy.track_usage() as tracker:
        lm("6 * 7")
        lm("Hello!")
        lm("Hello!")  # from the cache
    usage = tracker.get_total_tokens()
    assert set(usage) == {"openai/big", "openai/small"}
    assert usage["openai/small"]["prompt_tokens"] == lm.history[1]["usage"]["prompt_tokens"]


def test_usage_of_failed_calls_is_not_lost_or_doubled(make_lm: MakeLM) -> None:
    lm = make_lm("openai/fail-500")
    with dspy.track_usage() as tracker:
        lm("6 * 7")
    assert set(tracker.get_total_tokens()) == {"openai/small"}


def test_cost_comes_from_the_models_own_prices(make_lm: MakeLM) -> None:
    prices = {"input_cost_per_token": 0.5, "output_cost_per_token": 2.0}
    lm = make_lm(weak={"model": "openai/small", **prices})
    lm("Hello!")
    usage = lm.history[-1]["usage"]
    assert lm.history[-1]["cost"] == 0.5 * usage["prompt_tokens"] + 2.0 * usage["completion_tokens"]
    lm("6 * 7")
    assert lm.history[-1]["cost"] is None


def test_parameters_reach_the_model_and_its_own_defaults_fill_the_rest(
    make_lm: MakeLM, local_models: LocalModelServer
) -> None:
    extra = {"temperature": 0.1, "top_p": 0.2, "frequency_penalty": 0.3}
    lm = make_lm(weak=ModelSettings(model="openai/small", extra=extra), max_tokens=50, seed=7)
    lm("Hello!", temperature=0.9)
    sent = local_models.requests[-1]
    assert (sent["temperature"], sent["top_p"], sent["frequency_penalty"], sent["seed"]) == (0.9, 0.2, 0.3, 7)
    assert sent.get("max_completion_tokens", sent.get("max_tokens")) == 50


def test_a_given_lm_answers_through_its_own_engine_and_settings(
    make_lm: MakeLM, local_models: LocalModelServer
) -> None:
    weak = dspy.LM("openai/small", api_base=local_models.base_url, api_key="own", temperature=0.3)
    lm = make_lm(weak=weak)
    assert lm.weak_lm is weak
    assert lm("Hello!") == ["small answers: Hello!"]
    assert local_models.requests[-1]["temperature"] == 0.3
    assert weak.history == []


async def test_a_given_lm_with_dspys_native_engine(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    strong = dspy.LM("openai/gpt-4o", engine="lm15", api_base=local_models.base_url, api_key="own")
    lm = make_lm(strong, cache=False)
    assert lm("6 * 7") == await lm.acall("6 * 7") == ["gpt-4o answers: 6 * 7"]
    assert lm.history[0]["usage"]["prompt_tokens"] > 0


def test_a_routing_lm_may_be_a_model_of_another(make_lm: MakeLM) -> None:
    prices = {"input_cost_per_token": 1.0, "output_cost_per_token": 1.0}
    inner = make_lm({"model": "openai/big", **prices}, "openai/middle", cache=False)
    router = FixedScoreRouter(score=lambda text: 0.9 if "sum" in text else 0.1)
    lm = make_lm(inner, router=router)
    with dspy.track_usage() as tracker:
        assert lm("sum: 6 * 7") == ["big answers: sum: 6 * 7"]
        assert lm("sum: 6 + 7") == ["middle answers: sum: 6 + 7"]
        assert lm("hello") == ["small answers: hello"]
    assert calls_by_model(lm.history) == {"openai/big": 1, "openai/middle": 1, "openai/small": 1}
    assert lm.history[0]["routing"]["inner"]["score"] == 0.9
    assert lm.history[0]["cost"] == lm.history[0]["usage"]["total_tokens"]
    usage = tracker.get_total_tokens()
    assert set(usage) == {"openai/big", "openai/middle", "openai/small"}
    assert usage["openai/big"]["total_tokens"] == lm.history[0]["usage"]["total_tokens"]


def test_the_disk_cache_keeps_decisions(make_lm: MakeLM, tmp_path: Path) -> None:
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path))
    try:
        make_lm()("6 * 7")
        dspy.cache.reset_memory_cache()
        lm = make_lm()
        assert lm("6 * 7") == ["big answers: 6 * 7"]
        assert lm.model_counts == {}
        assert lm.history[-1]["routing"]["model"] == "openai/big"
    finally:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


def test_copies_share_the_router_and_may_have_another_threshold(lm: RouteLLM) -> None:
    copy = lm.copy(temperature=0.8, rollout_id=3)
    assert copy.routing is lm.routing
    assert copy.model == lm.model
    all_strong = lm.copy(threshold=0.0)
    assert all_strong("Hello!") == ["big answers: Hello!"]
    assert all_strong.routing.router is lm.routing.router
    assert (all_strong.threshold, lm.threshold) == (0.0, 0.5)
    assert all_strong.model != lm.model
    with pytest.raises(InvalidThresholdError):
        lm.copy(threshold=2.0)


def test_decide_tells_without_calling(lm: RouteLLM) -> None:
    assert lm.decide("6 * 7").model == "openai/big"
    assert lm.model_counts == {}


def test_a_share_is_resolved_by_the_router(make_lm: MakeLM) -> None:
    assert make_lm(router="random", threshold="25%").threshold == pytest.approx(0.75, abs=0.002)
    assert make_lm(router="random", threshold=None, strong_share=0.25).threshold == pytest.approx(0.75, abs=0.002)


def test_what_is_left_out_comes_from_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "routellm.yaml"
    config.write_text("router: random\nthreshold: 0.3\nmodels: {strong: openai/a, weak: openai/b}\n")
    monkeypatch.setenv("ROUTELLM_CONFIG", str(config))
    lm = RouteLLM()
    assert (lm.routing.router.name, lm.threshold) == ("random", 0.3)
    assert (lm.strong_lm.model, lm.weak_lm.model) == ("openai/a", "openai/b")


def test_the_configurations_calibration_resolves_shares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scores = [0.2 + 0.1 * n / 100 for n in range(101)]
    Calibration.of(load_router("random"), scores, data="made up").save(tmp_path / "mine.json")
    config = tmp_path / "routellm.yaml"
    config.write_text(f"router: random\ncalibration: {tmp_path / 'mine.json'}\nthreshold: 50%\n")
    monkeypatch.setenv("ROUTELLM_CONFIG", str(config))
    assert RouteLLM().threshold == pytest.approx(0.25, abs=0.002)
    assert RouteLLM(threshold=0.7).threshold == 0.7


def test_capabilities_are_what_both_models_have(make_lm: MakeLM) -> None:
    both = make_lm("openai/gpt-4o", "openai/gpt-4o-mini")
    assert both.supports_function_calling
    assert both.supports_response_schema
    assert {"temperature", "tools", "response_format"} <= both.supported_params
    one = make_lm("openai/gpt-4o", "openai/small")
    assert not one.supports_function_calling
    assert not one.supports_response_schema
    assert not one.supports_reasoning


def test_extract_replaces_the_fields(make_lm: MakeLM, asked: Asked) -> None:
    lm = make_lm(extract=lambda request: "1 * 1" if len(request.messages) == 1 else None)
    assert lm("Hello!") == ["big answers: Hello!"]
    assert asked(lm) == ["1 * 1"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"router": "nf"}, UnknownRouterError, "unknown router 'nf'"),
        ({"router": 3}, ConfigError, "router must be a router's name"),
        ({"threshold": 1.5}, InvalidThresholdError, "invalid threshold 1.5"),
        ({"threshold": "150%"}, InvalidThresholdError, "from 0% to 100%"),
        ({"threshold": 0.5, "strong_share": 0.5}, InvalidThresholdError, "give one of them"),
        ({"strong": 3}, ConfigError, "strong must be a litellm model name"),
        ({"weak": " "}, ConfigError, "got an empty name"),
        ({"weak": {"model": "x", "api_bse": "y"}}, ConfigError, "Did you mean 'api_base'"),
        ({"route_fields": "question"}, ConfigError, r"list of input field names, such as \['question'\]"),
        ({"route_fields": ["a b"]}, ConfigError, "'a b' is not the name of a field"),
        ({"extract": "question"}, ConfigError, "extract='question' must be a function"),
        ({"no_prompt_tier": "medium"}, ConfigError, "no_prompt_tier='medium'"),
        ({"on_scoring_error": "ignore"}, ConfigError, "on_scoring_error='ignore'"),
        ({"resilience": 3}, ConfigError, "resilience must be a ResiliencePolicy"),
        ({"treshold": 0.5}, ConfigError, "Did you mean 'threshold'"),
        ({"num_ctx": 4096}, ConfigError, "belongs into its settings"),
        ({"strong": "openai/gpt-5.4", "temperature": 0.5}, dspy.LMConfigurationError, "reasoning models require"),
    ],
)
def test_bad_options_say_what_is_wrong(
    make_lm: MakeLM, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_lm(**options)


def test_client_settings_are_not_accepted_per_call(lm: RouteLLM) -> None:
    with pytest.raises(ValueError, match="Configure them on the engine"):
        lm("Hello!", api_key="other")


def test_scoring_failures_follow_the_policy(make_lm: MakeLM) -> None:
    def broken(_: str) -> float:
        raise RuntimeError("no scores today")

    assert make_lm(router=FixedScoreRouter(score=broken))("Hello!") == ["big answers: Hello!"]
    weak = make_lm(router=FixedScoreRouter(score=broken), on_scoring_error="weak")
    assert weak("Hello!") == ["small answers: Hello!"]
    with pytest.raises(dspy.LMError, match="no scores today"):
        make_lm(router=FixedScoreRouter(score=broken), on_scoring_error="raise")("Hello!")


def test_history_is_plain_enough_to_inspect(lm: RouteLLM, capsys: pytest.CaptureFixture[str]) -> None:
    lm("Hello!")
    lm.inspect_history()
    assert "small answers" in capsys.readouterr().out
    json.dumps(lm.history[-1]["routing"])
