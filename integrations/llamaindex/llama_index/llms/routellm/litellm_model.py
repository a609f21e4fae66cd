"""``ResilientLiteLLM``: a model given by its litellm name, called through the core's backend."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools.types import BaseTool
from pydantic import Field, PrivateAttr, SecretStr, field_serializer

from routellm_core import ModelSettings
from routellm_core.backends.caller import ResilientCaller
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.providers.litellm import import_litellm
from routellm_core.types import RoutingDecision

import_litellm()  # first, with its price map from the package; LlamaIndex's own import would ask the internet

from llama_index.llms.litellm import LiteLLM  # noqa: E402
from llama_index.llms.litellm.utils import from_litellm_message  # noqa: E402
from llama_index.llms.routellm.litellm_messages import ChunkReader, to_openai, token_counts  # noqa: E402

__all__ = ["ResilientLiteLLM"]

_UNKNOWN_WINDOW = 8192
_CLIENT_SETTINGS = ("api_base", "api_key", "timeout", "context_window")


class ResilientLiteLLM(LiteLLM):
    """LlamaIndex's ``LiteLLM`` with the core's time limits, retries and errors, and with token counts in streams.

    ``RouteLLM`` builds it for a model that is given by name; it also works alone. Nothing is sent that was not asked
    for: ``LiteLLM``'s own temperature of 0.1 is refused by reasoning models.

    Args:
        model: litellm's ``provider/model``.
        api_base: base URL, where it is not the provider's own.
        api_key: key; None leaves it to the provider's environment variable. Never serialised.
        timeout: seconds for one call, or until the first token of a stream.
        temperature, max_tokens: sent where given.
        max_retries: further attempts after a failure that may pass; None takes them from ``resilience``.
        resilience: how long to wait between attempts.
        additional_kwargs: further parameters of each call.
        context_window: tokens, where litellm does not know the model; 8192 where neither does.
        settings: what else is known of the model and of the way to it; see :class:`routellm_core.ModelSettings`.
        is_function_calling: whether the model takes tools, where litellm does not know it; assumed by default.
        backend: calls the model; by default litellm.
    """

    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    max_retries: int | None = Field(default=None, ge=0)
    api_base: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)
    timeout: float | None = Field(default=None, gt=0)
    resilience: ResiliencePolicy | None = Field(default=None, exclude=True)
    context_window: int | None = Field(default=None, gt=0)
    is_function_calling: bool = True
    settings: ModelSettings | None = None
    backend: Any = Field(default=None, exclude=True, repr=False)

    _known: dict[str, Any] | None = PrivateAttr(default=None)

    def __init__(self, model: str, **options: Any) -> None:
        # Past LiteLLM's own constructor, which puts the key among the parameters that are serialised.
        FunctionCallingLLM.__init__(self, model=model, **{"max_tokens": None, **options})

    @classmethod
    def from_settings(cls, settings: ModelSettings, **options: Any) -> Self:
        """Build the model that settings describe.

        Args:
            settings: what they say wins.
            **options: of the constructor, and ``model_kwargs``, further parameters of each call.
        """
        own = {name: getattr(settings, name) for name in _CLIENT_SETTINGS if name in settings.model_fields_set}
        extra = {**(options.pop("model_kwargs", None) or {}), **settings.extra}
        given = {**options, **{name: value for name, value in own.items() if value is not None}}
        rest = settings.model_copy(update={"extra": {}, "api_key": None})
        return cls(settings.model, additional_kwargs=extra, settings=rest, **given)

    @classmethod
    def class_name(cls) -> str:
        """Return the name in serialised data."""
        return "resilient_litellm_llm"

    def __getstate__(self) -> dict[str, Any]:
        # LlamaIndex's own takes what cannot be pickled out of the object that is being pickled, which goes on serving.
        return super(ResilientLiteLLM, copy.copy(self)).__getstate__()

    @property
    def known_settings(self) -> ModelSettings:
        """What is known of the model and of the way to it."""
        own = {name: value for name in _CLIENT_SETTINGS if (value := getattr(self, name)) is not None}
        return (self.settings or ModelSettings(model=self.model)).model_copy(update={**own, "model": self.model})

    @field_serializer("settings")
    def _dump_settings(self, settings: ModelSettings | None) -> dict[str, Any] | None:
        return settings and settings.model_dump(mode="json", exclude={"api_key", "extra"}, exclude_unset=True)

    @property
    def metadata(self) -> LLMMetadata:
        """What the model can do, as far as litellm's bundled price map knows it."""
        if self._known is None:
            self._known = _known_facts(self.model)
        window = self.context_window or self._known.get("max_input_tokens") or self._known.get("max_tokens")
        takes_tools = self._known.get("supports_function_calling") if self._known else self.is_function_calling
        return LLMMetadata(
            context_window=int(window or _UNKNOWN_WINDOW),
            num_output=self.max_tokens or -1,
            is_chat_model=True,
            is_function_calling_model=bool(takes_tools),
            model_name=self.model,
        )

    def _prepare_chat_with_tools(
        self, tools: list[BaseTool], *, tool_required: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        # Structured prediction passes tool_choice=None beside tool_required=True, and None would win. LlamaIndex passes
        # tool_required to those that have it in their signature.
        if kwargs.get("tool_choice", ...) is None:
            del kwargs["tool_choice"]
        return super()._prepare_chat_with_tools(tools, tool_required=tool_required, **kwargs)

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        caller, decision, request = self._request(messages, kwargs)
        return _response(caller.call(decision, request)[0])

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        caller, decision, request = self._request(messages, kwargs)
        return _response((await caller.acall(decision, request))[0])

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        caller, decision, request = self._request(messages, kwargs, stream=True)

        def responses() -> Generator[ChatResponse, None, None]:
            chunks: Iterator[Any] = caller.call(decision, request)[0]
            reader = ChunkReader()
            try:
                for chunk in chunks:
                    yield reader.read(chunk)
            finally:
                chunks.close()  # type: ignore[attr-defined]

        return responses()

    async def _astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        caller, decision, request = self._request(messages, kwargs, stream=True)

        async def responses() -> AsyncGenerator[ChatResponse, None]:
            chunks: AsyncIterator[Any] = (await caller.acall(decision, request))[0]
            reader = ChunkReader()
            try:
                async for chunk in chunks:
                    yield reader.read(chunk)
            finally:
                await chunks.aclose()  # type: ignore[attr-defined]

        return responses()

    def _request(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, stream: bool = False
    ) -> tuple[ResilientCaller, RoutingDecision, dict[str, Any]]:
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, **self.additional_kwargs, **kwargs}
        parameters = {name: value for name, value in own.items() if value is not None}
        settings = self.known_settings
        policy = self.resilience or ResiliencePolicy()
        attempts = policy.attempts if self.max_retries is None else self.max_retries + 1
        one_model = replace(policy, attempts=attempts, fallback=False)
        backend = self.backend or LiteLLMBackend()
        caller = ResilientCaller(backend, {"strong": settings, "weak": settings}, policy=one_model)
        decision = RoutingDecision("strong", self.model, None, None, "none", "one model, nothing to decide")
        if stream:
            parameters["stream"] = True
            if _counts_streams(self.model):
                parameters.setdefault("stream_options", {"include_usage": True})
        return caller, decision, {**parameters, "messages": to_openai(messages)}


def _response(response: Any) -> ChatResponse:
    message = from_litellm_message(response.choices[0].message)
    return ChatResponse(message=message, raw=response, additional_kwargs=token_counts(response))


def _known_facts(model: str) -> dict[str, Any]:
    try:
        return dict(import_litellm().get_model_info(model))
    except Exception:  # litellm raises bare Exception for a model that it does not know
        return {}


def _counts_streams(model: str) -> bool:
    try:
        return "stream_options" in (import_litellm().get_supported_openai_params(model=model) or ())
    except Exception:  # an unknown provider, which the call itself will name
        return False
