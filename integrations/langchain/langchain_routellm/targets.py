"""What is called of a chosen model: the model with tools bound, or with structured output, each in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_routellm.calls import Plan, RoutedCalls
from langchain_routellm.rungs import Rung, mapped

if TYPE_CHECKING:
    from langchain_routellm.chat import RouteLLMChat

__all__ = ["RoutedOutput", "RoutedTools"]


class RoutedTools(list[Any]):
    """Tools in OpenAI's form, as agents look for them in a binding; each model gets the original ones.

    Args:
        tools: in any form.
        kwargs: of ``bind_tools``.
    """

    def __init__(self, tools: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(_described(tool) for tool in tools)
        self.given = list(tools)
        self.kwargs = dict(kwargs)

    def on(self, rung: Rung) -> Rung:
        """Return a model with the tools bound by its own ``bind_tools``."""
        return mapped(rung, lambda model: model.bind_tools(self.given, **self.kwargs))


class RoutedOutput(RoutedCalls, Runnable[LanguageModelInput, Any]):
    """What :meth:`RouteLLMChat.with_structured_output` returns: decides, then runs the chosen model and its parser.

    Args:
        model: decides.
        schema: of the answers.
        options: of ``with_structured_output``.
    """

    def __init__(self, model: RouteLLMChat, schema: Any, options: Mapping[str, Any]) -> None:
        self._model = model
        self._schema = schema
        self._options = dict(options)
        self._strong = [self._structured(model, tier) for tier in ("weak", "strong")][-1]

    @property
    def InputType(self) -> Any:  # noqa: N802
        """What the chat model takes."""
        return self._model.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802
        """What the strong model's runnable returns; the weak model's is the same by contract."""
        return self._strong.OutputType

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        is_native = self._options.get("method") == "json_schema"
        said = {"response_format": {"type": "json_schema"}} if is_native else {}
        return self._model.plan(input, config, kwargs, self._structured, said)

    def _structured(self, model: RouteLLMChat, tier: str) -> Rung:
        return mapped(model.rung(tier), lambda one: one.with_structured_output(self._schema, **self._options))


def _described(tool: Any) -> Any:
    try:
        return convert_to_openai_tool(tool)
    except (TypeError, ValueError):  # a provider's own tool, which only its model understands
        return tool
