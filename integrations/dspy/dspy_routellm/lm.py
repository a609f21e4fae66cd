"""``RouteLLM``: a ``dspy.LM`` that decides for each call which of two models answers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import dspy
from dspy.utils.callback import BaseCallback

from dspy_routellm.children import CallOptions
from dspy_routellm.engine import AsyncRoutingEngine, RoutingEngine, call_options
from dspy_routellm.fields import ExtractFromRequest
from dspy_routellm.routing import CLIENT_OPTIONS, ROUTING_OPTIONS, Routing
from dspy_routellm.stamps import routing_of
from dspy_routellm.usage import attributed_usage, cost_of
from routellm_core import Router
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.calibration import CalibrationSource
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.types import RoutingDecision, Tier

__all__ = ["RouteLLM"]

_GENERATION_OPTIONS = (
    "top_p", "top_k", "stop", "seed", "n", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty",
    "logit_bias", "user", "service_tier", "store", "reasoning_effort", "response_format", "parallel_tool_calls",
    "rollout_id", "prompt_cache",
)  # fmt: skip
_STATE_KEY = "routing"


class RouteLLM(dspy.LM):
    """A ``dspy.LM`` over two models; everything that takes an LM takes it.

    ::

        dspy.configure(lm=RouteLLM(router="mf", threshold=0.116, strong="openai/gpt-5.4", weak="openai/gpt-5.4-nano"))

    What is left out comes from RouteLLM's configuration (``ROUTELLM_CONFIG``, the environment, the defaults).

    Args:
        router: a router's name, or a router.
        threshold: in [0, 1]; a call whose score reaches it goes to the strong model. ``"50%"`` takes the threshold that
            sends half of the calibrated traffic there.
        strong_share: another way to say ``threshold="50%"``: 0.5.
        calibration: one's own traffic, or the file of it; see :class:`routellm_core.ModelSelector`.
        strong: the strong model: a litellm name, its settings (:class:`routellm_core.ModelSettings` or a mapping with
            base URL, key …), or a ``dspy.LM``, whose own engine is then used.
        weak: likewise the weak model.
        route_fields: input fields to route on, such as ``["question"]``. By default all of the signature's that hold
            text. A predictor that has none of the fields named here is routed on all of its own.
        extract: a function from ``dspy.lm15.Request`` to the text to route on, in place of the fields.
        no_prompt_tier: the tier of a call without any text, such as an image alone.
        on_scoring_error: where to go when the score cannot be computed: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: attempts of a model, then fallback to the other one. ``num_retries`` starts all that again.
        api_base: base URL for the models that have none of their own (a ``dspy.LM`` has).
        api_key: key, likewise.
        timeout: seconds for one call, likewise.
        temperature: of each call.
        max_tokens: of each call.
        cache: keep answers in DSPy's cache. Its key holds the router, its threshold and both models.
        callbacks: DSPy's callbacks.
        num_retries: DSPy's own retries; none by default, for ``resilience`` retries.
        **generation: OpenAI's other parameters of each call (``top_p``, ``seed``, ``stop`` …). What only one model
            takes belongs into that model's ``ModelSettings.extra``.

    Raises:
        ConfigError: an unknown option, or one of a wrong type or value.
        UnknownRouterError: a router that is not registered.
        InvalidThresholdError: a threshold or share out of range.
        CalibrationError: a calibration for another router or checkpoint.
    """

    def __init__(
        self,
        router: Router | str | None = None,
        threshold: float | str | None = None,
        *,
        strong_share: float | None = None,
        calibration: CalibrationSource | None = None,
        strong: Any = None,
        weak: Any = None,
        route_fields: list[str] | tuple[str, ...] | None = None,
        extract: ExtractFromRequest | None = None,
        no_prompt_tier: Tier | None = None,
        on_scoring_error: str | None = None,
        resilience: ResiliencePolicy | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        cache: bool = True,
        callbacks: list[BaseCallback] | None = None,
        num_retries: int = 0,
        **generation: Any,
    ) -> None:
        _check_names(generation)
        routing = Routing(
            {
                "router": router,
                "threshold": threshold,
                "strong_share": strong_share,
                "calibration": calibration,
                "strong": strong,
                "weak": weak,
                "route_fields": route_fields,
                "extract": extract,
                "no_prompt_tier": no_prompt_tier,
                "on_scoring_error": on_scoring_error,
                "resilience": resilience,
                "api_base": api_base,
                "api_key": api_key,
                "timeout": timeout,
                "temperature": temperature,
                "max_tokens": max_tokens,
            }
        )
        self._start(routing, temperature, max_tokens, cache, callbacks, num_retries, generation)

    def _start(
        self,
        routing: Routing,
        temperature: float | None,
        max_tokens: int | None,
        cache: bool,
        callbacks: list[BaseCallback] | None,
        num_retries: int,
        generation: Mapping[str, Any],
    ) -> None:
        super().__init__(
            routing.model_name,
            temperature=temperature,
            max_tokens=max_tokens,
            cache=cache,
            callbacks=callbacks,
            num_retries=num_retries,
            engine=RoutingEngine(routing),
            async_engine=AsyncRoutingEngine(routing),
            **generation,
        )

    @property
    def routing(self) -> Routing:
        """The router, the models and the policy; shared by all copies."""
        routing: Routing = self.engine.routing
        return routing

    @property
    def threshold(self) -> float:
        """The threshold in [0, 1]."""
        return self.routing.threshold

    @property
    def strong_lm(self) -> dspy.LM:
        """The strong model as an LM of its own."""
        return self.routing.models["strong"].lm

    @property
    def weak_lm(self) -> dspy.LM:
        """The weak model as an LM of its own."""
        return self.routing.models["weak"].lm

    @property
    def model_counts(self) -> dict[str, int]:
        """Answers per model so far, of this LM and its copies; those from DSPy's cache are not counted.

        :func:`dspy_routellm.calls_by_model` counts a history instead.
        """
        return dict(self.routing.counts)

    def decide(self, text: str) -> RoutingDecision:
        """Return the decision for a text, without calling a model."""
        return self.routing.select(text)

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Decide, and answer as any ``dspy.LM`` does."""
        with _options_of(kwargs), attributed_usage():
            return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Decide and answer without blocking the event loop."""
        with _options_of(kwargs), attributed_usage():
            return await super().acall(prompt, messages=messages, **kwargs)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Record a call, with its decision as ``entry["routing"]`` and what it cost."""
        decision = routing_of(entry)
        if decision is not None:
            cost = cost_of(entry["response"], self.routing.prices())
            entry = {**entry, _STATE_KEY: decision}
            if cost is not None:
                entry = {**entry, "cost": cost, "cost_details": {"kind": "estimate", "currency": "USD"}}
        super().update_history(entry)

    def copy(
        self, *, threshold: float | str | None = None, strong_share: float | None = None, **kwargs: Any
    ) -> RouteLLM:
        """Return a copy over the same router and models.

        Args:
            threshold: another threshold for the copy, as in the constructor.
            strong_share: likewise.
            **kwargs: DSPy's: call parameters (``temperature``, ``rollout_id`` …) and attributes.

        Raises:
            InvalidThresholdError: out of range, or given in two ways.
        """
        given = {"threshold": threshold, "strong_share": strong_share}
        options = {name: value for name, value in given.items() if value is not None}
        options |= {name: kwargs.pop(name) for name in ROUTING_OPTIONS if name in kwargs}
        copied: RouteLLM = super().copy(**kwargs)
        if options:
            copied._adopt(self.routing.changed(**options))
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an option of the routing (``lm.threshold = 0.3``, ``lm.weak = …``) takes effect at once.

        Raises:
            RouteLLMError: the option is mistyped, out of range or contradictory; nothing has changed then.
        """
        option = name.removesuffix("_lm")
        if option in ROUTING_OPTIONS and "_engine_spec" in self.__dict__:
            self._adopt(self.routing.changed(**{option: value}))
        else:
            super().__setattr__(name, value)

    def _adopt(self, routing: Routing) -> None:
        self._engine_spec = RoutingEngine(routing)
        self._async_engine_spec = AsyncRoutingEngine(routing)
        self.model = routing.model_name

    def dump_state(self) -> dict[str, Any]:
        """Return a JSON-ready state without keys; DSPy's ``program.save`` writes it.

        Loading it takes ``allow_unsafe_lm_state=True``, as every class that is not DSPy's own does. Keys come from the
        environment then.

        Raises:
            TypeError: something of it cannot be written; see :meth:`Routing.dump_state`.
        """
        state: dict[str, Any] = dspy.BaseLM.dump_state(self)
        for implied in ("model", "model_type"):
            state.pop(implied)
        if state.get("prompt_cache") is not None:
            raise TypeError("prompt_cache cannot be saved; set it after loading with lm.copy(prompt_cache=...)")
        return {**state, _STATE_KEY: self.routing.dump_state()}

    @classmethod
    def load_state(cls, state: Mapping[str, Any], *, allow_custom_lm_class: bool = False) -> Self:
        """Rebuild a saved LM.

        Raises:
            ValueError: ``allow_custom_lm_class`` is not given: the state names code to import.
        """
        if not allow_custom_lm_class:
            raise ValueError(
                "loading a RouteLLM imports the classes that its state names; pass allow_unsafe_lm_state=True"
            )
        options = {key: value for key, value in state.items() if key != "_dspy_lm_class"}
        routing = Routing.load_state(options.pop(_STATE_KEY))
        loaded = cls.__new__(cls)
        arguments = [options.pop(name, default) for name, default in _SAVED_ARGUMENTS]
        temperature, max_tokens, cache, num_retries = arguments
        loaded._start(routing, temperature, max_tokens, cache, None, num_retries, options)
        return loaded


_SAVED_ARGUMENTS = (("temperature", None), ("max_tokens", None), ("cache", True), ("num_retries", 0))


def _check_names(generation: Mapping[str, Any]) -> None:
    allowed = (
        *ROUTING_OPTIONS, *CLIENT_OPTIONS, "cache", "callbacks", "num_retries", *_GENERATION_OPTIONS,
    )  # fmt: skip
    for option in generation:
        if option not in _GENERATION_OPTIONS:
            raise ConfigError(
                f"RouteLLM has no option {option!r}; its options are {', '.join(sorted(allowed))}. A parameter of one "
                f"model's own belongs into its settings: {{'model': …, 'extra': {{{option!r}: …}}}}."
                f"{did_you_mean(option, allowed)}"
            )


_PER_CALL = ("timeout", "headers", "extra_headers", "extra_query")


@contextmanager
def _options_of(kwargs: dict[str, Any]) -> Iterator[None]:
    """Take out of a call's arguments what DSPy does not hand to an engine, and hold it ready for ours.

    An answer to such a call is not kept, for DSPy's cache would not tell it from others; a time limit changes nothing.
    """
    client = {name: kwargs.pop(name) for name in _PER_CALL if kwargs.get(name) is not None}
    body = dict(kwargs.pop("extra_body", None) or {})
    tools = kwargs.get("tools") or ()
    if any(isinstance(tool, Mapping) and tool.get("type") != "function" for tool in tools):
        body["tools"] = list(kwargs.pop("tools"))  # hosted ones, which the provider runs itself
    if body or client.keys() - {"timeout"}:
        kwargs["cache"] = False
    token = call_options.set(CallOptions(client, body))
    try:
        yield
    finally:
        call_options.reset(token)
