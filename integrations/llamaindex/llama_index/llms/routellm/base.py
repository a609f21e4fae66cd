"""``RouteLLM``: a LlamaIndex LLM that sends each question to the strong or the weak model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.tools.types import BaseTool
from llama_index.llms.routellm.calls import RoutedCalls
from llama_index.llms.routellm.children import check_settings, common_metadata, configured, function_calling
from llama_index.llms.routellm.dispatch import Plan
from llama_index.llms.routellm.loading import dump_model, without_secrets
from llama_index.llms.routellm.options import build_turn_router, invalid, resolved
from llama_index.llms.routellm.stamps import chosen_tier, without_outer_stamp
from llama_index.llms.routellm.structured import RoutedStructuredLLM
from llama_index.llms.routellm.tool_calls import RoutedToolCalls
from llama_index.llms.routellm.turns import Turn, TurnRouter
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, field_serializer

from routellm_core.adapters import check_option_names
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import format_model_name
from routellm_core.types import RoutingDecision, Tier

__all__ = ["RouteLLM"]

_PROMPT_FUNCTIONS = ("messages_to_prompt", "completion_to_prompt")


class RouteLLM(RoutedCalls, RoutedToolCalls, FunctionCallingLLM):
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
        sticky: ``"conversation"`` keeps a conversation (by ``session=``, else by its opening question) on the strong
            model once it went there; False does not, whatever is configured.
        memory: the store for ``sticky``, to share it or to set its limits.
        settle_seconds: a question that comes again so soon keeps its model, so that a refine loop never changes it.
            Not with ``sticky`` or ``selector``, whose own rules hold.
        no_prompt_tier: the tier for messages without any user text, such as an image alone.
        on_scoring_error: where to go when scoring fails: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries of models built from a name, and whether the other model is asked when one fails.
        temperature, max_tokens: as on other LLMs; they apply to both models. So do ``system_prompt``,
            ``output_parser``, ``callback_manager`` and LlamaIndex's other settings of an LLM, where given.
        api_base, api_key, timeout, max_retries, context_window, model_kwargs: for the models built from a name; an LLM
            that was given keeps its own.

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
    sticky: Literal["conversation", False] | None = None
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

    _turn_router: TurnRouter = PrivateAttr()
    _question: str | None = PrivateAttr(default=None)
    _given_prompt_functions: frozenset[str] = PrivateAttr(default=frozenset())

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        # Before pydantic's validation, which would wrap the library's errors in its own.
        given = {"router": router, "threshold": threshold, **options}
        check_option_names(given, type(self).model_fields, subject=type(self).__name__)
        ready = resolved(given)
        try:
            super().__init__(**ready)
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from None  # pydantic's own text may quote a key
        self._turn_router = build_turn_router(ready)
        self._given_prompt_functions = frozenset(name for name in _PROMPT_FUNCTIONS if name in ready)
        check_settings(self._turn_router.pair, self.strong, self.weak, ready)

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
        name = self._turn_router.selector.router.name
        threshold = self._effective_threshold
        return f"router-{name}" if threshold is None else format_model_name(name, threshold)

    def decide(self, question: str | Sequence[ChatMessage], **routing: Any) -> RoutingDecision:
        """Return the decision for a question or for messages without calling a model.

        Args:
            question: the question, or a conversation that ends with it.
            **routing: ``model`` and ``session``, as in a call.

        Raises:
            RoutingError: it cannot be routed.
        """
        if isinstance(question, str):
            return self._turn_router.select(Turn((), question, **routing))
        return self._turn_router.select(self._turn(Turn(question, **routing)))

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
        model = self._model(chosen_tier(response) or "strong")
        reader = function_calling(model, self._turn_router.pair.strong)
        return reader.get_tool_calls_from_response(
            without_outer_stamp(response), error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )

    def _check_tools(self) -> None:
        for tier in ("strong", "weak"):  # both at once: a mistake should not wait for the other tier's turn
            function_calling(getattr(self, tier), getattr(self._turn_router.pair, tier))

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
        model = function_calling(self._model("strong"), self._turn_router.pair.strong)
        return model._prepare_chat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    # What the calls need

    @property
    def given_prompt_functions(self) -> frozenset[str]:
        """Which of the functions between messages and prompts were given, and so apply to both models."""
        return self._given_prompt_functions

    @property
    def _effective_threshold(self) -> Any:
        own = self._turn_router.threshold
        return self._turn_router.selector.threshold if own is None else own

    @property
    def _is_sticky(self) -> bool:
        return self._turn_router.is_sticky

    def _model(self, tier: Tier) -> LLM:
        return configured(self.strong if tier == "strong" else self.weak, self)

    def _turn(self, turn: Turn) -> Turn:
        return turn if self._question is None else replace(turn, question=self._question)

    def _plan(self, turn: Turn) -> Plan:
        has_fallback = self.resilience is None or self.resilience.fallback
        return Plan(
            turn_router=self._turn_router,
            turn=self._turn(turn),
            model=self._model,
            has_fallback=has_fallback and self.strong is not self.weak,
            rate_limiter=getattr(self, "rate_limiter", None),  # younger than llama-index-core 0.13
        )

    # Serialisation: plain values, without keys

    @field_serializer("strong", "weak")
    def _dump_model(self, model: LLM) -> dict[str, Any]:
        return dump_model(model)

    @field_serializer("router")
    def _dump_router(self, _router: Any) -> str:
        return self._turn_router.selector.router.name

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
