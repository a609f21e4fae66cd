"""Calls of the two models and the judge: bounded, retried on the same model, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from routellm_core.asking.prompts import LabelModels, Role
from routellm_core.backends.base import ChatBackend
from routellm_core.errors import BackendError, ConfigError
from routellm_core.pricing import estimate_tokens, price_of
from routellm_core.prompts import message_text
from routellm_core.providers.retries import async_retrying
from routellm_core.types import ChatMessage

__all__ = ["UNREADABLE_STATUS", "LabelAnswer", "LabelCalls", "LabelLimits"]

UNREADABLE_STATUS: Final = 502
"""Of an answer that cannot be used."""


@dataclass(frozen=True)
class LabelLimits:
    """How hard to push the providers, and how much to spend.

    Attributes:
        concurrency: calls at a time.
        attempts: tries per call.
        wait_initial: seconds before the first retry; each further wait doubles.
        wait_max: longest wait in seconds.
        max_cost: dollars after which no further prompt is begun; None for no limit.
    """

    concurrency: int = 8
    attempts: int = 5
    wait_initial: float = 1.0
    wait_max: float = 60.0
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be at least 1")


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """A model's text and the tokens of the call."""

    text: str
    input_tokens: float
    output_tokens: float


class LabelCalls:
    """Calls models and counts what they used.

    A model that fails is asked again; the other one never answers in its place, since the answer is what is compared.

    Args:
        models: who is called.
        backend: makes the single attempts.
        limits: concurrency and retries.
    """

    def __init__(self, models: LabelModels, backend: ChatBackend, limits: LabelLimits) -> None:
        self._models, self._backend = models, backend
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._waits: Any = {
            "attempts": limits.attempts,
            "wait_initial": limits.wait_initial,
            "wait_max": limits.wait_max,
        }
        self.tokens: dict[Role, tuple[float, float]] = {}

    async def ask(self, role: Role, messages: Sequence[ChatMessage], parameters: Mapping[str, Any]) -> LabelAnswer:
        """Return a model's answer.

        Raises:
            BackendError: not retryable, or the last attempt failed.
        """
        answer: LabelAnswer = await async_retrying(**self._waits)(
            self._attempt, role, {**parameters, "messages": list(messages)}
        )
        return answer

    async def _attempt(self, role: Role, parameters: Mapping[str, Any]) -> LabelAnswer:
        model = self._models.of(role)
        async with self._slots:
            response = await self._backend.acomplete(model, parameters)
        text = _text_of(response, model.model)
        usage = getattr(response, "usage", None)
        sent, answered = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if sent is None or answered is None:  # some local servers do not count
            sent = sum(estimate_tokens(message_text(message)) for message in parameters["messages"])
            answered = estimate_tokens(text)
        before = self.tokens.get(role, (0.0, 0.0))
        self.tokens[role] = (before[0] + sent, before[1] + answered)
        return LabelAnswer(text, float(sent), float(answered))

    def dollars(self, tokens: Mapping[Role, tuple[float, float]]) -> float | None:
        """Return what so many tokens, sent and answered, cost; None where a price is not known."""
        total = 0.0
        for role, used in tokens.items():
            price = price_of(self._models.of(role))
            if price is None:
                return None
            total += price.dollars(*used)
        return total


def _text_of(response: Any, model: str) -> str:
    try:
        return response.choices[0].message.content or ""
    except (AttributeError, IndexError, TypeError) as error:
        raise BackendError(
            f"model {model!r} answered without choices[0].message.content",
            model=model,
            status_code=UNREADABLE_STATUS,
            retryable=False,
        ) from error
