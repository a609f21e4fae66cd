"""The two models of a pair: each is a ``dspy.LM``, and has the engines that a routing engine calls.

A routing engine delegates to child *engines*, not to child LMs: those would count history and usage a second time and
retry within a retry.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.clients.engines import AsyncLiteLLMEngine, AsyncLM15Engine, LiteLLMEngine, LM15Engine
from dspy.lm15 import Config, LM15Error, Request, RouterConfig, UnsupportedFeatureError, request_from_openai_chat

from routellm_core import ModelSettings
from routellm_core._options import validated
from routellm_core.errors import ConfigError
from routellm_core.pricing import Price, price_of
from routellm_core.providers.litellm import import_litellm
from routellm_core.types import Tier

__all__ = ["ChildModel", "build_child"]

_CLIENT_OPTIONS = frozenset(
    {
        "api_key", "api_base", "base_url", "api_version", "organization", "project", "headers", "extra_headers",
        "extra_query", "timeout", "azure_ad_token_provider", "custom_llm_provider",
    }
)  # fmt: skip
# Owned by the LM that calls, not by the model that answers.
_CALL_CONTROL = frozenset({"n", "num_generations", "rollout_id", "prompt_cache", "num_retries", "cache"})
_SECRETS = ("api_key", "azure_ad_token_provider")


class ChildModel:
    """One model: its ``dspy.LM`` for programs, its engines for the router.

    Args:
        lm: how the model is reached; its generation settings are defaults of each call.
        price: what it costs, where the price map does not know it.

    Attributes:
        lm: the same.
        name: the model's name, as decisions tell it.
    """

    def __init__(self, lm: dspy.LM, price: Price | None = None) -> None:
        self.lm = lm
        self.name: str = lm.model
        self._own_price = price
        self._lock = threading.Lock()
        self._engines: dict[bool, Any] = {}
        self._loop_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    @property
    def price(self) -> Price | None:
        """Dollars per token, or None where unknown."""
        return self._own_price or price_of(self.name)

    @property
    def generation(self) -> dict[str, Any]:
        """The model's own generation settings (temperature …), by OpenAI's names."""
        skipped = _CLIENT_OPTIONS | _CALL_CONTROL
        return {key: value for key, value in self.lm.kwargs.items() if key not in skipped and value is not None}

    def request(self, request: Request) -> Request:
        """Return the request as this model gets it: its name, and its defaults where the caller set nothing."""
        config = request.config
        unset = {
            field.name: getattr(self._defaults, field.name)
            for field in fields(Config)
            if field.name != "extensions" and getattr(config, field.name) in (None, ())
        }
        extensions = {**(self._defaults.extensions or {}), **(config.extensions or {})}
        return replace(request, model=self.name, config=replace(config, **unset, extensions=extensions or None))

    def engine(self) -> Any:
        """Return the engine that makes one synchronous attempt."""
        return self._built(is_async=False)

    def async_engine(self) -> Any:
        """Return the asynchronous one.

        Raises:
            UnsupportedFeatureError: the model's LM has a custom engine without an asynchronous twin.
        """
        return self._built(is_async=True)

    def supports(self, ability: str) -> Any:
        """Return one of the LM's ``supports_…`` flags or its ``supported_params``."""
        if isinstance(self.lm.engine, str):
            import_litellm()  # DSPy looks the model up there; its own import would ask the network for a price map
        return getattr(self.lm, ability)

    def without_secrets(self) -> ChildModel:
        """Return a copy that may be written to a file: keys are left to the environment."""
        present = {name: None for name in _SECRETS if name in self.lm.kwargs}
        return ChildModel(self.lm.copy(**present) if present else self.lm, self._own_price)

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` rebuilds the model from, without keys.

        Raises:
            TypeError: the LM has a custom engine that cannot be saved.
        """
        prices = {} if self._own_price is None else vars_of(self._own_price)
        return {"lm": self.without_secrets().lm.dump_state(), "price": prices}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> ChildModel:
        """Rebuild a saved model. The state must be trusted, as DSPy has it for every custom class."""
        price = Price(**state["price"]) if state.get("price") else None
        return cls(dspy.BaseLM.load_state(state["lm"], allow_custom_lm_class=True), price)

    def __getstate__(self) -> dict[str, Any]:
        child = self.without_secrets()
        return {"lm": child.lm, "price": self._own_price}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["lm"], state["price"])  # type: ignore[misc]

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

    def _built(self, *, is_async: bool) -> Any:
        spec = self.lm.engine
        if not isinstance(spec, str):
            engine = getattr(self.lm, "_async_engine_spec", None) if is_async else spec
            if engine is None:
                raise UnsupportedFeatureError(f"{self.name} has a custom engine without async_engine=")
            return engine
        with self._lock:
            if spec == "lm15" and is_async:  # its connections belong to the running event loop
                loop = asyncio.get_running_loop()
                if loop not in self._loop_engines:
                    self._loop_engines[loop] = self._lm15(AsyncLM15Engine)
                return self._loop_engines[loop]
            if is_async not in self._engines:
                self._engines[is_async] = self._lm15(LM15Engine) if spec == "lm15" else self._litellm(is_async)
            return self._engines[is_async]

    def _litellm(self, is_async: bool) -> Any:
        import_litellm()
        engine = AsyncLiteLLMEngine if is_async else LiteLLMEngine
        return engine(model_type=self.lm.model_type, **self._client())

    def _lm15(self, engine: Any) -> Any:
        client = self._client()
        url = client.get("api_base") or client.get("base_url")
        provider = engine(RouterConfig(env={}), model_type=self.lm.model_type).resolve(self.name).provider
        config = RouterConfig(
            api_keys={provider: client["api_key"]} if "api_key" in client else None,
            base_urls={provider: url} if url else None,
        )
        return engine(config, model_type=self.lm.model_type)

    def _client(self) -> dict[str, Any]:
        given = self.lm.kwargs
        return {key: given[key] for key in _CLIENT_OPTIONS if given.get(key) is not None}


def vars_of(price: Price) -> dict[str, float]:
    """Return a price as plain values."""
    return {"input_cost_per_token": price.input_cost_per_token, "output_cost_per_token": price.output_cost_per_token}


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
    has_price = spec.input_cost_per_token is not None and spec.output_cost_per_token is not None
    # litellm knows every provider that the rest of RouteLLM knows, by the same names.
    lm = dspy.LM(spec.model, engine="litellm", **given)
    return ChildModel(lm, price_of(spec) if has_price else None)
