"""Writing the decision on answers: ``additional_kwargs["routing"]``, and ``raw["routing"]`` where there is room."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

from routellm_core.types import RoutingDecision, Tier

__all__ = ["chosen_tier", "stamped", "without_outer_stamp"]

_KEY = "routing"
_INNER = "inner"

T = TypeVar("T")


def stamped(response: T, decision: RoutingDecision) -> T:
    """Return ``response`` with the decision on it, where it is a chat or completion response.

    The answer is copied, because a model that caches may hand out one object twice. The message stays as it is: some
    LLM classes send its ``additional_kwargs`` to the provider with the next turn. An agent's output carries ``raw``
    only, so the decision is there too, if ``raw`` is a dictionary or an object of litellm or the OpenAI SDK.

    A router may be one of another router's models; its own decision is then kept under ``"inner"``.
    """
    if not isinstance(response, (ChatResponse, CompletionResponse)):
        return response
    record = decision.as_dict()
    if inner := response.additional_kwargs.get(_KEY):
        record[_INNER] = inner
    updates = {"additional_kwargs": {**response.additional_kwargs, _KEY: record}, "raw": _routed(response.raw, record)}
    return cast(T, response.model_copy(update=updates))


def chosen_tier(response: ChatResponse) -> Tier | None:
    """Return the tier of the model that answered, or None for an answer that was not routed."""
    record = response.additional_kwargs.get(_KEY)
    tier = record.get("tier") if isinstance(record, dict) else None
    return tier if tier in ("strong", "weak") else None


def without_outer_stamp(response: ChatResponse) -> ChatResponse:
    """Return the answer as the chosen model gave it, with the stamp of an inner router if it is one."""
    others = {key: value for key, value in response.additional_kwargs.items() if key != _KEY}
    record = response.additional_kwargs.get(_KEY)
    if isinstance(record, dict) and _INNER in record:
        others[_KEY] = record[_INNER]
    return response.model_copy(update={"additional_kwargs": others})


def _routed(raw: Any, record: dict[str, Any]) -> Any:
    if isinstance(raw, dict):
        return {**raw, _KEY: record}
    if isinstance(raw, BaseModel) and raw.model_config.get("extra") == "allow":
        return raw.model_copy(update={_KEY: record})
    return raw
