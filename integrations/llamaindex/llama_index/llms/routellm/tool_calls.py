"""Chatting with tools, in the chosen model's own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool
from llama_index.llms.routellm.dispatch import Plan

__all__ = ["RoutedToolCalls"]

_Arguments = Callable[[], dict[str, Any]]


class RoutedToolCalls:
    """The four forms of chatting with tools. Mix in before the LLM class, beside ``RoutedCalls``."""

    def _plan_for(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> tuple[Plan, dict[str, Any]]:
        raise NotImplementedError

    def _check_tools(self) -> None:
        """Refuse models without tool calling."""
        raise NotImplementedError

    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Decide, and let the chosen model chat with tools in its own way.

        Raises:
            ConfigError: one of the models has no tool calling.
        """
        options = _options(verbose, allow_parallel_tool_calls, tool_required, kwargs)
        plan, arguments = self._with_tools(tools, user_msg, chat_history, options)
        return plan.run(lambda llm: _caller(llm).chat_with_tools(**arguments()))

    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Do as :meth:`chat_with_tools` does, without blocking the event loop."""
        options = _options(verbose, allow_parallel_tool_calls, tool_required, kwargs)
        plan, arguments = self._with_tools(tools, user_msg, chat_history, options)
        return await plan.arun(lambda llm: _caller(llm).achat_with_tools(**arguments()))

    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> Generator[ChatResponse, None, None]:
        """Decide, and stream from the chosen model with tools; returns when the first piece has arrived."""
        options = _options(verbose, allow_parallel_tool_calls, tool_required, kwargs)
        plan, arguments = self._with_tools(tools, user_msg, chat_history, options)
        return plan.stream(lambda llm: _caller(llm).stream_chat_with_tools(**arguments()))

    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatResponse, None]:
        """Do as :meth:`stream_chat_with_tools` does, without blocking the event loop."""
        options = _options(verbose, allow_parallel_tool_calls, tool_required, kwargs)
        plan, arguments = self._with_tools(tools, user_msg, chat_history, options)
        return await plan.astream(lambda llm: _caller(llm).astream_chat_with_tools(**arguments()))

    def _with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None,
        chat_history: list[ChatMessage] | None,
        options: dict[str, Any],
    ) -> tuple[Plan, _Arguments]:
        self._check_tools()
        asked = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
        history = list(chat_history or [])
        plan, rest = self._plan_for([*history, asked] if asked else history, options)

        def arguments() -> dict[str, Any]:
            # A fresh list each time: LiteLLM appends the user's message to the one that it is given.
            return {"tools": tools, "user_msg": asked, "chat_history": list(history), **rest}

        return plan, arguments


def _options(
    verbose: bool, allow_parallel_tool_calls: bool, tool_required: bool, kwargs: dict[str, Any]
) -> dict[str, Any]:
    # tool_required is younger than some integrations, so it is passed on only where it says something.
    required = {"tool_required": True} if tool_required else {}
    return {"verbose": verbose, "allow_parallel_tool_calls": allow_parallel_tool_calls, **required, **kwargs}


def _caller(llm: LLM) -> FunctionCallingLLM:
    return cast(FunctionCallingLLM, llm)
