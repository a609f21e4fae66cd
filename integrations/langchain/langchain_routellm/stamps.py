"""Writing the decision on answers and runs: ``response_metadata["routing"]`` and the run's metadata."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig

from routellm_core.adapters import RECORD_KEY, is_record, record_of
from routellm_core.types import RoutingDecision

__all__ = ["Stamp"]


class Stamp:
    """One decision, as it is written on what the decided model gives.

    Args:
        decision: the decision.
        is_nested: whether the decided model routes itself, so that its own record belongs into this one.

    Attributes:
        decision: the same.
        is_written: whether the decided model gave an answer, as its callbacks tell.
    """

    def __init__(self, decision: RoutingDecision, *, is_nested: bool = False) -> None:
        self.decision = decision
        self.is_written = False
        self._is_nested = is_nested

    def record(self, message: BaseMessage) -> dict[str, Any]:
        """Return the record for a message."""
        inner = message.response_metadata.get(RECORD_KEY) if self._is_nested else None
        return record_of(self.decision, inner if is_record(inner) else None)

    def on(self, output: Any) -> Any:
        """Return ``output`` with the decision on it, where it is or holds a model's message (``include_raw``)."""
        if isinstance(output, AIMessage):
            record = self.record(output)
            if output.response_metadata.get(RECORD_KEY) == record:
                return output
            return output.model_copy(update={"response_metadata": {**output.response_metadata, RECORD_KEY: record}})
        if isinstance(output, dict) and isinstance(output.get("raw"), AIMessage):
            return {**output, "raw": self.on(output["raw"])}
        return output

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """Return the config that the chosen model is called with.

        Its run carries the decision as ``metadata["routing"]``, and the tier once more as ``routing_tier``, which
        tracing back-ends can filter by. A router within a router completes the outer one's record.
        """
        routed = RunnableConfig(**config)
        metadata = config.get("metadata") or {}
        record: dict[str, Any] = self.decision.as_dict()
        if is_record(outer := metadata.get(RECORD_KEY)):
            record = {**outer, "model": record["model"], "inner": record}
        routed["metadata"] = {**metadata, RECORD_KEY: record, "routing_tier": record["tier"]}
        routed["callbacks"] = self.callbacks(config.get("callbacks"))
        if self.decision.fallback_from is not None:
            routed.pop("run_id", None)  # it names the run that failed
        return routed

    def callbacks(self, callbacks: Callbacks) -> Callbacks:
        """Return callbacks, before which the decision is written on what the model gives."""
        return _with_first_handler(callbacks, _StampHandler(self))

    def watch(self, stream: Any) -> None:
        """Let a ``stream_events(version="v3")`` stream that has not begun yet end with the decision in its metadata."""
        dispatch = stream.dispatch

        def stamping(event: dict[str, Any]) -> None:
            if event.get("event") == "message-finish":
                metadata = event.get("metadata") or {}
                message = AIMessage("", response_metadata=metadata)
                event = {**event, "metadata": {**metadata, RECORD_KEY: self.record(message)}}
            dispatch(event)

        stream.dispatch = stamping


class _StampHandler(BaseCallbackHandler):
    """Stamps a model's own messages before any other handler sees them.

    So traces, ``astream_events`` and LangGraph's message stream show the decision too, with every way of calling a
    model: they all report through callbacks. Dictionaries are replaced, not written into, because a cache may hold
    the same ones.
    """

    run_inline = True  # before the handlers that run concurrently, and in the order of the chunks

    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp
        self._is_first_chunk = True

    def on_llm_new_token(self, *_: Any, chunk: Any = None, **__: Any) -> None:
        if self._is_first_chunk and isinstance(chunk, ChatGenerationChunk):
            self._is_first_chunk = False
            self._write(chunk.message)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                if isinstance(generation, ChatGeneration):
                    self._write(generation.message)

    def _write(self, message: BaseMessage) -> None:
        self._stamp.is_written = True
        message.response_metadata = {**message.response_metadata, RECORD_KEY: self._stamp.record(message)}


def _with_first_handler(callbacks: Callbacks, handler: BaseCallbackHandler) -> Callbacks:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.handlers.insert(0, handler)
        manager.inheritable_handlers.insert(0, handler)
        return manager
    return [handler, *(callbacks or [])]
