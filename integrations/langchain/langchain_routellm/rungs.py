"""The two models as a router holds them: built from a name or given, each with the router's own settings.

A name becomes the provider's own LangChain model where the package for that is installed, and litellm's otherwise; see
:func:`built_from`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable

from langchain_routellm.litellm_chat import LiteLLMChat, profile_of
from routellm_core import ModelSettings
from routellm_core._options import validated
from routellm_core.adapters import Routing
from routellm_core.errors import ConfigError
from routellm_core.types import Tier

__all__ = [
    "CLIENT_SETTINGS",
    "Rung",
    "base_model",
    "build_rung",
    "built_from",
    "common_profile",
    "configured",
    "is_named",
    "mapped",
    "name_of",
    "routes_itself",
    "rung_profile",
    "settings_of",
]

logger = logging.getLogger(__name__)

Rung = Runnable[Any, Any]
"""A chat model, or a runnable around one: with fallbacks, retries, bound arguments."""

_CALL_SETTINGS = ("temperature", "max_tokens", "streaming")
CLIENT_SETTINGS = ("api_base", "api_key", "timeout", "max_retries", "model_kwargs")
"""Options of a router that belong to a model's client: they reach the models that it builds from a name."""

_PACKAGES = {
    # litellm's provider: init_chat_model's, and the package that it needs
    "openai": ("openai", "langchain_openai"),
    "anthropic": ("anthropic", "langchain_anthropic"),
    "gemini": ("google_genai", "langchain_google_genai"),
    "mistral": ("mistralai", "langchain_mistralai"),
    "groq": ("groq", "langchain_groq"),
    "deepseek": ("deepseek", "langchain_deepseek"),
    "xai": ("xai", "langchain_xai"),
    "ollama": ("ollama", "langchain_ollama"),
    "ollama_chat": ("ollama", "langchain_ollama"),
}
# What only the core and litellm understand of a model's settings.
_OWN_SETTINGS = frozenset({"extra", "drop_params", "rename_params", "drop_message_fields", "relay", "connect_timeout"})


# --- built from a name ------------------------------------------------------------------------------------------------


def build_rung(tier: Tier, spec: Any, options: Mapping[str, Any]) -> Rung:
    """Return the model for ``strong=`` or ``weak=``.

    Args:
        tier: which of them, for errors.
        spec: a name, settings, a chat model, or a runnable around one.
        options: what the router was given beside.

    Raises:
        ConfigError: none of these, or a setting of the router's that the model does not have.
    """
    if isinstance(spec, Mapping):
        spec = validated(ModelSettings, dict(spec), subject=tier)
    if isinstance(spec, str) and spec.strip():
        spec = ModelSettings(model=spec)
    if isinstance(spec, ModelSettings):
        return _built(spec, options)
    if isinstance(spec, Runnable) and base_model(spec) is not None:
        mapped(spec, lambda model: _checked(tier, model, options))
        return spec
    got = "an empty name" if isinstance(spec, str) else type(spec).__name__
    raise ConfigError(
        f"{tier} must be a litellm model name such as 'openai/gpt-5.4', a LangChain chat model (bound, with retries or "
        f"with fallbacks as well), or routellm_core.ModelSettings, got {got}"
    )


def built_from(settings: ModelSettings) -> tuple[str, str] | None:
    """Return ``init_chat_model``'s provider and the package for a model's name; None where litellm calls it.

    The rule: the provider's own LangChain package, where it and ``langchain`` are installed and the settings say
    nothing that only litellm or the core understands (``extra``, ``drop_params``, ``rename_params`` …).
    """
    provider, slash, _ = settings.model.partition("/")
    known = _PACKAGES.get(provider) if slash else None
    if known is None or settings.model_fields_set & _OWN_SETTINGS:
        return None
    return known if find_spec("langchain") and find_spec(known[1]) else None


