"""The same situations over every way in: Controller, server, LangChain, LlamaIndex, DSPy.

What is common is what a person relies on: which model is asked, in which order, and what the decision says of it. What
only one way has is tested with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from routellm_core import Controller, ResiliencePolicy
from routellm_core.routers import registry
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

EASY, HARD = "Say how a cat sits, in one short sentence", "Prove the hard lemma on cats, in every detail of it"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
POLICY = {"attempts": 1, "wait_initial": 0, "wait_max": 0}


@dataclass(frozen=True)
class Reply:
    """An answer, and what its decision says."""

    text: str
    routing: Mapping[str, Any]
    message: Any = None


Ask = Callable[..., Reply]


class Judge(FixedScoreRouter):
    """Scores by a word."""

    name = "judge"

    def __init__(self) -> None:
        super().__init__(score=lambda prompt: 0.9 if "hard" in prompt else 0.05 if "cat" in prompt else 0.4)


@pytest.fixture(autouse=True)
def _judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, "judge", Judge)
    monkeypatch.setenv("OPENAI_API_KEY", "local")


def _models(upstream: LocalModelServer, strong: Any, weak: Any) -> dict[str, dict[str, Any]]:
    given = {"strong": strong, "weak": weak}
    common = {"api_base": upstream.base_url, "api_key": "local", "timeout": 20.0}
    return {
        tier: {**common, **({"model": f"openai/{model}"} if isinstance(model, str) else model)}
        for tier, model in given.items()
    }


def _by_controller(upstream: LocalModelServer, strong: Any, weak: Any, policy: Mapping[str, Any], _serve: Any) -> Ask:
    models = _models(upstream, strong, weak)
    built = Controller(
        ["judge"], models["strong"], models["weak"], threshold=0.5, resilience=ResiliencePolicy(**policy)
    )

    def ask(messages: Sequence[Mapping[str, Any]], session: str | None = None, **parameters: Any) -> Reply:
        answer = built.completion(messages=messages, session=session, **parameters)
        message = answer.choices[0].message
        return Reply(message.content or "", answer.routing.as_dict(), message)

    return ask


def _by_server(upstream: LocalModelServer, strong: Any, weak: Any, policy: Mapping[str, Any], serve: Any) -> Ask:
    models = _models(upstream, strong, weak)
    running = serve(**models, routers=("judge",), threshold=0.5, fallback=dict(policy))

    def ask(messages: Sequence[Mapping[str, Any]], session: str | None = None, **parameters: Any) -> Reply:
        headers = {"x-session-id": session} if session else {}
        sent = {"model": "auto", "messages": [_plain(message) for message in messages], **parameters}
        response = running.post("/chat/completions", sent, headers=headers)
        if response.status_code >= 400:
            raise RuntimeError(response.text)
        routing = {name.removeprefix("x-routellm-"): value for name, value in response.headers.items()}
        message = response.json()["choices"][0]["message"]
        record = {**routing, "fallback_from": routing.get("fallback-from")}
        return Reply(message["content"] or "", record, message)

    return ask


def _plain(message: Any) -> Any:
    return message if isinstance(message, Mapping) else message.model_dump(exclude_none=True)


def _by_langchain(wrap: str) -> Callable[..., Ask]:
    def build(upstream: LocalModelServer, strong: Any, weak: Any, policy: Mapping[str, Any], _serve: Any) -> Ask:
        langchain_routellm = pytest.importorskip("langchain_routellm")
        from langchain_core.messages import convert_to_messages

        routing = {"resilience": ResiliencePolicy(**policy), **_models(upstream, strong, weak)}
        if wrap == "middleware":
            from langchain.agents import create_agent

            middleware = langchain_routellm.RouteLLMMiddleware("judge", 0.5, **routing)
            agent: Any = create_agent("openai:unused", middleware=[middleware])
        else:
            model = langchain_routellm.RouteLLMChat("judge", 0.5, **routing)
            if wrap == "agent":
                from langchain.agents import create_agent

                agent = create_agent(model)

        def ask(messages: Sequence[Any], session: str | None = None, **parameters: Any) -> Reply:
            config: Any = {"configurable": {"thread_id": session}} if session else {}
            given = [*convert_to_messages(messages)]
            if wrap == "chain":
                tools = parameters.pop("tools", None)
                called = model.bind_tools(tools) if tools else model
                answer = called.invoke(given, config, **parameters)
            else:
                answer = agent.invoke({"messages": given}, config)["messages"][-1]
            return Reply(answer.text, answer.response_metadata["routing"], answer)

        return ask

    return build


def _by_llamaindex(upstream: LocalModelServer, strong: Any, weak: Any, policy: Mapping[str, Any], _serve: Any) -> Ask:
    routellm = pytest.importorskip("llama_index.llms.routellm")
    from llama_index.core.llms import ChatMessage

    models = _models(upstream, strong, weak)
    llm = routellm.RouteLLM("judge", 0.5, resilience=ResiliencePolicy(**policy), **models)

    def ask(messages: Sequence[Any], session: str | None = None, **parameters: Any) -> Reply:
        given = [
            message
            if isinstance(message, ChatMessage)
            else ChatMessage(
                role=message["role"],
                content=message["content"],
                additional_kwargs={key: value for key, value in message.items() if key not in ("role", "content")},
            )
            for message in messages
        ]
        answer = llm.chat(given, **({"session": session} if session else {}), **parameters)
        return Reply(answer.message.content or "", answer.additional_kwargs["routing"], answer.message)

    return ask


def _by_dspy(upstream: LocalModelServer, strong: Any, weak: Any, policy: Mapping[str, Any], _serve: Any) -> Ask:
    dspy_routellm = pytest.importorskip("dspy_routellm")
    from dspy.lm15 import request_from_openai_chat

    models = _models(upstream, strong, weak)
    lm = dspy_routellm.RouteLLM("judge", 0.5, resilience=ResiliencePolicy(**policy), cache=False, **models)

    def ask(messages: Sequence[Any], session: str | None = None, **parameters: Any) -> Reply:
        del session  # DSPy has none
        response = lm(request_from_openai_chat({"model": lm.model, "messages": [*messages], **parameters}))
        return Reply(response.text or "", dspy_routellm.routing_of(response))

    return ask


WAYS: dict[str, Callable[..., Ask]] = {
    "controller": _by_controller,
    "server": _by_server,
    "langchain": _by_langchain("chain"),
    "langchain agent": _by_langchain("agent"),
    "langchain middleware": _by_langchain("middleware"),
    "llamaindex": _by_llamaindex,
    "dspy": _by_dspy,
}
_NOT_SHARED_YET = ("llamaindex", "dspy")
WITH_TOOLS = ("controller", "server", "langchain")
WITH_SESSIONS = tuple(name for name in WAYS if name != "dspy")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, upstream: LocalModelServer, serve: Any) -> Callable[..., Ask]:
    name = request.param
    if name in _NOT_SHARED_YET:
        request.node.add_marker(pytest.mark.xfail(reason="not on the shared adapters yet", strict=False))

    def build(strong: Any = "big", weak: Any = "small", **policy: Any) -> Ask:
        return WAYS[name](upstream, strong, weak, {**POLICY, **policy}, serve)

    return build


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def asked(upstream: LocalModelServer) -> list[str]:
    return [request["model"] for request in upstream.requests]


def test_the_question_decides(way: Any, upstream: LocalModelServer) -> None:
    ask = way()
    for prompt, model in ((EASY, "small"), (HARD, "big")):
        reply = ask([user(prompt)])
        assert reply.text == f"{model} answers: {prompt}"
        assert reply.routing["model"] == f"openai/{model}"
    assert asked(upstream) == ["small", "big"]


def test_what_agents_put_around_it_does_not(way: Any) -> None:
    ask = way()
    wrapped = f"<system-reminder>\nThis is hard.\n</system-reminder>\n{EASY}"
    assert ask([user(wrapped)]).routing["tier"] == "weak"
    history = [user(HARD), {"role": "assistant", "content": "First, the plan: a lemma."}, user("yes, go on")]
    assert ask(history).routing["tier"] == "strong"


@pytest.mark.parametrize(
    "trouble", ["fail-429", "fail-500", "fail-402", "fail-404", "fail-413", "drop", "garbage", "empty"]
)
def test_the_other_model_answers(way: Any, trouble: str, upstream: LocalModelServer) -> None:
    reply = way(strong=trouble)([user(HARD)])
    assert reply.text == f"small answers: {HARD}"
    assert (reply.routing["tier"], reply.routing["model"]) == ("weak", "openai/small")
    assert reply.routing["fallback_from"] == f"openai/{trouble}"
    assert asked(upstream) == [trouble, "small"]


@pytest.mark.parametrize("trouble", ["fail-400", "fail-401", "fail-403", "fail-422"])
def test_what_would_fail_again_is_final(way: Any, trouble: str, upstream: LocalModelServer) -> None:
    with pytest.raises(Exception, match=trouble[-3:]):
        way(strong=trouble)([user(HARD)])
    assert asked(upstream) == [trouble]


def test_both_failing_is_one_error_that_tells_of_both(way: Any, upstream: LocalModelServer) -> None:
    with pytest.raises(Exception, match="fail-503") as raised:
        way(strong="fail-503", weak="fail-500")([user(HARD)])
    told = str(raised.value) + "".join(getattr(raised.value, "__notes__", ()))
    assert "fail-500" in told
    assert asked(upstream) == ["fail-503", "fail-500"]


def test_a_dead_model_is_not_paid_for_by_every_request(way: Any, upstream: LocalModelServer) -> None:
    ask = way(strong="fail-503", cooldown_after=3, cooldown_seconds=60)
    for number in range(8):
        assert ask([user(f"{HARD} {number}")]).routing["tier"] == "weak"
    assert asked(upstream).count("fail-503") == 3


@pytest.mark.parametrize("way", WITH_SESSIONS, indirect=True)
def test_follow_ups_stay_and_a_fresh_easy_question_leaves(way: Any) -> None:
    ask = way()
    history: list[Any] = []
    tiers = []
    for text in (EASY, HARD, "why?", "Shorten the second paragraph", "How does a cat sleep, in one short sentence?"):
        history.append(user(text))
        reply = ask(history, session="one")
        tiers.append(reply.routing["tier"])
        history.append({"role": "assistant", "content": reply.text})
    assert tiers == ["weak", "strong", "strong", "strong", "weak"]
    assert ask([user("why?")], session="two").routing["tier"] == "weak"


@pytest.mark.parametrize("way", WITH_TOOLS, indirect=True)
@pytest.mark.parametrize("session", ["loop", None])
def test_a_tool_loop_stays_with_the_model_that_took_over(
    way: Any, session: str | None, upstream: LocalModelServer
) -> None:
    ask = way(weak="fail-503", cooldown_after=0)
    messages: list[Any] = [user("What is the weather in 'Rome'? The cat asks")]
    first = ask(messages, session, tools=[TOOL])
    assert first.routing["fallback_from"] == "openai/fail-503"
    calls = first.message["tool_calls"] if isinstance(first.message, Mapping) else first.message.tool_calls
    call = calls[0]
    call_id = call["id"] if isinstance(call, Mapping) else call.id
    messages += [first.message, {"role": "tool", "tool_call_id": call_id, "content": "rain"}]
    assert ask(messages, session, tools=[TOOL]).routing["tier"] == "strong"
    assert asked(upstream) == ["fail-503", "big", "big"]


def test_a_model_that_cannot_hold_it_is_passed_over(way: Any, upstream: LocalModelServer) -> None:
    ask = way(
        strong={"model": "openai/big", "context_window": 40_000}, weak={"model": "openai/small", "context_window": 500}
    )
    reply = ask([user(f"{EASY} {'word ' * 1500}")])
    assert reply.routing["tier"] == "strong"
    assert "500" in reply.routing["reason"]
    with pytest.raises(Exception, match=r"40000[\s\S]*500|500[\s\S]*40000"):
        ask([user(f"{EASY} {'word ' * 200_000}")])
    assert asked(upstream) == ["big"]


def test_two_models_of_one_name(way: Any, upstream: LocalModelServer) -> None:
    with LocalModelServer() as elsewhere:
        strong = {"model": "openai/flaky-503", "api_base": elsewhere.base_url}
        ask = way(strong=strong, weak="flaky-503")
        with pytest.raises(Exception, match="503"):
            ask([user(HARD)])
        assert (asked(elsewhere), asked(upstream)) == (["flaky-503"], ["flaky-503"])
        assert ask([user(HARD)]).routing["tier"] == "strong"
        assert ask([user(EASY)]).routing["tier"] == "weak"
        assert (len(asked(elsewhere)), len(asked(upstream))) == (2, 2)
