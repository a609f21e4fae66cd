"""``generate`` and its kin: the older entry points, which take lists of conversations and no run configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableBinding, RunnableConfig

from langchain_routellm.calls import Chosen
from langchain_routellm.litellm_messages import combined

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


def generated(chosen: Chosen) -> LLMResult:
    """Let the chosen model answer one conversation."""
    model, kwargs = _arguments(chosen)
    if model is None:
        return _result(chosen, chosen.runnable.invoke(chosen.input, chosen.config, **chosen.kwargs))
    return _stamped(chosen, model.generate([chosen.input], **kwargs))


async def agenerated(chosen: Chosen) -> LLMResult:
    """Do as :func:`generated` does, without blocking the event loop."""
    model, kwargs = _arguments(chosen)
    if model is None:
        return _result(chosen, await chosen.runnable.ainvoke(chosen.input, chosen.config, **chosen.kwargs))
    return _stamped(chosen, await model.agenerate([chosen.input], **kwargs))


def merged(results: Sequence[LLMResult]) -> LLMResult:
    """Put the results of single conversations together; counts of tokens add up, and several models are a list."""
    runs = [run for result in results for run in result.run or []]
    output = combined([result.llm_output for result in results])
    return LLMResult(generations=[result.generations[0] for result in results], llm_output=output, run=runs or None)


def _stamped(chosen: Chosen, result: LLMResult) -> LLMResult:
    for generation in result.generations[0]:
        if isinstance(generation, ChatGeneration):
            generation.message = chosen.stamp.on(generation.message)
    return result


def _result(chosen: Chosen, answer: Any) -> LLMResult:
    message: AIMessage = chosen.stamp.on(answer)
    output: dict[str, Any] = {"model_name": message.response_metadata.get("model_name")}
    if usage := message.usage_metadata:
        names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
        output["token_usage"] = {name: usage[key] for name, key in names.items()}  # type: ignore[literal-required]
    return LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=output)


def _arguments(chosen: Chosen) -> tuple[BaseChatModel | None, dict[str, Any]]:
    """Return what has a ``generate``, and its arguments; None where what surrounds a model has none, as fallbacks."""
    names = ("callbacks", "tags", "metadata", "run_name", "run_id")
    kwargs = {**chosen.kwargs, **{name: chosen.config.get(name) for name in names}}
    runnable: Any = chosen.runnable
    while isinstance(runnable, RunnableBinding):  # a binding has no generate; its keyword arguments are what counts
        kwargs = {**runnable.kwargs, **kwargs}
        runnable = runnable.bound
    return (runnable if isinstance(runnable, BaseChatModel) else None), kwargs
