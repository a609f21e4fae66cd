"""The public surface that RouteLLM's users know, through litellm and HTTP to a local OpenAI-compatible process."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from routellm_core import Controller, ModelSettings, ResiliencePolicy, RouteLLMConfig
from routellm_core.config import FallbackSettings
from routellm_core.controller import GPT_4_AUGMENTED_CONFIG
from routellm_core.errors import BackendError, ConfigError, InvalidThresholdError, RoutingError, UnknownRouterError
from routellm_core.testing import FakeBackend
from routellm_core.testing.local_models import LocalModelServer

HELLO = [{"role": "user", "content": "Hello!"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]},
    },
}
NO_WAIT = ResiliencePolicy(attempts=2, wait_initial=0, wait_max=0)


@pytest.fixture
def client(local_models: LocalModelServer) -> Controller:
    return Controller(["random"], "openai/big", "openai/small", api_base=local_models.base_url, api_key="local")


def test_create_answers_with_the_decision_attached(client: Controller) -> None:
    response = client.chat.completions.create(model="router-random-0.0", messages=HELLO)
    assert response.choices[0]["message"]["content"] == "big answers: Hello!"
    assert (response.routing.tier, response.routing.model, response.routing.threshold) == ("strong", "openai/big", 0.0)
    assert response.model_dump()["routing"]["router"] == "random"
    assert client.completion(router="random", threshold=1.0, messages=HELLO).choices[0].message.content == (
        "small answers: Hello!"
    )
    assert client.model_counts == {"random": {"openai/big": 1, "openai/small": 1}}


async def test_acreate_is_the_asynchronous_twin(client: Controller) -> None:
    response = await client.chat.completions.acreate(model="router-random-0.0", messages=HELLO)
    assert response.choices[0].message.content == "big answers: Hello!"
    assert response.routing.tier == "strong"


def test_streams_know_their_decision_before_the_first_chunk(client: Controller) -> None:
    with client.completion(model="router-random-1", messages=HELLO, stream=True) as stream:
        assert stream.routing.tier == "weak"
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "small answers: Hello!"
    assert chunks[0].routing == stream.routing


async def test_async_streams_too(client: Controller) -> None:
    async with await client.acompletion(
        model="router-random-0", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        assert stream.routing.tier == "strong"
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "big answers: Hello!"
    assert chunks[-1].usage.total_tokens > 0


def test_an_abandoned_stream_closes(client: Controller) -> None:
    stream = client.completion(model="router-random-0", messages=HELLO, stream=True)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_parameters_pass_through(client: Controller, local_models: LocalModelServer) -> None:
    response = client.completion(
        model="strong",
        messages=[{"role": "user", "content": "What will the weather be in 3 days?"}],
        tools=[TOOL],
        tool_choice="auto",
        temperature=0.3,
        seed=7,
        user="u",
        verbosity="low",
    )
    assert response.choices[0].message.tool_calls[0].function.arguments == '{"days": 3}'
    sent = local_models.requests[-1]
    assert (sent["model"], sent["temperature"], sent["seed"], sent["user"], sent["verbosity"]) == (
        "big",
        0.3,
        7,
        "u",
        "low",
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    structured = client.completion(
        model="weak",
        messages=[{"role": "user", "content": "Give me 42"}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    assert structured.choices[0].message.content == '{"n": 42}'


@pytest.mark.parametrize(
    ("model", "answered"), [("strong", "big"), ("weak", "small"), ("openai/big", "big"), ("openai/small", "small")]
)
def test_a_model_by_name_bypasses_routing(client: Controller, model: str, answered: str) -> None:
    response = client.completion(model=model, messages=HELLO)
    assert response.model == answered
    assert response.routing.score is None


def test_each_model_has_its_own_endpoint_and_key() -> None:
    with LocalModelServer(api_key="one") as first, LocalModelServer(api_key="two") as second:
        client = Controller(
            ["random"],
            {"model": "openai/big", "api_base": first.base_url, "api_key": "one", "extra": {"temperature": 0.9}},
            ModelSettings(model="openai/small", api_base=second.base_url, api_key="two"),  # type: ignore[arg-type]
            api_key="unused",
        )
        assert client.completion(model="strong", messages=HELLO).model == "big"
        assert client.completion(model="weak", messages=HELLO, temperature=0.1).model == "small"
        assert first.requests[0]["temperature"] == 0.9
        assert second.requests[0]["temperature"] == 0.1


@pytest.mark.parametrize("trouble", ["fail-429", "fail-500", "fail-503", "drop", "garbage", "empty"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_model_falls_back_to_the_other(local_models: LocalModelServer, trouble: str, stream: bool) -> None:
    client = Controller(
        ["random"], f"openai/{trouble}", "openai/small", api_base=local_models.base_url, api_key="k", resilience=NO_WAIT
    )
    response = client.completion(model="router-random-0", messages=HELLO, stream=stream)
    decision = response.routing
    assert (decision.tier, decision.model, decision.fallback_from) == ("weak", "openai/small", f"openai/{trouble}")
    assert "failed with status" in decision.reason
    if stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in response) == "small answers: Hello!"
    aresponse = asyncio.run(client.acompletion(model="router-random-0", messages=HELLO))
    assert aresponse.routing.fallback_from == f"openai/{trouble}"
    assert client.model_counts["random"] == {"openai/small": 2}


@pytest.mark.parametrize(
    ("trouble", "status"), [("fail-400", 400), ("fail-401", 401), ("fail-403", 403), ("fail-422", 422)]
)
def test_what_would_fail_again_does_not_fall_back(local_models: LocalModelServer, trouble: str, status: int) -> None:
    client = Controller(
        ["random"], f"openai/{trouble}", "openai/small", api_base=local_models.base_url, api_key="k", resilience=NO_WAIT
    )
    with pytest.raises(BackendError, match=f"openai/{trouble}' failed with status {status}") as raised:
        client.completion(model="strong", messages=HELLO)
    assert (raised.value.status_code, raised.value.retryable) == (status, False)


def test_a_time_out_is_504_and_fallback_can_be_off(local_models: LocalModelServer) -> None:
    slow = {"model": "openai/slow-5", "timeout": 0.2, "api_base": local_models.base_url, "api_key": "k"}
    once = ResiliencePolicy(attempts=1, fallback=False)
    client = Controller(["random"], slow, "openai/small", resilience=once)
    with pytest.raises(BackendError, match="did not answer within 0.2 s") as raised:
        client.completion(model="strong", messages=HELLO)
    assert (raised.value.status_code, raised.value.retryable) == (504, True)


def test_a_stream_cut_in_the_middle_is_an_error_after_its_beginning(local_models: LocalModelServer) -> None:
    client = Controller(["random"], "openai/cut", "openai/small", api_base=local_models.base_url, api_key="k")
    stream = client.completion(
        model="strong", messages=[{"role": "user", "content": "one two three four five six"}], stream=True
    )
    with pytest.raises(BackendError, match="the connection to model 'openai/cut' failed") as raised:
        list(stream)
    assert raised.value.status_code == 502


def test_no_key_and_wrong_key_say_what_to_do() -> None:
    with LocalModelServer(api_key="right") as server:
        for key in (None, "wrong"):
            client = Controller(["random"], "openai/big", "openai/small", api_base=server.base_url, api_key=key)
            with pytest.raises(BackendError, match="Set the provider's key") as raised:
                client.completion(model="strong", messages=HELLO)
            assert raised.value.status_code == 401
            assert str(raised.value).count("status 401") == 1


def test_both_models_failing_names_both(local_models: LocalModelServer) -> None:
    client = Controller(
        ["random"],
        "openai/fail-429",
        "openai/fail-500",
        api_base=local_models.base_url,
        api_key="k",
        resilience=NO_WAIT,
    )
    with pytest.raises(BackendError, match=r"both models failed: .*fail-429.*429.*fail-500.*500") as raised:
        client.completion(model="strong", messages=HELLO)
    assert raised.value.status_code == 429


def test_route_and_batch_scores() -> None:
    client = Controller(["random"], "big", "small", backend=FakeBackend())
    assert client.route(prompt="What's the squareroot of 144?", router="random", threshold=0.0) == "big"
    assert client.route("x", "random", 1.0) == "small"
    prompts = pd.Series(["a", "b", "c"], index=[3, 5, 9])
    scores = client.batch_calculate_win_rate(prompts=prompts, router="random")
    assert list(scores.index) == [3, 5, 9]
    assert scores.between(0, 1).all()
    assert isinstance(client.batch_calculate_win_rate(["a"], "random"), np.ndarray)
    assert client.batch_calculate_win_rate([], "random").shape == (0,)


def test_a_progress_bar_changes_no_score() -> None:
    plain = Controller(["random"], "big", "small", backend=FakeBackend())
    shown = Controller(["random"], "big", "small", backend=FakeBackend(), progress_bar=True)
    prompts = [str(number) for number in range(600)]
    np.testing.assert_array_equal(
        plain.batch_calculate_win_rate(prompts, "random"), shown.batch_calculate_win_rate(prompts, "random")
    )


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"model": "router-bert-0.5"}, UnknownRouterError, "loaded here are random"),
        ({"model": "gpt-4"}, RoutingError, r"router-\[router name\]-\[threshold\]"),
        ({"model": "router-random"}, RoutingError, r"router-\[router name\]-\[threshold\]"),
        ({"model": "router-random-1.5"}, InvalidThresholdError, "1.5"),
        ({"router": "random", "threshold": "high"}, InvalidThresholdError, "high"),
        ({"router": "random"}, RoutingError, "no threshold"),
        ({"model": "auto", "threshold": 0.5, "messages": []}, RoutingError, "messages is empty"),
        ({"model": "auto", "threshold": 0.5, "messages": None}, RoutingError, "must be a list"),
    ],
)
def test_a_bad_request_is_a_routing_error(call: dict[str, Any], error: type[Exception], said: str) -> None:
    client = Controller(["random"], "big", "small", backend=FakeBackend())
    with pytest.raises(error, match=said):
        client.completion(**{"messages": HELLO, **call})
    with pytest.raises(error, match=said):
        asyncio.run(client.acompletion(**{"messages": HELLO, **call}))


def test_missing_messages_are_named() -> None:
    with pytest.raises(RoutingError, match="messages is missing"):
        Controller(["random"], "big", "small", backend=FakeBackend()).completion(model="strong")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"routers": []}, ConfigError, "non-empty list"),
        ({"routers": "mf"}, ConfigError, "non-empty list"),
        ({"routers": ["randon"]}, UnknownRouterError, "Did you mean 'random'"),
        ({"config": {"random": {"sede": 3}}}, ConfigError, "Did you mean 'seed'"),
        ({"config": {"randon": {"seed": 3}}}, ConfigError, "unknown key 'randon'.*Did you mean 'random'"),
        ({"config": {"routers": {"randon": {"seed": 3}}}}, ConfigError, "unknown key 'randon'"),
        ({"config": {"models": {"strong": "x"}}}, ConfigError, "unknown key 'models'.*build_controller"),
        ({"config": {"random": "seed"}}, ConfigError, "must map option names to values, got str"),
        ({"config": "config.yaml"}, ConfigError, "got str"),
        ({"strong_model": {"model": "x", "api_bas": "y"}}, ConfigError, "Did you mean 'api_base'"),
        ({"strong_model": 3}, ConfigError, "got int"),
    ],
)
def test_a_bad_construction_is_refused(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Controller(**{"routers": ["random"], "strong_model": "a", "weak_model": "b", **arguments})


def test_keys_never_show(caplog: pytest.LogCaptureFixture, local_models: LocalModelServer) -> None:
    with caplog.at_level(logging.INFO):
        client = Controller(
            ["random"], "openai/big", "openai/small", api_base=local_models.base_url, api_key="sk-secret"
        )
        client.completion(model="strong", messages=HELLO)
    ours = [str(vars(record)) for record in caplog.records if record.name.startswith("routellm_core")]
    assert ours
    assert "sk-secret" not in "".join(ours)
    assert "sk-secret" not in repr(ModelSettings(model="m", api_key="sk-secret"))  # type: ignore[arg-type]


def test_a_tool_loop_takes_the_answers_that_it_gave(client: Controller) -> None:
    messages: list[Any] = [{"role": "user", "content": "What will the weather be in 3 days?"}]
    answer = client.completion(model="strong", messages=messages, tools=[TOOL]).choices[0].message
    result = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "rain"}
    for made in (answer, {"role": "assistant", "content": None, "tool_calls": answer.tool_calls}):
        response = client.completion(model="strong", messages=[*messages, made, result], tools=[TOOL])
        assert response.choices[0].message.content
        asynchronous = client.acompletion(model="strong", messages=[*messages, made, result], tools=[TOOL])
        assert asyncio.run(asynchronous).choices[0].message.content


def test_options_of_routers_come_in_either_form_or_from_a_whole_configuration() -> None:
    def fingerprint(config: Any, **options: Any) -> str:
        controller = Controller(["random"], "big", "small", config=config, backend=FakeBackend(), **options)
        return controller.routers["random"].fingerprint

    seven = fingerprint({"random": {"seed": 7}})
    assert seven == fingerprint({"routers": {"random": {"seed": 7}}}) == "random:order:7"
    assert fingerprint(GPT_4_AUGMENTED_CONFIG) == fingerprint(None)
    whole = RouteLLMConfig(routers={"random": {"seed": 7}}, threshold=0.0, fallback=FallbackSettings(attempts=5))
    controller = Controller(["random"], "big", "small", config=whole, backend=FakeBackend())
    assert controller.routers["random"].fingerprint == seven
    assert controller.route("x") == "big"
    assert controller.resilience.attempts == 5
    passed = Controller(["random"], "big", "small", config=whole, threshold=1.0, backend=FakeBackend())
    assert passed.route("x") == "small"


def test_one_text_is_no_list_of_prompts() -> None:
    with pytest.raises(RoutingError, match="give a list of prompts"):
        Controller(["random"], "big", "small", backend=FakeBackend()).batch_calculate_win_rate("hi", "random")


def test_a_controller_can_be_pickled_and_copied(client: Controller) -> None:
    client.completion(model="strong", messages=HELLO)
    arrived = pickle.loads(pickle.dumps(client))
    assert arrived.model_counts == {"random": {"openai/big": 1}}
    assert arrived.chat.completions.create(model="weak", messages=HELLO).model == "small"
    assert arrived.model_counts["random"]["openai/small"] == 1
    assert client.model_counts == {"random": {"openai/big": 1}}
    assert copy.copy(client) is client
    assert copy.deepcopy([client])[0] is client


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_stays_with_the_model_that_took_over(local_models: LocalModelServer, stream: bool) -> None:
    once = ResiliencePolicy(attempts=1, cooldown_after=0)
    client = Controller(
        ["random"], "openai/big", "openai/fail-503", api_base=local_models.base_url, api_key="k", resilience=once
    )
    messages: list[Any] = [{"role": "user", "content": "What will the weather be in 3 days?"}]
    answer = client.completion(model="router-random-1", messages=messages, tools=[TOOL], stream=stream)
    assert answer.routing.fallback_from == "openai/fail-503"
    if stream:
        calls = [call for chunk in answer for choice in chunk.choices for call in choice.delta.tool_calls or []]
        made = {"id": calls[0].id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
    else:
        messages.append(answer.choices[0].message)
        made = answer.choices[0].message.model_dump()["tool_calls"][0]
    messages.append({"role": "tool", "tool_call_id": made["id"], "content": "rain"})
    second = client.completion(model="router-random-1", messages=messages, tools=[TOOL])
    assert (second.routing.tier, second.routing.fallback_from) == ("strong", None)


def test_two_models_of_one_name_are_told_apart_by_tier() -> None:
    with LocalModelServer() as server:
        gone = {"model": "openai/same", "api_base": "http://127.0.0.1:9/v1", "api_key": "k"}
        here = {"model": "openai/same", "api_base": server.base_url, "api_key": "k"}
        client = Controller(["random"], gone, here, resilience=NO_WAIT)
        decision = client.completion(model="router-random-0", messages=HELLO).routing
        assert (decision.tier, decision.model, decision.fallback_from) == ("weak", "openai/same", "openai/same")
        assert "openai/same (strong) failed" in decision.reason
        assert "openai/same (weak) answered" in decision.reason
        assert client.model_counts == {"random": {"openai/same (weak)": 1}}
