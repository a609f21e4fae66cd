"""``RouteLLM``: a LlamaIndex LLM that sends each question to the strong or the weak model."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Self

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.tools.types import BaseTool
from llama_index.llms.routellm.answers import chosen_tier, without_outer_stamp
from llama_index.llms.routellm.calls import Call, RoutedCalls
from llama_index.llms.routellm.messages import core_extract, turn_of
from llama_index.llms.routellm.models import (
    CLIENT_OPTIONS,
    build_model,
    check_settings,
    common_metadata,
    configured,
    copied_model,
    dump_model,
    function_calling,
    invalid,
    settings_of,
    without_secrets,
)
from llama_index.llms.routellm.settled import SettledQuestions
from llama_index.llms.routellm.structured import RoutedStructuredLLM
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, field_serializer

from routellm_core import ModelSettings, load_config
from routellm_core._options import build_from_options, validated
from routellm_core.adapters import ROUTING_OPTIONS, AdapterRequest, Attempt, Routing, build_routing, check_option_names
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import format_model_name
from routellm_core.types import RoutingDecision, Tier

__all__ = ["RouteLLM"]

logger = logging.getLogger(__name__)

_PROMPT_FUNCTIONS = ("messages_to_prompt", "completion_to_prompt")
_OPTIONS = frozenset(
    (*ROUTING_OPTIONS, *CLIENT_OPTIONS, *_PROMPT_FUNCTIONS, "settle_seconds", "temperature", "max_tokens")
)


class RouteLLM(RoutedCalls, FunctionCallingLLM):
    """Routes each question to one of two LLMs, and behaves as that LLM does.

    ::

        llm = RouteLLM("mf", "50%", strong="openai/gpt-5.4", weak=Ollama(model="llama3.1"))
        index.as_query_engine(llm=llm).query("What did the author do?")

    What is left out comes from RouteLLM's configuration (:func:`routellm_core.load_config`: the file that
    ``ROUTELLM_CONFIG`` names, ``ROUTELLM_STRONG_MODEL`` and its like, the documented defaults).

    Args:
        router: a router's name, or a loaded router, which any number of LLMs may share.
        threshold: in [0, 1], a score that reaches it goes to the strong model; or ``"50%"``, a share of strong calls.
        strong_share: that share as a number; 0.5 is ``threshold="50%"``.
        calibration: one's own traffic's scores, or the file of ``routellm calibrate --save``.
        strong: the strong model: a litellm name, ``ModelSettings``, or any LlamaIndex LLM.
        weak: likewise the weak model.
        selector: a core ``ModelSelector`` to share, instead of the router and the policies below.
        extract: picks the text to route on out of messages; by default the last user message. Not asked where the
            question is known, as in query engines (``query_str``).
        sticky: ``"auto"`` keeps a conversation (by ``session=``, else by its opening question) on the strong model once
            it needed that, until an easy question of its own; ``"conversation"`` for good; False decides each turn
            afresh, whatever is configured.
        memory: the store for ``sticky``, to share it or to set its limits.
        settle_seconds: a question that comes again so soon, after the same words, keeps its model, so that a refine
            loop never changes it. Not where ``session=`` names the conversation.
        no_prompt_tier: the tier for messages without any user text, such as an image alone.
        on_scoring_error: where to go when scoring fails: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries of models built from a name, and whether the other model is asked when one fails.
        temperature, max_tokens: as on other LLMs; they apply to both models. So do ``system_prompt``,
            ``output_parser``, ``callback_manager`` and LlamaIndex's other settings of an LLM, where given.
        api_base, api_key, timeout, max_retries, context_window, model_kwargs: for the models built from a name; an LLM
            that was given keeps its own.

    An option that is assigned later (``llm.threshold = 0.3``) takes effect, or is refused.

    Raises:
        RouteLLMError: an option is unknown, mistyped or contradictory, or the router cannot be loaded.
    """

    router: Any = None
    threshold: Any = None
    strong_share: float | None = None
    calibration: Any = Field(default=None, exclude=True)
    strong: Any = None
    weak: Any = None
    selector: Any = Field(default=None, exclude=True)
    extract: Callable[[Sequence[ChatMessage]], str | None] | None = Field(default=None, exclude=True)
    sticky: Literal["auto", "conversation", False] | None = None
    memory: Any = Field(default=None, exclude=True)
    settle_seconds: float = Field(default=60.0, ge=0)
    no_prompt_tier: Any = None
    on_scoring_error: Any = None
    resilience: ResiliencePolicy | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    api_base: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)
    timeout: float | None = None
    max_retries: int | None = None
    context_window: int | None = None
    model_kwargs: dict[str, Any] | None = None

    _routing: Routing[LLM] = PrivateAttr()
    _given: dict[str, Any] = PrivateAttr()
    _settled: SettledQuestions | None = PrivateAttr(default=None)
    _question: str | None = PrivateAttr(default=None)

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        # Before pydantic's validation, which would wrap the library's errors in its own.
        given = _normalised({"router": router, "threshold": threshold, **options}, type(self))
        routing = _routing_of(given, None)
        try:
            super().__init__(**{**given, **_shown(given, routing)})
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from None  # pydantic's own text may quote a key
        self._take(given, routing)

    @classmethod
    def class_name(cls) -> str:
        """Return the name in serialised data."""
        return "RouteLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What holds for both models: the smaller context window, and what both can do."""
        return common_metadata(self.strong.metadata, self.weak.metadata, self.model_name)

    @property
    def model_name(self) -> str:
        """The routing as a model name, such as ``"router-mf-0.116"``."""
        name = self._routing.selector.router.name
        threshold = self._routing.effective_threshold
        return f"router-{name}" if threshold is None else format_model_name(name, threshold)

    def decide(self, question: str | Sequence[ChatMessage], **routing: Any) -> RoutingDecision:
        """Return the decision for a question or for messages without calling a model.

        Args:
            question: the question, or a conversation that ends with it.
            **routing: ``model`` and ``session``, as in a call.

        Raises:
            RoutingError: it cannot be routed.
        """
        asked: dict[str, Any] = {"question": question} if isinstance(question, str) else {}
        messages = () if asked else question
        return self._routing.select(self._request({**asked, **routing}, messages=messages, parameters={}))

    def asking(self, question: str) -> RouteLLM:
        """Return this LLM, routed on ``question`` whatever it is called with.

        For one's own prompts, where the question stands among other text: ``llm.asking(question).complete(prompt)``.
        """
        view = copy.copy(self)
        view._question = question
        return view

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """Return an LLM whose answers are ``output_cls``, routed as this one."""
        return RoutedStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    # Tools

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Read the tool calls in the way of the model that answered.

        Raises:
            ValueError: there is none, and ``error_on_no_tool_call``.
        """
        tier = chosen_tier(response) or "strong"
        reader = function_calling(self._model(tier), self._routing.pair.of(tier))
        return reader.get_tool_calls_from_response(
            without_outer_stamp(response), error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )

    def _check_tools(self) -> None:
        for tier, model in self._routing.models.items():  # both at once: a mistake should not wait for the other's turn
            function_calling(model, self._routing.pair.of(tier))

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # The public methods go to the chosen model at once; this serves callers of the framework's inner step.
        model = function_calling(self._model("strong"), self._routing.pair.strong)
        return model._prepare_chat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    # What the calls need

    @property
    def given_prompt_functions(self) -> frozenset[str]:
        """Which of the functions between messages and prompts were given, and so apply to both models."""
        return frozenset(name for name in _PROMPT_FUNCTIONS if name in self._given)

    def _model(self, tier: Tier) -> LLM:
        return configured(self._routing.models[tier], self)

    def _request(self, own: Mapping[str, Any], *, parameters: Mapping[str, Any], **about: Any) -> AdapterRequest:
        question = own.get("question") if self._question is None else self._question
        limits = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        turn = turn_of(parameters={**limits, **parameters}, question=question, session=own.get("session"), **about)
        return AdapterRequest(turn, own.get("model"))

    def _call(
        self, name: str, arguments: Callable[[bool], dict[str, Any]], own: Mapping[str, Any], **about: Any
    ) -> Call:
        def ask(attempt: Attempt) -> Any:
            return getattr(self._model(attempt.tier), name)(**arguments(attempt.is_foreign))

        # A conversation that the caller names has rules of its own.
        settled = self._settled if own.get("session") is None else None
        limiter = getattr(self, "rate_limiter", None)  # younger than llama-index-core 0.13
        return Call(self._routing, self._request(own, **about), ask, settled, limiter)

    # Options that change, and copies

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an option of the routing, or of the models, takes effect at once.

        Raises:
            RouteLLMError: the option is mistyped or contradictory; nothing has changed then.
        """
        if name in _OPTIONS and "_given" in (self.__pydantic_private__ or ()):  # LlamaIndex sets some while it builds
            self._change({name: value})
        else:
            super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; what ``update`` changes takes effect, and what it does not change stays shared.

        A deep copy has models of its own, which may be changed apart; their connections, the loaded router, handlers
        of callbacks and remembered conversations are shared.

        Raises:
            RouteLLMError: an option in ``update`` is mistyped or contradictory.
        """
        copied = copy.deepcopy(self) if deep else copy.copy(self)
        changes = dict(update or {})
        if options := {name: changes.pop(name) for name in _OPTIONS & changes.keys()}:
            copied._change(options)
        for name, value in changes.items():
            setattr(copied, name, value)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied = copy.copy(self)
        models = {id(model): copied_model(model) for model in self._routing.models.values()}
        routing = replace(self._routing, models={tier: models[id(m)] for tier, m in self._routing.models.items()})
        given = {name: models.get(id(value), value) for name, value in self._given.items()}
        routing = replace(routing, given={name: given.get(name, value) for name, value in routing.given.items()})
        copied._take(given, routing)
        copied.__dict__.update(routing.models, callback_manager=CallbackManager([*self.callback_manager.handlers]))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # Not as LlamaIndex does: it takes what cannot be pickled out of the object that is being pickled.
        others = {name: self.__dict__[name] for name in self.model_fields_set - _OPTIONS}
        state = {**others, **self._given}
        for name in ("callback_manager", "rate_limiter"):
            if name in state and not _is_picklable(state[name]):
                logger.warning("the %s cannot be pickled, so it is left out", name)
                del state[name]
        models = {name: copy.copy(value) for name, value in state.items() if isinstance(value, LLM)}
        return _rebuilt, (type(self), {**state, **models}, self._question)

    def _change(self, options: Mapping[str, Any]) -> None:
        given = _normalised({**self._given, **options}, type(self))
        previous = self._routing
        if not CLIENT_OPTIONS.isdisjoint(options):  # models that were built from a name are built anew
            previous = replace(previous, given={**previous.given, "strong": _NEVER, "weak": _NEVER})
        routing = _routing_of(given, previous)
        checked = copy.copy(self)
        shown = _shown(given, routing)
        try:
            for name, value in options.items():
                type(self).__pydantic_validator__.validate_assignment(
                    checked, name, shown.get(name, given.get(name, value))
                )
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from None
        self.__dict__.update({name: checked.__dict__[name] for name in options})
        self.__dict__.update(shown)
        self.__pydantic_fields_set__.update(options)
        self._take(given, routing)

    def _take(self, given: dict[str, Any], routing: Routing[LLM]) -> None:
        # What was built from saved values stays, whatever option changes later.
        loaded = {tier: routing.models[tier] for tier in routing.models if isinstance(given.get(tier), Mapping)}
        self._given = {**given, **loaded}
        self._routing = replace(routing, given={**routing.given, **loaded})
        self._settled = SettledQuestions(self.settle_seconds) if self.settle_seconds else None

    # Serialisation: plain values, without keys

    @field_serializer("strong", "weak")
    def _dump_model(self, model: LLM) -> dict[str, Any]:
        return dump_model(model)

    @field_serializer("router")
    def _dump_router(self, _router: Any) -> str:
        return self._routing.selector.router.name

    @field_serializer("threshold")
    def _dump_threshold(self, threshold: Any) -> Any:
        if self.strong_share is not None:
            return None
        return threshold if threshold is None or isinstance(threshold, (float, int, str)) else str(threshold)

    @field_serializer("model_kwargs")
    def _dump_model_kwargs(self, kwargs: dict[str, Any] | None) -> Any:
        return without_secrets(kwargs)

    @field_serializer("resilience")
    def _dump_resilience(self, policy: ResiliencePolicy | None) -> dict[str, Any] | None:
        return asdict(policy) if policy else None


_NEVER: Any = object()


def _normalised(options: Mapping[str, Any], owner: type[RouteLLM]) -> dict[str, Any]:
    """Return what was given, with settings as such."""
    check_option_names(options, owner.model_fields, subject=owner.__name__)
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("resilience"), Mapping):
        given["resilience"] = build_from_options(ResiliencePolicy, given["resilience"], subject="resilience")
    for tier in ("strong", "weak"):
        if isinstance(given.get(tier), Mapping) and "class_name" not in given[tier]:
            given[tier] = validated(ModelSettings, dict(given[tier]), subject=tier)
    return given


def _routing_of(given: Mapping[str, Any], previous: Routing[LLM] | None) -> Routing[LLM]:
    policy = given.get("resilience") or load_config().fallback.policy()
    options = {**given, "resilience": policy}
    routing = build_routing(
        given,
        build_model=lambda tier, spec: build_model(tier, spec, options),
        settings_of=settings_of,
        core_extract=core_extract,
        previous=previous,
    )
    check_settings(routing.models, given)
    return routing


def _shown(given: Mapping[str, Any], routing: Routing[LLM]) -> dict[str, Any]:
    """Return the fields that tell what the configuration filled in, and what names became."""
    shown: dict[str, Any] = {**routing.models, "resilience": routing.policy}
    if "selector" not in given:
        config = load_config()
        shown["router"] = routing.selector.router
        shown["sticky"] = given.get("sticky", config.sticky or False)
        for name in ("no_prompt_tier", "on_scoring_error"):
            shown[name] = given.get(name, getattr(config, name))
    return shown


def _is_picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever foreign code raises
        return False
    return True


def _rebuilt(owner: type[RouteLLM], options: dict[str, Any], question: str | None) -> RouteLLM:
    llm = owner(**options)
    return llm if question is None else llm.asking(question)
