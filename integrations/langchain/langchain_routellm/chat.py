"""``RouteLLMChat``: a LangChain chat model that sends each question to the strong or the weak model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self
from uuid import UUID

from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr, SecretStr, ValidationError

from langchain_routellm.children import RoutedTools, common_profile, configured
from langchain_routellm.dispatch import Plan, RoutedCalls
from langchain_routellm.generation import agenerated, call_config, generated, merged, without_run_id
from langchain_routellm.options import ROUTING_OPTIONS, build_turn_router, described, resolved
from langchain_routellm.structured import RoutedOutput
from langchain_routellm.turns import Turn, TurnRouter
from routellm_core.adapters import check_option_names
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import format_model_name
from routellm_core.errors import ConfigError
from routellm_core.types import RoutingDecision, Tier

__all__ = ["ChatRouteLLM", "RouteLLMChat"]

_TIERS: tuple[Tier, Tier] = ("strong", "weak")


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
        strong: the strong model: a litellm name, ``ModelSettings``, or any LangChain chat model.
        weak: likewise the weak model.
        selector: a core ``ModelSelector`` to share, instead of the router and the policies below.
        extract: picks the text to route on out of the messages; by default the last user message.
        sticky: ``"conversation"`` keeps a conversation (by ``thread_id`` or ``session_id`` of the run's configuration,
            else by its opening) on the strong model once it went there; False does not, whatever is configured.
        memory: the store for ``sticky``, to share it or to set its limits.
        no_prompt_tier: the tier for messages without any user text, such as an image alone.
        on_scoring_error: where to go when scoring fails: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries of models built from a name, and whether the other model is asked when one fails.
        temperature, max_tokens, stop, streaming: as on other chat models; they apply to both models.
        api_base, api_key, timeout, max_retries, model_kwargs: for the models built from a name; a chat model that
            was given keeps its own.

    A call's ``model="strong"`` or ``"weak"`` takes that model unscored; ``"router-mf-0.3"`` sets its threshold.

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
    sticky: Literal["conversation", False] | None = None
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

    _turn_router: TurnRouter = PrivateAttr()

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        # Before pydantic's validation, which would wrap the library's errors in its own.
        given = {"router": router, "threshold": threshold, **options}
        check_option_names(given, type(self).model_fields, subject=type(self).__name__)
        ready = resolved(given)
        try:
            super().__init__(**ready)
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {described(error)}") from None  # its text may quote a secret
        self._turn_router = build_turn_router(ready)

    def decide(self, input: LanguageModelInput, config: RunnableConfig | None = None) -> RoutingDecision:  # noqa: A002
        """Return the decision for an input without calling a model.

        Raises:
            RoutingError: the input cannot be routed.
        """
        return self._turn_router.select(self._plan(input, config, {}).turn)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; what ``update`` changes about the routing takes effect, and the rest stays shared.

        Raises:
            RouteLLMError: an option in ``update`` is mistyped or contradictory.
        """
        if not set(update or {}) & set(ROUTING_OPTIONS):
            return super().model_copy(update=update, deep=deep)
        fields = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        return type(self)(**{**fields, **(update or {})})

    # What LangChain asks a chat model about itself

    @property
    def model_name(self) -> str:
        """The routing as a model name, such as ``"router-mf-0.116"``."""
        chosen = self._turn_router.threshold
        threshold = self._turn_router.selector.threshold if chosen is None else chosen
        name = self._turn_router.selector.router.name
        return f"router-{name}" if threshold is None else format_model_name(name, threshold)

    @property
    def _llm_type(self) -> str:
        return "routellm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        pair = self._turn_router.pair
        return {"model_name": self.model_name, "strong": pair.strong, "weak": pair.weak}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        parameters = super()._get_ls_params(stop=stop, **kwargs)
        parameters["ls_provider"] = "routellm"
        return parameters

    def _resolve_model_profile(self) -> ModelProfile | None:
        return common_profile(self.strong.profile, self.weak.profile)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenise as the strong model does."""
        return self._model("strong").get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Count tokens; of the two models' counts the larger, so that what fits, fits both."""
        return max(self._model(tier).get_num_tokens(text) for tier in _TIERS)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count tokens of messages; of the two models' counts the larger."""
        return max(self._model(tier).get_num_tokens_from_messages(messages, tools) for tier in _TIERS)

    # Tools and structured output: each model's own way, prepared for both, so that mistakes show at once

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
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        bound = {tier: self._model(tier).bind_tools(tools, **kwargs) for tier in _TIERS}
        return self.bind(tools=RoutedTools([_described(tool) for tool in tools], bound))

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers fit ``schema``, by the chosen model's own method unless one is given.

        Args:
            schema: a pydantic class, ``TypedDict`` class, or JSON schema.
            include_raw: return the message and a parsing error beside what was parsed.
            **kwargs: passed to the models' ``with_structured_output``: ``method``, ``strict`` …

        Raises:
            NotImplementedError: one of the models has no structured output.
        """
        structured = {
            tier: self._model(tier).with_structured_output(schema, include_raw=include_raw, **kwargs) for tier in _TIERS
        }
        return RoutedOutput(self._plan_for, structured, input_type=self.InputType)

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
            results.append(plan.run(lambda attempt, prompt=prompt: generated(attempt, prompt)))  # type: ignore[misc]
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

        async def one(index: int, prompt: list[BaseMessage]) -> LLMResult:
            plan = self._plan(prompt, without_run_id(config) if index else config, {**kwargs, "stop": stop})
            return await plan.arun(lambda attempt: agenerated(attempt, prompt))

        return merged(await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(messages))))

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
        return ChatResult(generations=generations)

    def _plan(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan:  # noqa: A002
        if kwargs.get("stop") is None and self.stop:
            kwargs["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        tools = kwargs.get("tools")
        model = kwargs.pop("model", None)

        def target(tier: Tier) -> tuple[Runnable[Any, Any], dict[str, Any]]:
            if isinstance(tools, RoutedTools):
                return tools.bound[tier], {key: value for key, value in kwargs.items() if key != "tools"}
            return self._model(tier), dict(kwargs)

        return self._plan_for(input, config, model, target)

    def _plan_for(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None,
        model: str | None,
        target: Callable[[Tier], tuple[Runnable[Any, Any], dict[str, Any]]],
    ) -> Plan:
        ensured = ensure_config(config)
        turn = Turn.of(self._convert_input(input).to_messages(), ensured, model)
        return Plan(self._turn_router, turn, target, ensured)

    def _model(self, tier: Tier) -> BaseChatModel:
        return configured(self.strong if tier == "strong" else self.weak, self)


ChatRouteLLM = RouteLLMChat
"""The same class under a name of LangChain's usual form."""


def _described(tool: Any) -> Any:
    try:
        return convert_to_openai_tool(tool)
    except (TypeError, ValueError):  # a provider's own tool, which only its model understands
        return tool
