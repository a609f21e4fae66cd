"""LangChain chat models, middleware and a decision model that send each question to the strong or the weak LLM."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_routellm.chat import ChatRouteLLM, RouteLLMChat
from langchain_routellm.litellm_chat import LiteLLMChat
from langchain_routellm.messages import mark_question, route_on

if TYPE_CHECKING:
    from langchain_routellm.decision import RouteLLMDecision
    from langchain_routellm.middleware import RouteLLMMiddleware

__all__ = [
    "ChatRouteLLM",
    "LiteLLMChat",
    "RouteLLMChat",
    "RouteLLMDecision",
    "RouteLLMMiddleware",
    "mark_question",
    "route_on",
]

# These need the extra [agents], or langchain-core 1.8, which chains do without.
_LATER = {"RouteLLMMiddleware": "middleware", "RouteLLMDecision": "decision"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"langchain_routellm.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
