"""The entry points of an LLM that routes, each handed to the chosen model's own public method.

The chosen model's own decorators then report the call, once and under its own name, and its own way of formatting
prompts, calling tools and giving structured output is used. The methods stand in a class of their own because
LlamaIndex would wrap those of an LLM class in a span, and tracing would show each call twice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.llms.routellm.answers import report, stamped
from llama_index.llms.routellm.messages import MessageReading, named_question, without_foreign_state
from llama_index.llms.routellm.settled import SettledQuestions

from routellm_core.adapters import AdapterRequest, Attempt, RoutedCall, Routing
from routellm_core.capabilities import misfits
from routellm_core.types import RoutingDecision

__all__ = ["Arguments", "Call", "RoutedCalls"]

T = TypeVar("T")

_ROUTING_ARGUMENTS = ("model", "question", "session")
_READING = MessageReading()


class Call:
    """A call that was accepted and not decided yet.

    Args:
        routing: decides, and knows the models.
        request: what is decided on.
        ask: calls the model that an attempt decided for.
        settled: decisions of the last moments; None decides afresh.
        rate_limiter: LlamaIndex's, which the router was given, or None.
    """

    def __init__(
        self,
        routing: Routing[LLM],
        request: AdapterRequest,
        ask: Callable[[Attempt], Any],
        settled: SettledQuestions | None,
        rate_limiter: Any,
    ) -> None:
        self._routing, self._request, self._ask = routing, request, ask
        self._settled, self._rate_limiter = settled, rate_limiter

    def run(self) -> Any:
        """Decide, call the model and, where that is called for, the other one.

        Raises:
            Exception: the decided model's own error; a note tells of the other model's where that failed too.
        """
        return self._decided().run(lambda attempt: stamped(self._asked(attempt), attempt.decision))

    def stream(self) -> Any:
        """Decide and stream; the beginning is read now, while the other model can still be asked."""
        return self._decided().stream(lambda attempt: _stamped_each(self._asked(attempt), attempt.decision))

    async def arun(self) -> Any:
        """Do as :meth:`run` does, without blocking the event loop."""

        async def answer(attempt: Attempt) -> Any:
            return stamped(await self._asked(attempt), attempt.decision)

        return await (await self._adecided()).arun(answer)

    async def astream(self) -> Any:
        """Do as :meth:`stream` does, without blocking the event loop."""
        call = await self._adecided()
        return await call.astream(lambda attempt: _astamped_each(self._asked(attempt), attempt.decision))

    def _decided(self) -> RoutedCall:
        decision = self._kept() or self._keep(self._routing.select(self._request))
        if self._rate_limiter is not None:
            self._rate_limiter.acquire()
        return RoutedCall(self._routing, self._request, _READING, decision=decision)

    async def _adecided(self) -> RoutedCall:
        decision = self._kept() or self._keep(await self._routing.aselect(self._request))
        if self._rate_limiter is not None:
            await self._rate_limiter.async_acquire()
        return RoutedCall(self._routing, self._request, _READING, decision=decision)

    def _kept(self) -> RoutingDecision | None:
        kept = self._settled.get(self._request) if self._settled else None
        routing = self._routing
        if kept and kept.tier in misfits(self._request.turn.needs, routing.selector.capabilities, routing.pair):
            return None
        return kept

    def _keep(self, decision: RoutingDecision) -> RoutingDecision:
        return self._settled.settle(self._request, decision) if self._settled else decision

    def _asked(self, attempt: Attempt) -> Any:
        report(attempt.decision)
        if self._settled and attempt.decision.fallback_from is not None:
            self._settled.took_over(self._request, attempt.decision)
        return self._ask(attempt)


def _stamped_each(pieces: Iterator[T], decision: RoutingDecision) -> Iterator[T]:
    try:
        for piece in pieces:
            yield stamped(piece, decision)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


async def _astamped_each(opening: Any, decision: RoutingDecision) -> AsyncIterator[Any]:
    pieces = await opening
    try:
        async for piece in pieces:
            yield stamped(piece, decision)
    finally:  # unlike a `for` loop over a generator, nothing closes an asynchronous one in time
        if hasattr(pieces, "aclose"):
            await pieces.aclose()


# --- what each kind of call is routed on ------------------------------------------------------------------------------

Arguments = Callable[[bool], dict[str, Any]]
"""The chosen model's arguments; fresh ones each time, and without foreign state where it is asked for."""


