"""The two models of a pair: each is a ``dspy.LM``, and has the engines that a routing engine calls.

A routing engine delegates to the engine that the LM itself would use (lm15 or litellm, a custom one, or a subclass's
own ``forward``), not to the LM: that would count history and usage a second time and retry within a retry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import dspy
from dspy.clients import execution
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.clients.engines import AsyncLiteLLMEngine, LiteLLMEngine
from dspy.lm15 import (
    Config,
    LM15Error,
    Request,
    Response,
    UnsupportedFeatureError,
    request_from_openai_chat,
    response_to_events,
)
from dspy.utils.exceptions import LMUnsupportedFeatureError

from routellm_core import ModelSettings
from routellm_core._options import validated
from routellm_core.errors import ConfigError
from routellm_core.pricing import Price, price_of
from routellm_core.providers.litellm import import_litellm
from routellm_core.types import Tier

__all__ = ["NO_OPTIONS", "CallOptions", "ChildModel", "build_child"]

# Owned by the LM that calls, not by the model that answers.
_CALL_CONTROL = frozenset({"n", "num_generations", "rollout_id", "prompt_cache", "num_retries", "cache"})
_SECRETS = ("api_key", "azure_ad_token_provider")


@dataclass(frozen=True)
class CallOptions:
    """What a single call says beside its request.

    Attributes:
        client: of the connection: ``timeout``, ``extra_headers`` …
        body: further parameters, as the provider names them: ``extra_body``, hosted tools.
    """

    client: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


NO_OPTIONS = CallOptions()


class ChildModel:
    """One model: its ``dspy.LM`` for programs, its engine for the router.

    Args:
        lm: how the model is reached; its generation settings are defaults of each call.
        settings: what else is known of it, such as its prices and its window.

    Attributes:
        lm: the same.
        settings: what is known of the model.
        name: the model's name, as decisions tell it.
    """

    def __init__(self, lm: dspy.LM, settings: ModelSettings | None = None) -> None:
        self.lm = lm
        self.name: str = lm.model
        limit = lm.kwargs.get("timeout")
        known = {"timeout": limit} if isinstance(limit, (int, float)) and limit > 0 else {}
        self.settings = settings or ModelSettings(model=self.name, **known)

    @property
    def price(self) -> Price | None:
        """Dollars per token, or None where unknown."""
        return price_of(self.settings)

    @property
    def generation(self) -> dict[str, Any]:
        """The model's own generation settings (temperature …), by OpenAI's names."""
        skipped = CLIENT_KEYS | _CALL_CONTROL
        return {key: value for key, value in self.lm.kwargs.items() if key not in skipped and value is not None}

    def complete(self, request: Request, options: CallOptions = NO_OPTIONS) -> Response:
        """Make one attempt.

        Raises:
            LM15Error: the model failed.
            LMError: likewise, where the LM has a ``forward`` of its own.
        """
        engine, request = self._engine(request, options, is_async=False)
        answer: Response = engine.complete(request)
        return answer

    async def acomplete(self, request: Request, options: CallOptions = NO_OPTIONS) -> Response:
        """Make one attempt without blocking the event loop.

        Raises:
            LMUnsupportedFeatureError: the model's LM has a custom engine without an asynchronous twin.
        """
        engine, request = self._engine(request, options, is_async=True)
        answer: Response = await engine.complete(request)
        return answer

    def stream(self, request: Request, options: CallOptions = NO_OPTIONS) -> Iterator[Any]:
        """Stream one attempt; an LM with a ``forward`` of its own, which cannot, answers in one piece."""
        engine, request = self._engine(request, options, is_async=False)
        try:
            events = iter(engine.stream(request))
        except (LMUnsupportedFeatureError, UnsupportedFeatureError):
            events = iter(response_to_events(engine.complete(request)))
        return events

    async def astream(self, request: Request, options: CallOptions = NO_OPTIONS) -> AsyncIterator[Any]:
        """Do as :meth:`stream` does, without blocking the event loop."""
        engine, request = self._engine(request, options, is_async=True)
        try:
            events = aiter(engine.stream(request))
        except (LMUnsupportedFeatureError, UnsupportedFeatureError):
            for event in response_to_events(await engine.complete(request)):
                yield event
            return
        try:
            async for event in events:
                yield event
        finally:
            if hasattr(events, "aclose"):
                await events.aclose()

    def _engine(self, request: Request, options: CallOptions, *, is_async: bool) -> tuple[Any, Request]:
        """Return the engine that the LM would call, and the request as it would call it with."""
        lm = self.lm.copy(**options.client) if options.client else self.lm
        own = self._own_request(request, options.body)
        call = execution.prepare(lm, own, None, {"cache": False}, asynchronous=is_async)
        engine, canonical, _ = execution._engine(lm, call, is_async)
        if isinstance(engine, (LiteLLMEngine, AsyncLiteLLMEngine)):
            import_litellm()  # with its price map from the package; DSPy's own import would ask the internet
        return engine, canonical or own

    def _own_request(self, request: Request, body: Mapping[str, Any]) -> Request:
        """Return the request as this model gets it: its name, and its defaults where the caller set nothing."""
        config = request.config
        unset = {
            field.name: getattr(self._defaults, field.name)
            for field in fields(Config)
            if field.name != "extensions" and getattr(config, field.name) in (None, ())
        }
        extensions = {**(self._defaults.extensions or {}), **(config.extensions or {}), **body}
        return replace(request, model=self.name, config=replace(config, **unset, extensions=extensions or None))

    def supports(self, ability: str) -> Any:
        """Return one of the LM's ``supports_…`` flags or its ``supported_params``."""
        if self.lm.engine in ("auto", "litellm"):
            import_litellm()  # DSPy looks the model up there; its own import would ask the network for a price map
        return getattr(self.lm, ability)

    def without_secrets(self) -> ChildModel:
        """Return a copy that may be written to a file: keys are left to the environment."""
        present = {name: None for name in _SECRETS if name in self.lm.kwargs}
        return ChildModel(
            self.lm.copy(**present) if present else self.lm, self.settings.model_copy(update={"api_key": None})
        )

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` rebuilds the model from, without keys.

        Raises:
            TypeError: the LM has a custom engine that cannot be saved.
        """
        # How it is reached, the LM knows.
        known = self.settings.model_dump(mode="json", exclude={"api_key", "api_base", "extra"}, exclude_unset=True)
        return {"lm": self.without_secrets().lm.dump_state(), "settings": known}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> ChildModel:
        """Rebuild a saved model. The state must be trusted, as DSPy has it for every custom class."""
        settings = ModelSettings(**state["settings"]) if "settings" in state else None
        return cls(dspy.BaseLM.load_state(state["lm"], allow_custom_lm_class=True), settings)

    def __getstate__(self) -> dict[str, Any]:
        child = self.without_secrets()
        return {"lm": child.lm, "settings": child.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["lm"], state["settings"])  # type: ignore[misc]

    @cached_property
    def _defaults(self) -> Config:
        body: dict[str, Any] = {"model": "defaults", "messages": [{"role": "user", "content": "."}]}
        passed: dict[str, Any] = {}
        config = Config()
        for key, value in self.generation.items():
            try:
                config = request_from_openai_chat({**body, key: value}).config
            except LM15Error:  # a parameter of this provider alone, which no canonical field carries
                passed[key] = value
            else:
                body[key] = value
        config = request_from_openai_chat(body).config
        return replace(config, extensions={**(config.extensions or {}), **passed} or None)


def build_child(tier: Tier, spec: Any, **shared: Any) -> ChildModel:
    """Return the model that ``spec`` describes.

    Args:
        tier: for errors.
        spec: a litellm model name, model settings (as an object or a mapping), or a ``dspy.LM``, which is taken as it
            is with its own engine.
        **shared: ``api_base``, ``api_key``, ``timeout``, ``temperature`` and ``max_tokens`` for a model that has none
            of its own; a ``dspy.LM`` has its own.

    Raises:
        ConfigError: anything else, or settings that do not fit.
    """
    if isinstance(spec, ChildModel):
        return spec
    if isinstance(spec, dspy.LM):
        return ChildModel(spec)
    if isinstance(spec, Mapping):
        spec = validated(ModelSettings, dict(spec), subject=tier)
    elif isinstance(spec, str) and spec.strip():
        spec = ModelSettings(model=spec)
    if not isinstance(spec, ModelSettings):
        got = "an empty name" if isinstance(spec, str) else type(spec).__name__
        raise ConfigError(
            f"{tier} must be a litellm model name such as 'openai/gpt-5.4', a dspy.LM, or routellm_core.ModelSettings, "
            f"got {got}"
        )
    settings = {
        "api_base": spec.api_base,
        "api_key": spec.api_key.get_secret_value() if spec.api_key else None,
        "timeout": spec.timeout if "timeout" in spec.model_fields_set else None,
        **spec.extra,
    }
    options = {**shared, **{key: value for key, value in settings.items() if value is not None}}
    given = {key: value for key, value in options.items() if value is not None}
    # litellm knows every provider that the rest of RouteLLM knows, by the same names.
    lm = dspy.LM(spec.model, engine="litellm", **given)
    return ChildModel(lm, spec)
