"""``RoutedOutput``: structured output from whichever model is chosen, each by its own method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_routellm.dispatch import Plan, RoutedCalls
from routellm_core.types import Tier

__all__ = ["RoutedOutput"]


class RoutedOutput(RoutedCalls, Runnable[LanguageModelInput, Any]):
    """What :meth:`RouteLLMChat.with_structured_output` returns: decides, then runs the chosen model and its parser.

    Args:
        plan_for: accepts a call on behalf of the chat model.
        structured: both models with their structured output.
        input_type: what the chat model takes.
    """

    def __init__(
        self, plan_for: Callable[..., Plan], structured: Mapping[Tier, Runnable[Any, Any]], *, input_type: Any
    ) -> None:
        self._plan_for = plan_for
        self._structured = dict(structured)
        self._input_type = input_type

    @property
    def InputType(self) -> Any:  # noqa: N802
        """What the chat model takes."""
        return self._input_type

    @property
    def OutputType(self) -> Any:  # noqa: N802
        """What the strong model's runnable returns; the weak model's is the same by contract."""
        return self._structured["strong"].OutputType

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        model = kwargs.pop("model", None)
        return self._plan_for(input, config, model, lambda tier: (self._structured[tier], dict(kwargs)))