def _built(settings: ModelSettings, options: Mapping[str, Any]) -> BaseChatModel:
    given = {name: options[name] for name in CLIENT_SETTINGS if options.get(name) is not None}
    own: dict[str, Any] = {"api_base": settings.api_base, "api_key": settings.api_key}
    own["timeout"] = settings.timeout if "timeout" in settings.model_fields_set else None
    client = {**given, **{name: value for name, value in own.items() if value is not None}}
    model = _native(settings, client)
    if model is None:
        policy = options.get("resilience")
        model = LiteLLMChat.from_settings(settings, policy)
        updates = {name: value for name, value in client.items() if getattr(model, name) is None}
        model = model.model_copy(update={**updates, "max_retries": 0})  # the router's loop asks again
    known = {**(model.profile or {}), **profile_of(settings, is_explicit=True)}
    return model if known == (model.profile or {}) else model.model_copy(update={"profile": known})


def _native(settings: ModelSettings, client: Mapping[str, Any]) -> BaseChatModel | None:
    if (found := built_from(settings)) is None:
        return None
    from langchain.chat_models import init_chat_model

    provider, package = found
    arguments = {**client, "max_retries": 0}  # the router's loop asks again
    parameters = arguments.pop("model_kwargs", None) or {}
    if "api_base" in arguments:
        arguments["base_url"] = arguments.pop("api_base")
    if provider == "openai":
        arguments["stream_usage"] = True  # with a base URL of one's own it would not be asked for
    try:
        model = init_chat_model(settings.model.partition("/")[2], model_provider=provider, **arguments)
    except Exception as error:  # most often a key that is not there yet; litellm looks for it at each call
        logger.info("%s goes through litellm: %s refused its settings (%s)", settings.model, package, error)
        return None
    fields = {name: value for name, value in parameters.items() if name in type(model).model_fields}
    others = {name: value for name, value in parameters.items() if name not in fields}
    return model.model_copy(update={**fields, **({"model_kwargs": others} if others else {})})


def is_named(spec: Any) -> bool:
    """Return whether a model was built here, from a name."""
    return not isinstance(spec, Runnable)


def settings_of(spec: Any, rung: Rung) -> ModelSettings:
    """Tell the core what is known of a model: its name and limits."""
    if isinstance(spec, Mapping):
        return validated(ModelSettings, dict(spec), subject="model")
    if isinstance(spec, ModelSettings):
        return spec
    if isinstance(spec, str):
        return ModelSettings(model=spec)
    profile: Mapping[str, Any] = rung_profile(rung) or {}
    inputs = {"image": "image_inputs", "audio": "audio_inputs", "file": "pdf_inputs", "video": "video_inputs"}
    is_told = all(key in profile for key in inputs.values())
    return ModelSettings(
        model=name_of(rung),
        context_window=profile.get("max_input_tokens") or None,
        max_output_tokens=profile.get("max_output_tokens") or None,
        modalities=tuple(name for name, key in inputs.items() if profile[key]) if is_told else None,  # type: ignore[literal-required,arg-type]
        tools=profile.get("tool_calling"),
        json_schema=profile.get("structured_output"),
    )


def name_of(rung: Rung) -> str:
    """Return the name that a model reports to tracing, or its class's name."""
    model = base_model(rung)
    if model is None:
        return rung.get_name()
    return str(model._get_ls_params().get("ls_model_name") or type(model).__name__)


# --- runnables around a model -----------------------------------------------------------------------------------------


def mapped(rung: Rung, change: Callable[[BaseChatModel], Rung]) -> Rung:
    """Return a rung with each chat model in it changed, and what is around them kept."""
    if isinstance(rung, BaseChatModel):
        return change(rung)
    if isinstance(rung, RunnableWithFallbacks):
        spares = [mapped(spare, change) for spare in rung.fallbacks]
        return rung.model_copy(update={"runnable": mapped(rung.runnable, change), "fallbacks": spares})
    if isinstance(rung, RunnableBindingBase):  # with_retry and with_config too
        return rung.model_copy(update={"bound": mapped(rung.bound, change)})
    if isinstance(rung, DynamicRunnable):
        return rung.model_copy(update={"default": mapped(rung.default, change)})
    return rung


def base_model(rung: Any) -> BaseChatModel | None:
    """Return the chat model that is asked first within a rung; None where there is none."""
    for _ in range(32):
        if isinstance(rung, BaseChatModel):
            return rung
        names = {RunnableWithFallbacks: "runnable", RunnableBindingBase: "bound", DynamicRunnable: "default"}
        name = next((field for kind, field in names.items() if isinstance(rung, kind)), None)
        if name is None:
            return None
        rung = getattr(rung, name)
    return None


