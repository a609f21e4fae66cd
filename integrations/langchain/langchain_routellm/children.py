"""The two models as a router calls them: with the settings that the router itself was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable

from langchain_routellm.litellm_chat import LiteLLMChat
from routellm_core.types import Tier

__all__ = ["RoutedTools", "common_profile", "configured"]

_CALL_SETTINGS = ("temperature", "max_tokens", "streaming")
_CLIENT_SETTINGS = ("api_base", "api_key", "timeout", "max_retries", "model_kwargs")


class RoutedTools(list[Any]):
    """Tools in OpenAI's form, as agents look for them in a binding, with what each model made of them.

    Attributes:
        bound: the models with the original tools bound by their own ``bind_tools``.
    """

    def __init__(self, formatted: list[Any], bound: Mapping[Tier, Runnable[Any, Any]]) -> None:
        super().__init__(formatted)
        self.bound = dict(bound)


def configured(model: BaseChatModel, router: BaseChatModel) -> BaseChatModel:
    """Return ``model``, or a copy of it with what was set on ``router``.

    Callbacks, tags and metadata add up, and so do rate limiters. The cache, ``output_version``,
    ``disable_streaming``, temperature, token limit and ``streaming`` of the router win. Key, base URL, time-out and
    retries belong to a model's client: they fill what a model built from a name has none of.
    """
    updates = _shared(model, router)
    for name in _CALL_SETTINGS:
        value = getattr(router, name)
        if value is not None:
            updates[name] = value
    if isinstance(model, LiteLLMChat):
        for name in _CLIENT_SETTINGS:
            value = getattr(router, name)
            if value is not None and getattr(model, name) is None:
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
