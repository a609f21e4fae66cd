"""The entry points of an LLM that routes, each handed to the chosen model's own public method.

The chosen model's own decorators then report the call, once and under its own name, and its own way of formatting
prompts, calling tools and giving structured output is used. The methods stand in a class of their own because
LlamaIndex would wrap those of an LLM class in a span, and tracing would show each call twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, TokenAsyncGen, TokenGen
from llama_index.llms.routellm.dispatch import Plan
from llama_index.llms.routellm.questions import named_question
from llama_index.llms.routellm.turns import Turn
from pydantic import BaseModel

__all__ = ["RoutedCalls"]

_ROUTING_ARGUMENTS = ("model", "question", "session")


class RoutedCalls:
    """Chat, completion, prediction and structured prediction. Mix in before the LLM class.

    Every method takes ``model=`` (``"strong"``, ``"weak"``, ``"router-mf-0.3"``), ``question=`` (the text to route on)
    and ``session=`` (the conversation, for stickiness); structured prediction takes them in ``llm_kwargs``.
    """

    def _plan(self, turn: Turn) -> Plan:
        raise NotImplementedError

    @property
    def _is_sticky(self) -> bool:
        raise NotImplementedError

    # Chat

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Decide, and chat with the chosen model."""
        plan, rest = self._plan_for(messages, kwargs)
        return plan.run(lambda llm: llm.chat(list(messages), **rest))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Do as :meth:`chat` does, without blocking the event loop."""
        plan, rest = self._plan_for(messages, kwargs)
        return await plan.arun(lambda llm: llm.achat(list(messages), **rest))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """Decide, and stream from the chosen model; returns when the first piece has arrived."""
        plan, rest = self._plan_for(messages, kwargs)
        return plan.stream(lambda llm: llm.stream_chat(list(messages), **rest))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """Do as :meth:`stream_chat` does, without blocking the event loop."""
        plan, rest = self._plan_for(messages, kwargs)
        return await plan.astream(lambda llm: llm.astream_chat(list(messages), **rest))

    # Completion

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Decide, and let the chosen model complete the prompt."""
        plan, rest = self._plan_for([_from_user(prompt)], kwargs)
        return plan.run(lambda llm: llm.complete(prompt, formatted=formatted, **rest))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Do as :meth:`complete` does, without blocking the event loop."""
        plan, rest = self._plan_for([_from_user(prompt)], kwargs)
        return await plan.arun(lambda llm: llm.acomplete(prompt, formatted=formatted, **rest))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """Decide, and stream the chosen model's completion; returns when the first piece has arrived."""
        plan, rest = self._plan_for([_from_user(prompt)], kwargs)
        return plan.stream(lambda llm: llm.stream_complete(prompt, formatted=formatted, **rest))

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """Do as :meth:`stream_complete` does, without blocking the event loop."""
        plan, rest = self._plan_for([_from_user(prompt)], kwargs)
        return await plan.astream(lambda llm: llm.astream_complete(prompt, formatted=formatted, **rest))

    # Prediction: LlamaIndex names the question among the template's variables

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Decide on the template's question, and let the chosen model predict."""
        return self._plan_of(prompt, prompt_args).run(lambda llm: llm.predict(prompt, **prompt_args))

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Do as :meth:`predict` does, without blocking the event loop."""
        return await self._plan_of(prompt, prompt_args).arun(lambda llm: llm.apredict(prompt, **prompt_args))

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Decide on the template's question, and stream the chosen model's tokens."""
        return self._plan_of(prompt, prompt_args).stream(lambda llm: llm.stream(prompt, **prompt_args))

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Do as :meth:`stream` does, without blocking the event loop."""
        return await self._plan_of(prompt, prompt_args).astream(lambda llm: llm.astream(prompt, **prompt_args))

    # Structured prediction

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Decide on the template's question, and let the chosen model fill ``output_cls`` in its own way."""
        plan, rest = self._structured(prompt, prompt_args, llm_kwargs)
        return plan.run(lambda llm: llm.structured_predict(output_cls, prompt, llm_kwargs={**rest}, **prompt_args))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Do as :meth:`structured_predict` does, without blocking the event loop."""
        plan, rest = self._structured(prompt, prompt_args, llm_kwargs)
        return await plan.arun(
            lambda llm: llm.astructured_predict(output_cls, prompt, llm_kwargs={**rest}, **prompt_args)
        )

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | BaseModel, None, None]:
        """Decide on the template's question, and stream growing objects from the chosen model."""
        plan, rest = self._structured(prompt, prompt_args, llm_kwargs)
        return plan.stream(
            lambda llm: llm.stream_structured_predict(output_cls, prompt, llm_kwargs={**rest}, **prompt_args)
        )

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | BaseModel, None]:
        """Do as :meth:`stream_structured_predict` does, without blocking the event loop."""
        plan, rest = self._structured(prompt, prompt_args, llm_kwargs)
        return await plan.astream(
            lambda llm: llm.astream_structured_predict(output_cls, prompt, llm_kwargs={**rest}, **prompt_args)
        )

    def _plan_for(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> tuple[Plan, dict[str, Any]]:
        """Accept a call; take the arguments that are the router's own out of its keyword arguments."""
        rest = dict(kwargs)
        own = {name: rest.pop(name) for name in _ROUTING_ARGUMENTS if name in rest}
        return self._plan(Turn(messages, **own)), rest

    def _plan_of(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any], own: Mapping[str, Any] | None = None
    ) -> Plan:
        question = named_question(prompt, prompt_args)
        messages: Sequence[ChatMessage] = ()
        if question is None or self._is_sticky:  # else the documents in the prompt need not be rendered twice
            messages = prompt.format_messages(llm=self, **prompt_args)  # type: ignore[arg-type]
        return self._plan(Turn(messages, **{"question": question, **(own or {})}))

    def _structured(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any], llm_kwargs: Mapping[str, Any] | None
    ) -> tuple[Plan, dict[str, Any]]:
        rest = dict(llm_kwargs or {})
        own = {name: rest.pop(name) for name in _ROUTING_ARGUMENTS if name in rest}
        return self._plan_of(prompt, prompt_args, own), rest


def _from_user(prompt: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=prompt)