def routes_itself(rung: Rung) -> bool:
    """Return whether a rung is, or holds, a router of this library."""
    found: list[bool] = []

    def look(model: BaseChatModel) -> BaseChatModel:
        found.append(isinstance(getattr(model, "routing", None), Routing))
        return model

    mapped(rung, look)
    return any(found)


# --- settings of the router -------------------------------------------------------------------------------------------


def _checked(tier: Tier, model: BaseChatModel, options: Mapping[str, Any]) -> BaseChatModel:
    for name in _CALL_SETTINGS:
        if options.get(name) is not None and name not in type(model).model_fields:
            raise ConfigError(f"{tier}={type(model).__name__} has no setting {name!r}; set its own equivalent on it")
    return model


def configured(model: BaseChatModel, router: BaseChatModel) -> BaseChatModel:
    """Return ``model``, or a copy of it with what was set on ``router``.

    Callbacks, tags and metadata add up, and so do rate limiters. The cache, ``output_version``,
    ``disable_streaming``, temperature, token limit and ``streaming`` of the router win.
    """
    updates = _shared(model, router)
    for name in _CALL_SETTINGS:
        value = getattr(router, name)
        if value is not None:
            updates[name] = value
    if not updates:
        return model
    copy = model.model_copy(update=updates)
    # Cached from the original; a cache's key is made from it.
    copy.__dict__.pop("_serialized", None)
    return copy


def _shared(model: BaseChatModel, router: BaseChatModel) -> dict[str, Any]:
    updates: dict[str, Any] = {}
    if handlers := _handlers(router.callbacks):
        updates["callbacks"] = [*_handlers(model.callbacks), *handlers]
    if router.tags:
        updates["tags"] = [*(model.tags or []), *router.tags]
    if router.metadata:
        updates["metadata"] = {**(model.metadata or {}), **router.metadata}
    if router.rate_limiter is not None:
        own = model.rate_limiter
        updates["rate_limiter"] = router.rate_limiter if own is None else _BothLimiters(own, router.rate_limiter)
    for name in ("cache", "output_version", "custom_get_token_ids"):
        if getattr(router, name) is not None:
            updates[name] = getattr(router, name)
    if router.disable_streaming:
        updates["disable_streaming"] = router.disable_streaming
    return updates


def _handlers(callbacks: Callbacks) -> list[Any]:
    return list(callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or [])


class _BothLimiters(BaseRateLimiter):
    """A model's own limiter and the router's, one after the other."""

    def __init__(self, *limiters: BaseRateLimiter) -> None:
        self._limiters = limiters

    def acquire(self, *, blocking: bool = True) -> bool:
        return all(limiter.acquire(blocking=blocking) for limiter in self._limiters)

    async def aacquire(self, *, blocking: bool = True) -> bool:
        for limiter in self._limiters:
            if not await limiter.aacquire(blocking=blocking):
                return False
        return True


# --- profiles ---------------------------------------------------------------------------------------------------------


def rung_profile(rung: Rung) -> ModelProfile | None:
    """Return what is known of a rung's models: of several, what all of them can do."""
    found: list[ModelProfile | None] = []

    def look(model: BaseChatModel) -> BaseChatModel:
        found.append(model.profile)
        return model

    mapped(rung, look)
    profile = found[0] if found else None
    for other in found[1:]:
        profile = common_profile(profile, other)
    return profile


def common_profile(strong: ModelProfile | None, weak: ModelProfile | None) -> ModelProfile | None:
    """Return what both models can do: the smaller limits, and the abilities that both have.

    A fact that is known of one model only is left out, and without any common fact there is no profile.
    """
    common: dict[str, Any] = {}
    for key in set(strong or {}) & set(weak or {}):
        one, other = strong[key], weak[key]  # type: ignore[index, literal-required]
        if isinstance(one, bool) and isinstance(other, bool):
            common[key] = one and other
        elif isinstance(one, int) and isinstance(other, int):
            common[key] = min(one, other)
        elif isinstance(one, list) and isinstance(other, list):
            common[key] = [item for item in one if item in other]
        elif one == other:
            common[key] = one
    return ModelProfile(**common) if common else None  # type: ignore[typeddict-item]
