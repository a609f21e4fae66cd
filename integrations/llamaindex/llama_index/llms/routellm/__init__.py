"""A LlamaIndex LLM that sends each question to the strong or the weak model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.llms.routellm.answers import RoutingDecisionEvent
from llama_index.llms.routellm.base import RouteLLM
from llama_index.llms.routellm.embedding import RouteLLMEmbedding

if TYPE_CHECKING:
    from llama_index.llms.routellm.litellm_model import ResilientLiteLLM

__all__ = ["ResilientLiteLLM", "RouteLLM", "RouteLLMEmbedding", "RoutingDecisionEvent"]


def __getattr__(name: str) -> Any:
    if name == "ResilientLiteLLM":  # imports litellm, which takes seconds; a pair of instances does without
        from llama_index.llms.routellm.litellm_model import ResilientLiteLLM

        return ResilientLiteLLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
