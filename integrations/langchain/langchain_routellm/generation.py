"""``generate`` and its kin: the older entry points, which take lists of conversations and no run configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableBinding, RunnableConfig

from langchain_routellm.dispatch import Attempt

__all__ = ["agenerated", "call_config", "generated", "merged", "without_run_id"]


def call_config(
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
    run_id: UUID | None,
) -> RunnableConfig:
    """Gather what ``generate`` takes one by one."""
    given = {"callbacks": callbacks, "tags": tags, "metadata": metadata, "run_name": run_name, "run_id": run_id}
    return cast("RunnableConfig", {key: value for key, value in given.items() if value is not None})


def without_run_id(config: RunnableConfig) -> RunnableConfig:
    """Leave the run's id to the first conversation; each further one is a run of its own."""
    return cast("RunnableConfig", {key: value for key, value in config.items() if key != "run_id"})


def generated(attempt: Attempt, prompt: list[BaseMessage]) -> LLMResult:
    """Let the chosen model answer one conversation."""
    model, kwargs = _arguments(attempt)
    return model.generate([prompt], **kwargs)


async def agenerated(attempt: Attempt, prompt: list[BaseMessage]) -> LLMResult:
    """Do as :func:`generated` does, without blocking the event loop."""
    model, kwargs = _arguments(attempt)
    return await model.agenerate([prompt], **kwargs)


def merged(results: Sequence[LLMResult]) -> LLMResult:
    """Put the results of single conversations together."""
    runs = [run for result in results for run in result.run or []]
    return LLMResult(generations=[result.generations[0] for result in results], llm_output={}, run=runs or None)


def _arguments(attempt: Attempt) -> tuple[BaseChatModel, dict[str, Any]]:
    config = attempt.config
    kwargs = {
        **attempt.kwargs,
        "callbacks": config.get("callbacks"),
        "tags": config.get("tags"),
        "metadata": config.get("metadata"),
        "run_name": config.get("run_name"),
        "run_id": config.get("run_id"),
    }
    runnable: Any = attempt.runnable
    while isinstance(runnable, RunnableBinding):  # a binding has no generate; its keyword arguments are what counts
        kwargs = {**runnable.kwargs, **kwargs}
        runnable = runnable.bound
    return runnable, kwargs
