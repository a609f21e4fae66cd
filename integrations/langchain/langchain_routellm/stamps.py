"""Writing the decision on answers and runs: ``response_metadata["routing"]`` and the run's metadata."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig

from routellm_core.types import RoutingDecision

__all__ = ["routed_config", "stamp_stream", "stamped"]

_KEY = "routing"


def stamped(output: Any, decision: RoutingDecision) -> Any:
    """Return ``output`` with the decision on it, where it is or holds a model's message (``include_raw``)."""
    if isinstance(output, AIMessage):
        record = decision.as_dict()
        if output.response_metadata.get(_KEY) == record:
            return output
        return output.model_copy(update={"response_metadata": {**output.response_metadata, _KEY: record}})
    if isinstance(output, dict) and isinstance(output.get("raw"), AIMessage):
        return {**output, "raw": stamped(output["raw"], decision)}
    return output


def routed_config(config: RunnableConfig, decision: RoutingDecision, *, is_fallback: bool) -> RunnableConfig:
    """Return the config that the chosen model is called with.

    Its run carries the decision as ``metadata["routing"]``, and the tier once more as ``routing_tier``, which tracing
    back-ends can filter by.
    """
    record = decision.as_dict()
    routed = RunnableConfig(**config)
    routed["metadata"] = {**(config.get("metadata") or {}), _KEY: record, "routing_tier": decision.tier}
    routed["callbacks"] = _with_first_handler(config.get("callbacks"), _Stamp(record))
    if is_fallback:
        routed.pop("run_id", None)  # it names the run that failed
    return routed


def stamp_stream(stream: Any, decision: RoutingDecision) -> None:
    """Let a ``stream_events(version="v3")`` stream that has not begun yet end with the decision in its metadata."""
    dispatch = stream.dispatch

    def stamping(event: dict[str, Any]) -> None:
        if event.get("event") == "message-finish":
            event = {**event, "metadata": {**(event.get("metadata") or {}), _KEY: decision.as_dict()}}
        dispatch(event)

    stream.dispatch = stamping


class _Stamp(BaseCallbackHandler):
    """Stamps a model's own messages before any other handler sees them.

    So traces, ``astream_events`` and LangGraph's message stream show the decision too, with every way of calling a
    model: they all report through callbacks. Dictionaries are replaced, not written into, because a cache may hold
    the same ones.
    """

    run_inline = True  # before the handlers that run concurrently, and in the order of the chunks

    def __init__(self, record: dict[str, Any]) -> None:
        self._record = record
        self._is_first_chunk = True

    def on_llm_new_token(self, *_: Any, chunk: Any = None, **__: Any) -> None:
        if self._is_first_chunk and isinstance(chunk, ChatGenerationChunk):
            self._is_first_chunk = False
            self._stamp(chunk.message)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                if isinstance(generation, ChatGeneration):
                    self._stamp(generation.message)

    def _stamp(self, message: BaseMessage) -> None:
        message.response_metadata = {**message.response_metadata, _KEY: self._record}


def _with_first_handler(callbacks: Callbacks, handler: BaseCallbackHandler) -> Callbacks:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.handlers.insert(0, handler)
        manager.inheritable_handlers.insert(0, handler)
        return manager
    return [handler, *(callbacks or [])]
