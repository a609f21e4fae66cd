"""Building a ``RouteLLMChat``, its decisions, and what it says about itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_routellm import ChatRouteLLM, LiteLLMChat, RouteLLMChat

from routellm_core import ModelPair, ModelSelector, ModelSettings, load_router
from routellm_core.errors import (
    ConfigError,
    InvalidThresholdError,
    RouteLLMError,
    RoutingError,
    ScoringError,
    UnknownRouterError,
    UnsupportedPromptError,
)
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]


def test_nothing_else_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RouteLLMChat(router="mf", threshold=0.116)
    assert (model.strong.model, model.weak.model) == ("openai/gpt-5.4", "openai/gpt-5.4-nano")
    assert model.model_name == "router-mf-0.116"
    assert 0 < model.decide("What is 17 * 24?").score < 1  # type: ignore[operator]
    monkeypatch.setenv("ROUTELLM_WEAK_MODEL", "ollama_chat/llama3.1")
    monkeypatch.setenv("ROUTELLM_THRESHOLD", "0.4")
    from_environment = RouteLLMChat()
    assert (from_environment.weak.model, from_environment.model_name) == (
        "ollama_chat/llama3.1",
        "router-mf-0.4",
    )


def test_the_configuration_file_fills_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, local_models: LocalModelServer
) -> None:
    settings = f"{{model: openai/MODEL, api_base: {local_models.base_url}, api_key: local, extra: {{seed: 7}}}}"
    file = tmp_path / "config.yaml"
    file.write_text(
        f"models:\n  strong: {settings.replace('MODEL', 'big')}\n  weak: {settings.replace('MODEL', 'small')}\n"
        "router: random\nthreshold: 1\nno_prompt_tier: weak\nsticky: conversation\n"
    )
    monkeypatch.setenv("ROUTELLM_CONFIG", str(file))
    model = RouteLLMChat()
    assert model.invoke("Hello").content == "small answers: Hello"
    assert local_models.requests[-1]["seed"] == 7
    assert (model.no_prompt_tier, model.sticky) == ("weak", "conversation")
    assert RouteLLMChat(sticky=False).sticky is False


def test_the_decision_comes_with_the_answer(chat: Chat) -> None:
    for prompt, tier, name in (("an easy one", "weak", "small"), ("a hard one", "strong", "big")):
        answer = chat().invoke(prompt)
        assert answer.content == f"{name} answers: {prompt}"
        assert answer.response_metadata["model_name"] == name
        routing = answer.response_metadata["routing"]
        assert (routing["tier"], routing["model"]) == (tier, f"openai/{name}")
        assert (routing["threshold"], routing["router"]) == (0.5, "fixed")


async def test_only_the_first_chunk_carries_the_decision(chat: Chat) -> None:
    chunks = list(chat().stream("a hard one"))
    assert ["routing" in chunk.response_metadata for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    whole = sum(chunks[1:], chunks[0])  # type: ignore[arg-type]
    assert whole.response_metadata["routing"]["tier"] == "strong"
    assert whole.usage_metadata["total_tokens"] > 0
    achunks = [chunk async for chunk in chat().astream("a hard one")]
    assert [chunk.content for chunk in achunks] == [chunk.content for chunk in chunks]
    assert sum("routing" in chunk.response_metadata for chunk in achunks) == 1


@pytest.mark.parametrize(
    ("model", "answers"),
    [("strong", "big"), ("weak", "small"), ("openai/big", "big"), ("openai/small", "small"), ("auto", "small")],
)
async def test_a_call_may_choose_the_model(chat: Chat, model: str, answers: str) -> None:
    routed = chat()
    assert str(routed.invoke("Hello", model=model).content).startswith(answers)
    assert str((await routed.bind(model=model).ainvoke("Hello")).content).startswith(answers)
    assert next(routed.stream("Hello", model=model)).response_metadata["routing"]["model"] == f"openai/{answers}"


def test_a_call_may_set_the_threshold(chat: Chat) -> None:
    assert chat().invoke("Hello", model="router-fixed-0.05").response_metadata["routing"]["tier"] == "strong"


@pytest.mark.parametrize(
    ("wish", "error", "said"),
    [
        ("gpt-4", RoutingError, "none of the models here; allowed: 'auto', 'strong' or 'openai/big'"),
        ("router-mf-0.5", UnknownRouterError, "built with 'fixed'"),
        ("router-fixed-2", InvalidThresholdError, "in \\[0, 1\\]"),
    ],
)
def test_an_impossible_wish_is_refused(chat: Chat, wish: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        chat().invoke("Hello", model=wish)


def test_a_share_of_strong_calls_is_a_threshold() -> None:
    router = load_router("random", {"by": "prompt", "seed": 1})
    models = {"strong": "openai/big", "weak": "openai/small"}
    by_share, by_text = RouteLLMChat(router, strong_share=0.5, **models), RouteLLMChat(router, "50%", **models)
    prompts = [f"question {number}" for number in range(200)]
    tiers = [by_share.decide(prompt).tier for prompt in prompts]
    assert tiers == [by_text.decide(prompt).tier for prompt in prompts]
    assert 80 <= tiers.count("strong") <= 120


def test_chat_models_and_names_mix(chat: Chat, openai: Callable[..., ChatOpenAI]) -> None:
    mixed = chat(strong=openai("big"), weak={"model": "openai/small", "drop_params": ["seed"]})
    strong, weak = mixed.invoke("a hard one"), mixed.invoke("an easy one")
    assert strong.response_metadata["model_provider"] == "openai"
    assert weak.response_metadata["model_provider"] == "litellm"
    assert strong.response_metadata["routing"]["model"] == "big"


def test_models_may_be_settings(local_models: LocalModelServer) -> None:
    settings = {"model": "openai/big", "api_base": local_models.base_url, "api_key": "local"}
    model = RouteLLMChat("random", 0, strong=settings, weak=ModelSettings(**settings))  # type: ignore[arg-type]
    assert model.invoke("Hello").content == "big answers: Hello"
    assert "'local'" not in repr(model.weak)


def test_ten_chains_share_one_router_or_selector(chat: Chat) -> None:
    router = FixedScoreRouter(score=0.9)
    assert all(chat(router=router).router is router for _ in range(10))
    selector = ModelSelector(router, ModelPair("openai/big", "openai/small"), threshold=0.95)
    shared = chat(selector=selector, threshold=None)
    assert shared.invoke("Hello").content == "small answers: Hello"
    assert chat(selector=selector, threshold=0.2).invoke("Hello").content == "big answers: Hello"
    assert RouteLLMChat(selector=selector).strong.model == "openai/big"
    with pytest.raises(ConfigError, match="brings its own sticky"):
        chat(selector=selector, sticky="conversation")


def test_settings_reach_the_models(
    chat: Chat, openai: Callable[..., ChatOpenAI], local_models: LocalModelServer
) -> None:
    models = {"strong": openai("big", temperature=0.9), "weak": "openai/small"}
    routed = chat(**models, temperature=0.2, max_tokens=2, stop=["answers"], model_kwargs={"seed": 3})
    for prompt, limit in (("a hard one", "max_completion_tokens"), ("an easy one", "max_completion_tokens")):
        assert "answers" not in str(routed.invoke(prompt).content)
        sent = local_models.requests[-1]
        assert (sent["temperature"], sent[limit], sent["stop"]) == (0.2, 2, ["answers"])
    assert local_models.requests[-1]["seed"] == 3
    routed.invoke("an easy one", temperature=0.7, stop=["x"])
    assert (local_models.requests[-1]["temperature"], local_models.requests[-1]["stop"]) == (0.7, ["x"])
    assert routed.strong.temperature == 0.9, "the model that was given was changed"


def test_the_profile_is_what_both_can_do() -> None:
    fakes = [GenericFakeChatModel(messages=iter(())) for _ in range(2)]
    fakes[0].profile = {"max_input_tokens": 9, "tool_calling": True, "image_inputs": True, "name": "a"}
    fakes[1].profile = {"max_input_tokens": 5, "tool_calling": True, "image_inputs": False, "text_inputs": True}
    routed = RouteLLMChat("random", 0.5, strong=fakes[0], weak=fakes[1])
    assert routed.profile == {"max_input_tokens": 5, "tool_calling": True, "image_inputs": False}
    assert RouteLLMChat("random", 0.5, strong="openai/big").profile is None
    assert RouteLLMChat("random", 0.5).profile["tool_calling"] is True, "what litellm knows of the defaults"  # type: ignore[index]
    assert RouteLLMChat("random", 0.5, profile={"structured_output": True}).profile == {"structured_output": True}


def test_tokens_are_counted_by_the_models(chat: Chat) -> None:
    text = "How many tokens are in this?"
    assert 5 <= chat().get_num_tokens(text) <= 12
    assert chat().get_num_tokens_from_messages([HumanMessage(text)]) > 5


def test_text_is_taken_from_the_last_user_message(chat: Chat) -> None:
    loop = [
        SystemMessage("hard"),
        HumanMessage("an easy one"),
        AIMessage("hard", tool_calls=[{"name": "t", "args": {}, "id": "1"}]),
        ToolMessage("hard", tool_call_id="1"),
        HumanMessage("hard summary", additional_kwargs={"lc_source": "summarization"}),
    ]
    assert chat().decide(loop).tier == "weak"
    assert chat().decide([*loop, HumanMessage([{"type": "text", "text": "a hard one"}])]).tier == "strong"


def test_one_turn_keeps_its_model(chat: Chat) -> None:
    routed = chat(router=load_router("random", {"seed": 0}))  # which draws anew for each call
    turn = [HumanMessage("Hello")]
    tiers = set()
    for _ in range(8):
        answer = routed.invoke(turn)
        tiers.add(answer.response_metadata["routing"]["tier"])
        turn.append(answer)
    assert len(tiers) == 1
    assert "the turn stays on the" in routed.decide(turn).reason
    afresh = routed.model_copy(update={"sticky": False})
    fresh = {afresh.decide([*turn, HumanMessage(f"again {number}")]).tier for number in range(8)}
    assert fresh == {"strong", "weak"}


def test_a_conversation_sticks_to_the_strong_model(chat: Chat) -> None:
    routed = chat(sticky="conversation")
    thread = {"configurable": {"thread_id": "1"}}
    tiers = [routed.invoke(prompt, thread).response_metadata["routing"]["tier"] for prompt in ("easy", "hard", "easy")]
    assert tiers == ["weak", "strong", "strong"]
    assert routed.invoke("easy", {"configurable": {"thread_id": "2"}}).response_metadata["routing"]["tier"] == "weak"


def test_extract_replaces_what_is_routed_on(chat: Chat) -> None:
    routed = chat(extract=lambda messages: messages[0].text)
    assert routed.decide([HumanMessage("hard"), AIMessage("x"), HumanMessage("easy")]).tier == "strong"
    with pytest.raises(UnsupportedPromptError, match="must return a string or None"):
        chat(extract=lambda messages: 3).decide("x")


def test_an_image_alone_takes_the_default_tier(chat: Chat) -> None:
    image = [HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])]
    assert chat().invoke(image).response_metadata["routing"]["reason"].startswith("no user text to route on")
    assert chat(no_prompt_tier="weak").decide(image).tier == "weak"


def test_no_messages_are_refused(chat: Chat) -> None:
    with pytest.raises(UnsupportedPromptError, match="messages is empty"):
        chat().invoke([])


def test_scoring_failures_follow_the_policy(chat: Chat) -> None:
    def broken(prompt: str) -> float:
        raise ScoringError("the embedding service is down")

    router = FixedScoreRouter(score=broken)
    assert chat(router=router).decide("x").tier == "strong"
    assert chat(router=router, on_scoring_error="weak").decide("x").tier == "weak"
    with pytest.raises(ScoringError, match="is down"):
        chat(router=router, on_scoring_error="raise").invoke("x")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"router": "mff"}, UnknownRouterError, "Did you mean 'mf'"),
        ({"router": 3}, ConfigError, "router must be"),
        ({"strong": ""}, ConfigError, "strong must be a litellm model name .* got an empty name"),
        ({"weak": 3}, ConfigError, "weak must be .* got int"),
        ({"weak": {"modell": "x"}}, ConfigError, "Did you mean 'model'"),
        ({"temprature": 0}, ConfigError, "Did you mean 'temperature'"),
        ({"threshold": 2}, InvalidThresholdError, "in \\[0, 1\\]"),
        ({"threshold": 0.5, "strong_share": 0.5}, InvalidThresholdError, "give one of them"),
        ({"threshold": None, "strong_share": 1.5}, InvalidThresholdError, "share"),
        ({"no_prompt_tier": "medium"}, ConfigError, "no_prompt_tier='medium'"),
        ({"extract": "text"}, ConfigError, "extract: Input should be callable, got str"),
        ({"temperature": "hot"}, ConfigError, "temperature: Input should be a valid number"),
        ({"selector": 3}, ConfigError, "selector must be"),
    ],
)
def test_a_bad_construction_is_refused(options: dict[str, Any], error: type[RouteLLMError], said: str) -> None:
    with pytest.raises(error, match=said):
        RouteLLMChat(**{"threshold": 0.5, **({} if "selector" in options else {"router": "random"}), **options})


def test_foreign_settings_are_refused(chat: Chat) -> None:
    with pytest.raises(ConfigError, match="GenericFakeChatModel has no setting 'temperature'"):
        chat(weak=GenericFakeChatModel(messages=iter(())), temperature=0)


def test_a_copy_with_another_routing_routes_so(chat: Chat) -> None:
    routed = chat()
    copy = routed.model_copy(update={"threshold": 0.05, "weak": "openai/other"})
    assert (copy.decide("easy").tier, copy.decide("easy", {}).model) == ("strong", "openai/big")
    assert copy.invoke("easy", model="weak").content == "other answers: easy"
    assert (copy.router is routed.router, routed.decide("easy").tier) == (True, "weak")


def test_a_model_may_be_a_router_itself(chat: Chat, runs: Any) -> None:
    hardest = FixedScoreRouter(score=lambda prompt: float("hardest" in prompt))
    three = chat(strong=chat(router=hardest, strong="openai/huge", weak="openai/big"), temperature=0)
    prompts = ("easy", "hard", "hardest")
    answers = [three.invoke(prompt, {"callbacks": [runs]}) for prompt in prompts]
    assert [str(answer.content).split()[0] for answer in answers] == ["small", "big", "huge"]
    assert len(runs.roots) == 3


def test_the_other_name_is_the_same_class() -> None:
    assert ChatRouteLLM is RouteLLMChat
    assert LiteLLMChat(model="openai/x")._get_ls_params()["ls_provider"] == "openai"
