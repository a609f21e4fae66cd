"""LangChain chat models and agent middleware that send each question to the strong or the weak LLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_routellm.chat import ChatRouteLLM, RouteLLMChat
from langchain_routellm.litellm_chat import LiteLLMChat
from langchain_routellm.questions import mark_question, route_on

if TYPE_CHECKING:
    from langchain_routellm.middleware import RouteLLMMiddleware

__all__ = ["ChatRouteLLM", "LiteLLMChat", "RouteLLMChat", "RouteLLMMiddleware", "mark_question", "route_on"]


def __getattr__(name: str) -> Any:
    if name == "RouteLLMMiddleware":  # needs the extra [agents], which chains do without
        from langchain_routellm.middleware import RouteLLMMiddleware

        return RouteLLMMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