class RoutedCalls:
    """Chat, completion, prediction, structured prediction and chat with tools. Mix in before the LLM class.

    Every method takes ``model=`` (``"strong"``, ``"weak"``, ``"router-mf-0.3"``), ``question=`` (the text to route on)
    and ``session=`` (the conversation, for stickiness); structured prediction takes them in ``llm_kwargs``. What is
    not named here is passed to the chosen model.
    """

    def _call(self, name: str, arguments: Arguments, own: Mapping[str, Any], **about: Any) -> Call:
        """Accept a call of the method ``name``; ``about`` is what :func:`turn_of` takes."""
        raise NotImplementedError

    def _check_tools(self) -> None:
        """Refuse models without tool calling."""
        raise NotImplementedError

    def _chatting(self, name: str, *, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Call:
        own, rest = _parted(kwargs)

        def arguments(is_foreign: bool) -> dict[str, Any]:
            return {"messages": without_foreign_state(messages) if is_foreign else list(messages), **rest}

        return self._call(name, arguments, own, messages=messages, parameters=rest)

    def _completing(self, name: str, *, prompt: str, formatted: bool = False, kwargs: dict[str, Any]) -> Call:
        own, rest = _parted(kwargs)
        asked = [ChatMessage(role=MessageRole.USER, content=prompt)]
        fixed = {"prompt": prompt, "formatted": formatted, **rest}
        return self._call(name, lambda _: dict(fixed), own, messages=asked, parameters=rest)

    def _predicting(self, name: str, *, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Call:
        return self._with_template(name, prompt, prompt_args, {"prompt": prompt}, {}, {})

    def _structuring(
        self, name: str, *, output_cls: Any, prompt: BasePromptTemplate, llm_kwargs: Any = None, prompt_args: Any
    ) -> Call:
        own, rest = _parted(llm_kwargs or {})
        given = {"output_cls": output_cls, "prompt": prompt, "llm_kwargs": rest}
        return self._with_template(name, prompt, prompt_args, given, own, rest)

    def _with_template(
        self, name: str, prompt: BasePromptTemplate, values: dict[str, Any], given: Any, own: Any, rest: Any
    ) -> Call:
        question = named_question(prompt, values)
        messages = prompt.format_messages(llm=self, **values)  # type: ignore[arg-type]

        def arguments(_: bool) -> dict[str, Any]:
            return {**given, **({"llm_kwargs": dict(rest)} if "llm_kwargs" in given else {}), **values}

        return self._call(name, arguments, {"question": question, **own}, messages=messages, parameters=rest)

    def _tooling(
        self,
        name: str,
        *,
        tools: Any,
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        tool_required: bool = False,
        kwargs: dict[str, Any],
        **options: Any,
    ) -> Call:
        self._check_tools()
        own, rest = _parted({**options, **kwargs})
        if tool_required:  # younger than some integrations, so it is passed on only where it says something
            rest["tool_required"] = True
        asked = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
        history = list(chat_history or [])

        def arguments(is_foreign: bool) -> dict[str, Any]:
            # A fresh list each time: LiteLLM appends the user's message to the one that it is given.
            said = without_foreign_state(history) if is_foreign else list(history)
            return {"tools": tools, "user_msg": asked, "chat_history": said, **rest}

        described = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        messages = [*history, asked] if asked else history
        return self._call(name, arguments, own, messages=messages, parameters={**rest, "tools": described})


def _parted(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the arguments that are the router's own out of a call's keyword arguments."""
    rest = dict(kwargs)
    return {name: rest.pop(name) for name in _ROUTING_ARGUMENTS if name in rest}, rest


def _method(name: str, form: str, accept: Callable[..., Call]) -> Any:
    """Return the method ``name``, with LlamaIndex's own signature and text."""
    plain = inspect.unwrap(getattr(FunctionCallingLLM, name))
    signature = inspect.signature(plain)
    extra = next((each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD), "")

    def accepted(llm: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Call:
        given = signature.bind(llm, *arguments, **named).arguments
        given.pop("self")
        return accept(llm, name, **{extra: {}, **given})

    if form in ("run", "stream"):

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(accepted(self, args, kwargs), form)()

    else:

        async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await getattr(accepted(self, args, kwargs), form)()

    return functools.update_wrapper(method, plain, updated=())  # without the marks of LlamaIndex's decorators


_FORMS = ("run", "arun", "stream", "astream")
_KINDS: Mapping[Callable[..., Call], Sequence[str]] = {
    RoutedCalls._chatting: ("chat", "achat", "stream_chat", "astream_chat"),
    RoutedCalls._completing: ("complete", "acomplete", "stream_complete", "astream_complete"),
    RoutedCalls._predicting: ("predict", "apredict", "stream", "astream"),
    RoutedCalls._structuring: (
        "structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict",
    ),
    RoutedCalls._tooling: (
        "chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools",
    ),
}  # fmt: skip
for _accept, _names in _KINDS.items():
    for _name, _form in zip(_names, _FORMS, strict=True):
        setattr(RoutedCalls, _name, _method(_name, _form, _accept))
