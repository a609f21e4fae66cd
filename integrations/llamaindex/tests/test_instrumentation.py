"""Callbacks and events: each call once, under the name of the model that answered, and the decision beside it."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatStartEvent,
    LLMCompletionStartEvent,
    LLMPredictStartEvent,
)
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.llms.routellm import RouteLLMEmbedding, RoutingDecisionEvent

HARD, EASY = "Why is it hard?", "Where is it?"


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


async def test_each_call_is_one_event_with_the_real_model(build: Any, recorder: Any) -> None:
    llm = build()
    llm.chat(user(HARD))
    await llm.achat(user(EASY))
    list(llm.stream_chat(user(HARD)))
    [chunk async for chunk in await llm.astream_chat(user(EASY))]
    assert [event.model_dict["model_name"] for event in recorder.of(LLMChatStartEvent)] == [
        "openai/big",
        "openai/small",
    ] * 2
    assert len(recorder.of(LLMChatEndEvent)) == 4
    llm.complete(HARD)
    assert [event.model_dict["model_name"] for event in recorder.of(LLMCompletionStartEvent)] == ["openai/big"]
    tiers = [event.decision["tier"] for event in recorder.of(RoutingDecisionEvent)]
    assert tiers == ["strong", "weak", "strong", "weak", "strong"]
    assert recorder.of(RoutingDecisionEvent)[0].model_dump()["class_name"] == "RoutingDecisionEvent"


def test_a_query_is_one_prediction_and_one_chat(build: Any, index: VectorStoreIndex, recorder: Any) -> None:
    index.as_query_engine(llm=build()).query(HARD)
    for kind in (LLMPredictStartEvent, LLMChatStartEvent, RoutingDecisionEvent):
        assert len(recorder.of(kind)) == 1, kind


def test_each_call_is_one_span_of_the_model(build: Any) -> None:
    spans = SimpleSpanHandler()
    root = get_dispatcher()
    root.add_span_handler(spans)
    try:
        build().chat(user(HARD))
    finally:
        root.span_handlers.remove(spans)
    assert [span.id_.partition("-")[0] for span in spans.completed_spans] == ["ResilientLiteLLM.chat"]


@pytest.mark.parametrize("streaming", [False, True])
def test_token_counting_counts_what_the_model_reports(build: Any, index: VectorStoreIndex, streaming: bool) -> None:
    counter = TokenCountingHandler()
    Settings.callback_manager = CallbackManager([counter])
    Settings.embed_model = RouteLLMEmbedding()
    Settings.llm = build()
    Settings.llm.chat(user(HARD))
    # What the local model counts: four characters a token, and three for each message.
    assert counter.prompt_llm_token_count == len(HARD) // 4 + 3
    assert counter.completion_llm_token_count == len(f"big answers: {HARD}") // 4
    counter.reset_counts()
    response = index.as_query_engine(streaming=streaming).query(EASY)
    text = "".join(response.response_gen) if streaming else str(response)
    (call,) = counter.llm_token_counts
    sent = build.requests[-1]["messages"]
    assert call.completion_token_count == len(text) // 4
    assert call.prompt_token_count == sum(len(message["content"]) // 4 + 3 for message in sent)


def test_callbacks_see_each_call_once_with_the_real_model(build: Any) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = build(callback_manager=CallbackManager([debug]))
    llm.chat(user(HARD))
    list(llm.stream_complete(EASY))
    pairs = debug.get_event_pairs(CBEventType.LLM)
    assert [start.payload[EventPayload.SERIALIZED]["model_name"] for start, _ in pairs] == [
        "openai/big",
        "openai/small",
    ]
    assert all(len(pair) == 2 for pair in pairs)


def test_a_model_keeps_its_own_callbacks_and_is_never_changed(build: Any) -> None:
    own, routers = LlamaDebugHandler(print_trace_on_end=False), LlamaDebugHandler(print_trace_on_end=False)
    model = MockLLM(callback_manager=CallbackManager([own]))
    build(weak=model, callback_manager=CallbackManager([routers])).complete(EASY)
    assert [len(handler.get_event_pairs(CBEventType.LLM)) for handler in (own, routers)] == [1, 1]
    model.complete(EASY)
    assert [len(handler.get_event_pairs(CBEventType.LLM)) for handler in (own, routers)] == [2, 1]


def test_settings_that_are_given_apply_to_both_models(build: Any, index: VectorStoreIndex) -> None:
    llm = build(system_prompt="Answer in verse.")
    for question in (HARD, EASY):
        index.as_query_engine(llm=llm).query(question)
    assert [request["messages"][0]["content"] for request in build.requests] == ["Answer in verse."] * 2
    assert llm.strong.system_prompt is None


def test_a_client_made_on_first_use_stays_with_its_model(build: Any) -> None:
    from pydantic import PrivateAttr

    class Lazy(MockLLM):
        _client: object | None = PrivateAttr(default=None)

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            self._client = self._client or object()
            return super().complete(prompt, formatted, **kwargs)

    model = Lazy()
    llm = build(weak=model, callback_manager=CallbackManager([LlamaDebugHandler(print_trace_on_end=False)]))
    llm.complete(EASY)
    first = model._client
    llm.complete(EASY)
    assert first is not None
    assert model._client is first


def test_no_text_is_logged(build: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        build(api_key="sk-secret").chat(user("my private words"))
    ours = "".join(str(vars(record)) for record in caplog.records if "routellm" in record.name)
    assert "routed to weak" in ours
    assert "private" not in ours
    assert "sk-secret" not in ours
