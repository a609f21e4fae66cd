"""``LiteLLMChat``: a model given by its litellm name, as a LangChain chat model over the core's backend.

The core calls it directly where the model speaks OpenAI's protocol, and through litellm otherwise.
"""

# ruff: noqa: ARG002 (run_manager is part of LangChain's interface; it reports on our behalf)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Literal, TypeAlias, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, SecretStr

from langchain_routellm.errors import langchain_errors
from langchain_routellm.litellm_messages import ChunkReader, combined, plain, short_name, to_generation, to_openai
from langchain_routellm.schemas import method_binding, openai_tool_choice, output_parser, response_format_of
from routellm_core import ChatBackend, ModelSettings
from routellm_core.backends.caller import ResilientCaller
from routellm_core.backends.chat import ModelBackend
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.capabilities import capabilities_of
from routellm_core.types import RoutingDecision

__all__ = ["LiteLLMChat", "profile_of"]

_Structured: TypeAlias = Runnable[LanguageModelInput, dict[str, Any] | BaseModel]


class LiteLLMChat(BaseChatModel):
    """Any model that litellm knows, with the core's retries and errors.

    ``RouteLLMChat`` builds it for a model that is given by name; it also works alone.

    Args:
        model: litellm's ``provider/model``.
        api_base: base URL, where it is not the provider's own.
        api_key: key; None leaves it to the provider's environment variable.
        timeout: seconds for one call, or until the first token of a stream.
        temperature, max_tokens, stop: as on other chat models.
        max_retries: further attempts after a failure that may pass; None takes them from ``resilience``.
        resilience: how long to wait between attempts. Fallback to another model is not this class's.
        streaming: stream also where the whole answer is asked for.
        stream_usage: ask for token counts at the end of a stream.
        model_kwargs: further parameters of each call.
        settings: what else is to be known of the model (``drop_params``, ``extra`` …); the fields above win.
        backend: calls the model; by default directly where it speaks OpenAI's protocol, else through litellm.
    """

    model: str = Field(min_length=1)
    api_base: str | None = None
    api_key: SecretStr | None = None
    timeout: float | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | str | None = None
    max_retries: int | None = Field(default=None, ge=0)
    resilience: ResiliencePolicy | None = None
    streaming: bool | None = None
    stream_usage: bool = True
    model_kwargs: dict[str, Any] | None = None
    settings: ModelSettings | None = Field(default=None, repr=False)
    backend: Any = Field(default=None, exclude=True, repr=False)

    @classmethod
    def from_settings(cls, settings: ModelSettings, resilience: ResiliencePolicy | None = None) -> LiteLLMChat:
        """Build from the core's settings of a model."""
        return cls(
            model=settings.model,
            api_base=settings.api_base,
            api_key=settings.api_key,
            timeout=settings.timeout if "timeout" in settings.model_fields_set else None,
            settings=settings,
            resilience=resilience,
        )

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools in OpenAI's form.

        Args:
            tools: functions, tools, pydantic or ``TypedDict`` classes, or schemas.
            tool_choice: ``"auto"``, ``"none"``, ``"any"`` (or ``"required"`` or True), a tool's name, or OpenAI's form.
            strict: make the model keep to the schemas exactly.
            **kwargs: further parameters of the call; ``response_format`` may be a schema.

        Raises:
            ValueError: ``tool_choice`` names no tool.
        """
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if tool_choice:
            kwargs["tool_choice"] = openai_tool_choice(tool_choice, formatted)
        if response_format := kwargs.pop("response_format", None):
            kwargs["response_format"] = response_format_of(response_format, strict)
        return self.bind(**({"tools": formatted} if formatted else {}), **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Literal["function_calling", "json_mode", "json_schema"] = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers fit ``schema``.

        Args:
            schema: a pydantic class, ``TypedDict`` class, or JSON schema.
            method: a forced tool call (most providers), JSON mode (say so in the prompt), or a response schema.
            include_raw: return the message and a parsing error beside what was parsed.
            strict: make the model keep to the schema exactly; not with ``"json_mode"``.
            tools: tools that the model may call instead of answering, with ``"json_schema"`` and ``include_raw`` only:
                the calls are then in ``"raw"``.
            **kwargs: further parameters of the call.

        Raises:
            ValueError: an unknown method, ``strict`` with ``"json_mode"``, or ``tools`` without what they need.
        """
        if tools and not (method == "json_schema" and include_raw):
            raise ValueError("tools need method='json_schema' and include_raw=True, for calls have no parsed answer")
        called, bound = method_binding(schema, method, strict)
        bound["ls_structured_output_format"] = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        offered = [*called, *(tools or ())]
        model: Any = self.bind(**bound, **kwargs)
        if offered:
            model = self.bind_tools(offered, strict=strict, **bound, **kwargs)
        parser = output_parser(schema, method)
        if not include_raw:
            return cast("_Structured", model | parser)
        parsed: Any = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed: Any = RunnablePassthrough.assign(parsed=lambda _: None)
        with_error = parsed.with_fallbacks([failed], exception_key="parsing_error")
        return cast("_Structured", RunnableMap(raw=model) | with_error)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenise with litellm's tokeniser for the model, or its nearest."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        from routellm_core.providers.litellm import import_litellm

        return list(import_litellm().encode(model=self.model, text=text))

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return combined(llm_outputs)

    def _resolve_model_profile(self) -> ModelProfile | None:
        settings = self.settings or ModelSettings(model=self.model)
        return profile_of(settings.model_copy(update={"model": self.model})) or None

    @property
    def _llm_type(self) -> str:
        return "routellm-litellm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model, "api_base": self.api_base, **self._parameters(None, {})}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        parameters = super()._get_ls_params(stop=stop, **kwargs)
        provider, separator, _ = str(parameters.get("ls_model_name", "")).partition("/")
        parameters["ls_provider"] = provider if separator else "litellm"
        return parameters

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        caller, decision, request = self._request(messages, stop, kwargs)
        with langchain_errors():
            return _result(caller.call(decision, request)[0], decision.model)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        caller, decision, request = self._request(messages, stop, kwargs)
        with langchain_errors():
            response, _ = await caller.acall(decision, request)
        return _result(response, decision.model)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        caller, decision, request = self._request(messages, stop, kwargs, stream=True)
        with langchain_errors():
            chunks, _ = caller.call(decision, request)
            reader = ChunkReader(decision.model)
            try:
                for chunk in chunks:
                    yield reader.read(chunk)
            finally:
                chunks.close()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        caller, decision, request = self._request(messages, stop, kwargs, stream=True)
        with langchain_errors():
            chunks, _ = await caller.acall(decision, request)
            reader = ChunkReader(decision.model)
            try:
                async for chunk in chunks:
                    yield reader.read(chunk)
            finally:
                await chunks.aclose()

    def _request(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[ResilientCaller, RoutingDecision, dict[str, Any]]:
        parameters = self._parameters(stop, kwargs)
        model = parameters.pop("model", None) or self.model
        own = {"api_base": self.api_base, "api_key": self.api_key, "timeout": self.timeout}
        given = {name: value for name, value in own.items() if value is not None}
        settings = (self.settings or ModelSettings(model=model)).model_copy(update={"model": model, **given})
        policy = self.resilience or ResiliencePolicy()
        attempts = policy.attempts if self.max_retries is None else self.max_retries + 1
        backend: ChatBackend = self.backend or ModelBackend()
        one_model = replace(policy, attempts=attempts, fallback=False)
        caller = ResilientCaller(backend, {"strong": settings, "weak": settings}, policy=one_model)
        decision = RoutingDecision("strong", model, None, None, "none", "one model, nothing to decide")
        if stream:
            parameters["stream"] = True
            if self.stream_usage:
                parameters.setdefault("stream_options", {"include_usage": True})
        return caller, decision, {"messages": to_openai(messages), **parameters}

    def _parameters(self, stop: Sequence[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "stop": stop or self.stop or None}
        merged = {**(self.model_kwargs or {}), **{key: value for key, value in own.items() if value is not None}}
        return {**merged, **{key: value for key, value in kwargs.items() if key != "stream"}}


def _result(response: Any, model: str) -> ChatResult:
    generations = [to_generation(choice, response.usage, model) for choice in response.choices]
    # What LangChain's own counters of tokens and dollars read.
    return ChatResult(
        generations=generations,
        llm_output={"model_name": short_name(model), "token_usage": plain(response.usage) if response.usage else {}},
    )


def profile_of(settings: ModelSettings, *, is_explicit: bool = False) -> ModelProfile:
    """Return what is known of a model as LangChain's profile; empty where nothing is.

    Args:
        settings: the model's.
        is_explicit: only what the settings themselves say, without litellm's map.
    """
    able = capabilities_of(settings)
    inputs = {"image": "image_inputs", "audio": "audio_inputs", "file": "pdf_inputs", "video": "video_inputs"}
    said = {
        "context_window": ("max_input_tokens", able.context_window),
        "max_output_tokens": ("max_output_tokens", able.max_output_tokens),
        "tools": ("tool_calling", able.tools),
        "json_schema": ("structured_output", able.json_schema),
        **{f"modalities.{name}": (key, able.takes(name)) for name, key in inputs.items()},
    }
    known = {
        key: value
        for name, (key, value) in said.items()
        if value is not None and not (is_explicit and getattr(settings, name.partition(".")[0]) is None)
    }
    return ModelProfile(**known)  # type: ignore[typeddict-item]
