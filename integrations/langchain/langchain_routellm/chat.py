"""``RouteLLMChat``: a LangChain chat model that sends each question to the strong or the weak model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self
from uuid import UUID

from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import AnyConfigurableField, ConfigurableFieldSpec
from langchain_core.tools import BaseTool
from pydantic import BaseModel, PrivateAttr, SecretStr, ValidationError

from langchain_routellm.calls import Decided, Plan, RoutedCalls
from langchain_routellm.configuration import chosen_options, field_specs
from langchain_routellm.generation import agenerated, call_config, generated, merged, without_run_id
from langchain_routellm.litellm_chat import LiteLLMChat
from langchain_routellm.messages import MessageReading, core_extract, request_of
from langchain_routellm.rungs import (
    CLIENT_SETTINGS,
    Rung,
    base_model,
    build_rung,
    common_profile,
    configured,
    is_named,
    mapped,
    name_of,
    rung_profile,
    settings_of,
)
from langchain_routellm.targets import RoutedOutput, RoutedTools
from routellm_core import ModelSettings, load_config
from routellm_core._options import validated
from routellm_core.adapters import ROUTING_OPTIONS, RoutedCall, Routing, build_routing, check_option_names
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import format_model_name, requested_threshold
from routellm_core.errors import ConfigError
from routellm_core.types import RoutingDecision, Tier

__all__ = ["ChatRouteLLM", "RouteLLMChat"]

_TIERS: tuple[Tier, Tier] = ("strong", "weak")
_REBUILDING = frozenset({*ROUTING_OPTIONS, *CLIENT_SETTINGS})


class RouteLLMChat(RoutedCalls, BaseChatModel):
    """Routes each human turn to one of two chat models, and behaves as that model does.

    ::

        model = RouteLLMChat("mf", 0.116, strong="openai/gpt-5.4", weak=ChatOllama(model="llama3.1"))
        model.invoke("Hello").response_metadata["routing"]  # {"tier": "weak", "model": "llama3.1", ...}

    What is left out comes from RouteLLM's configuration (:func:`routellm_core.load_config`: the file that
    ``ROUTELLM_CONFIG`` names, ``ROUTELLM_STRONG_MODEL`` and its like, the documented defaults).

    Args:
        router: a router's name, or a loaded router, which any number of chat models may share.
        threshold: in [0, 1], a score that reaches it goes to the strong model; or ``"50%"``, a share of strong calls.
        strong_share: that share as a number; 0.5 is ``threshold="50%"``.
        calibration: what ``routellm calibrate --save`` wrote for one's own traffic, or its file; it resolves shares,
            and gives the threshold where none is given.
        strong: the strong model: a litellm name, ``ModelSettings``, any LangChain chat model, or a runnable around one
            (``with_fallbacks``, ``with_retry``, ``bind``).
        weak: likewise the weak model.
        selector: a core ``ModelSelector`` to share, instead of the router and the policies below.
        extract: picks the text to route on out of the messages; by default the last user message.
        sticky: ``"auto"``, the default, keeps a conversation (by ``thread_id`` or ``session_id`` of the run's
            configuration, else by its opening) on the strong model once it needed that, until an easy question of its
            own; ``"conversation"`` always; False does not, whatever is configured.
        memory: the store for ``sticky``, to share it or to set its limits.
        no_prompt_tier: the tier for messages without any user text, such as an image alone.
        on_scoring_error: where to go when scoring fails: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries of models built from a name, and whether the other model is asked when one fails.
        temperature, max_tokens, stop, streaming: as on other chat models; they apply to both models.
        api_base, api_key, timeout, max_retries, model_kwargs: for the models built from a name; a chat model that
            was given keeps its own.

    A call's ``model="strong"`` or ``"weak"`` takes that model unscored; ``"router-mf-0.3"`` sets its threshold, and so
    does ``config={"configurable": {"routellm_threshold": 0.3}}``, which reaches it within chains and agents. An option
    that is assigned later takes effect, or is refused as it would be at the beginning.

    Raises:
        RouteLLMError: an option is unknown, mistyped or contradictory, or the router cannot be loaded.
    """

    router: Any = None
    threshold: Any = None
    strong_share: float | None = None
    calibration: Any = None
    strong: Any = None
    weak: Any = None
    selector: Any = None
    extract: Callable[[Sequence[BaseMessage]], str | None] | None = None
    sticky: Literal["auto", "conversation", False] | None = None
    memory: Any = None
    no_prompt_tier: Any = None
    on_scoring_error: Any = None
    resilience: ResiliencePolicy | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | str | None = None
    streaming: bool | None = None
    api_base: str | None = None
    api_key: SecretStr | None = None
    timeout: float | None = None
    max_retries: int | None = None
    model_kwargs: dict[str, Any] | None = None

    _routing: Routing[Rung] = PrivateAttr()
    _given: frozenset[str] = PrivateAttr()
    _configurable: dict[str, AnyConfigurableField] = PrivateAttr(default_factory=dict)

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        # Before pydantic's validation, which would wrap the library's errors in its own.
        previous = options.pop("_previous", None)
        given = {"router": router, "threshold": threshold, **options}
        for tier in _TIERS:
            if isinstance(given.get(tier), Mapping):
                given[tier] = validated(ModelSettings, dict(given[tier]), subject=tier)
        check_option_names(given, type(self).model_fields, subject=type(self).__name__)
        requested_threshold(threshold, options.get("strong_share"))
        try:
            super().__init__(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {_described(error)}") from None  # its text may quote a secret
        self._given = frozenset(name for name, value in given.items() if value is not None)
        self._set_up(previous)

    def _set_up(self, previous: Routing[Rung] | None) -> None:
        self._routing = self._built(previous)
        selector = self._routing.selector
        resolved = {
            "router": selector.router,
            **{tier: self._routing.settings[tier] for tier in _TIERS},
            "no_prompt_tier": selector.no_prompt_tier,
            "on_scoring_error": selector.on_scoring_error,
            "sticky": selector.sticky or False,
            "profile": self._resolve_model_profile(),
        }
        # What was left out shows what it came to; it is still not given, so that a copy asks the configuration again.
        self.__dict__.update({name: value for name, value in resolved.items() if name not in self._given})

    def _built(self, previous: Routing[Rung] | None) -> Routing[Rung]:
        options = {name: getattr(self, name) for name in self._given}
        policy = self.resilience or load_config().fallback.policy()
        if self.max_retries is not None:
            policy = replace(policy, attempts=self.max_retries + 1)
        if self.max_retries is not None or self.resilience is not None:
            options["resilience"] = policy
        return build_routing(
            options,
            build_model=lambda tier, spec: build_rung(tier, spec, {**options, "resilience": policy}),
            settings_of=settings_of,
            core_extract=core_extract,
            previous=previous,
        )

    @property
    def routing(self) -> Routing[Rung]:
        """What the options were built into: selector, models, policy."""
        return self._routing

    def decide(self, input: LanguageModelInput, config: RunnableConfig | None = None) -> RoutingDecision:  # noqa: A002
        """Return the decision for an input without calling a model.

        Raises:
            RoutingError: the input cannot be routed.
        """
        call = self._plan(input, config, {}).call
        return call.routing.select(call.request)

    # Options that change

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Copy; what ``update`` changes takes effect, and the rest (router, conversations, models) stays shared.

        Raises:
            RouteLLMError: an option in ``update`` is mistyped or contradictory.
        """
        changed = dict(update or {})
        if not changed.keys() & _REBUILDING:
            return super().model_copy(update=changed)
        return self._rebuilt(changed)

    def _rebuilt(self, changed: dict[str, Any]) -> Self:
        for name, other in (("threshold", "strong_share"), ("strong_share", "threshold")):  # two ways to say one thing
            if changed.get(name) is not None:
                changed.setdefault(other, None)
        previous = self._routing
        if changed.keys() & set(CLIENT_SETTINGS):
            previous = replace(previous, given={**previous.given, "strong": object(), "weak": object()})
        fields = {name: getattr(self, name) for name in self._given}
        copy = type(self)(**{**fields, **changed}, _previous=previous)
        copy._configurable = self._configurable
        return copy

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in RouteLLMChat.__annotations__ or name.startswith("_") or "_routing" not in self._private():
            super().__setattr__(name, value)
            return
        fresh = self._rebuilt({name: value})  # raises before anything changed
        self.__dict__.update(fresh.__dict__)
        self._given, self._routing = fresh._given, fresh._routing

    def _private(self) -> Mapping[str, Any]:
        return getattr(self, "__pydantic_private__", None) or {}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __getstate__(self) -> dict[Any, Any]:
        state = dict(super().__getstate__())
        state["__pydantic_private__"] = {
            "_configurable": self._configurable,
            "_given": self._given,
        }  # clients and threads do not travel
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._set_up(None)

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> Any:
        """Let options be set per call, by ``config={"configurable": {id: value}}``.

        What is returned is a ``RouteLLMChat`` still, so that it holds within agents, bound tools and structured output.

        Raises:
            ConfigError: one of them is no option.
        """
        check_option_names(kwargs, type(self).model_fields, subject=type(self).__name__)
        copy = self.model_copy()
        copy._configurable = {**self._configurable, **kwargs}
        return copy

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The fields that a run's configuration may set."""
        return field_specs(self, self._configurable)

    # What LangChain asks a chat model about itself

    @property
    def model_name(self) -> str:
        """The routing as a model name, such as ``"router-mf-0.116"``."""
        threshold = self._routing.effective_threshold
        name = self._routing.selector.router.name
        return f"router-{name}" if threshold is None else format_model_name(name, threshold)

    @property
    def _llm_type(self) -> str:
        return "routellm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        pair = self._routing.pair
        return {"model_name": self.model_name, "strong": pair.strong, "weak": pair.weak}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        parameters = super()._get_ls_params(stop=stop, **kwargs)
        parameters["ls_provider"] = "routellm"
        return parameters

    def _resolve_model_profile(self) -> ModelProfile | None:
        if "_routing" not in self._private():
            return None
        models = self._routing.models
        return common_profile(rung_profile(models["strong"]), rung_profile(models["weak"]))

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenise as the strong model does."""
        return self._counter("strong").get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Count tokens; of the two models' counts the larger, so that what fits, fits both."""
        return max(self._counter(tier).get_num_tokens(text) for tier in _TIERS)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count tokens of messages; of the two models' counts the larger."""
        return max(self._counter(tier).get_num_tokens_from_messages(messages, tools) for tier in _TIERS)

    def _counter(self, tier: Tier) -> BaseChatModel:
        if is_named(self._routing.given.get(tier)):  # the providers' packages would download a tokeniser
            return LiteLLMChat(model=self._routing.pair.of(tier), custom_get_token_ids=self.custom_get_token_ids)
        model = base_model(self.rung(tier))
        assert model is not None  # noqa: S101 - checked when it was given
        return model

    # Tools and structured output: each model's own way, tried for both at once, so that mistakes show

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; the model that is chosen later gets them through its own ``bind_tools``.

        Args:
            tools: tools in any form that both models take.
            tool_choice: as the models take it: ``"any"``, ``"auto"``, ``"none"``, a tool's name …
            **kwargs: passed to the models' ``bind_tools``.

        Raises:
            NotImplementedError: one of the models has no tool calling.
        """
        bound = RoutedTools(tools, {**kwargs, **({} if tool_choice is None else {"tool_choice": tool_choice})})
        for tier in _TIERS:
            bound.on(self.rung(tier))
        return self.bind(tools=bound)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers fit ``schema``, each model by its own ``with_structured_output``.

        Args:
            schema: as the models take it.
            include_raw: return the message and a parsing error beside what was parsed.
            **kwargs: passed to the models, such as ``method``, ``strict`` and ``tools``.

        Raises:
            NotImplementedError: one of the models has no structured output.
        """
        return RoutedOutput(self, schema, {"include_raw": include_raw, **kwargs})

    # Calls

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several conversations one after the other, each by the model that is chosen for it."""
        config = call_config(callbacks, tags, metadata, run_name, run_id)
        results = []
        for index, prompt in enumerate(messages):
            plan = self._plan(prompt, without_run_id(config) if index else config, {**kwargs, "stop": stop})
            results.append(plan.run(generated))
        return merged(results)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several conversations concurrently, each by the model that is chosen for it."""
        config = call_config(callbacks, tags, metadata, run_name, run_id)
        plans = (
            self._plan(prompt, without_run_id(config) if index else config, {**kwargs, "stop": stop})
            for index, prompt in enumerate(messages)
        )
        return merged(await asyncio.gather(*(plan.arun(agenerated) for plan in plans)))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # The public methods go to the chosen model at once; this serves callers that hold a run of their own.
        callbacks = [*run_manager.inheritable_handlers] if run_manager else None
        result = self.generate([messages], stop=stop, callbacks=callbacks, **kwargs)
        generations = [item for item in result.generations[0] if isinstance(item, ChatGeneration)]
        return ChatResult(generations=generations, llm_output=result.llm_output)

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        tools = kwargs.get("tools")
        if not isinstance(tools, RoutedTools):
            return self.plan(input, config, kwargs, lambda model, tier: model.rung(tier), kwargs)
        rest = {key: value for key, value in kwargs.items() if key != "tools"}
        said = {**tools.kwargs, "tools": list(tools)}
        return self.plan(input, config, rest, lambda model, tier: tools.on(model.rung(tier)), said)

    def plan(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None,
        kwargs: dict[str, Any],
        target: Callable[[RouteLLMChat, Tier], Rung],
        said: Mapping[str, Any],
    ) -> Plan:
        """Accept a call of this model, or of what was made from it.

        Args:
            input: the conversation.
            config: the caller's; it may set options.
            kwargs: the caller's, which are passed on; ``model`` is taken out of them.
            target: what is called of a tier, of the model with the options of this call.
            said: what the call says that a model must be able to do: tools, response format.
        """
        decided = input if isinstance(input, Decided) else None
        messages = self._convert_input(decided.input if decided else input).to_messages()
        ensured = ensure_config(config)
        options, ensured = chosen_options(ensured, self._configurable, type(self).model_fields)
        threshold = requested_threshold(options.pop("threshold", None), options.pop("strong_share", None))
        model = self.model_copy(update=options) if options else self
        wish = kwargs.pop("model", None)
        if kwargs.get("stop") is None and model.stop:
            kwargs["stop"] = [model.stop] if isinstance(model.stop, str) else model.stop
        routing = model._routing
        call = RoutedCall(
            routing,
            request_of(messages, ensured, said, model=_wished(wish, routing), threshold=threshold),
            MessageReading(),
            decision=decided.decision if decided else None,
            retried=[tier for tier in _TIERS if is_named(routing.given.get(tier))],
        )
        return Plan(call, lambda tier: target(model, tier), messages, ensured, kwargs)

    def rung(self, tier: Tier) -> Rung:
        """Return the model of a tier with what was set on this one."""
        return mapped(self._routing.models[tier], lambda model: configured(model, self))


ChatRouteLLM = RouteLLMChat
"""The same class under a name of LangChain's usual form."""


def _wished(wish: Any, routing: Routing[Rung]) -> Any:
    """Return the tier for a model that the caller names as the provider does; any other wish as it is."""
    if wish is None or wish in (routing.pair.strong, routing.pair.weak):
        return wish
    return next((tier for tier in _TIERS if wish == name_of(routing.models[tier])), wish)


def _described(error: ValidationError) -> str:
    """Say what pydantic found wrong, without the values."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {type(fault['input']).__name__}"
        for fault in error.errors(include_url=False)
    )
