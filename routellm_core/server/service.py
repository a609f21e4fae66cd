"""``RoutingService``: what answers requests; built from a controller, and replaced as a whole when settings change."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, get_args
from urllib.parse import quote

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.caller import AsyncResilientCaller
from routellm_core.backends.wire import Operation, WireAnswer, WireBackend, WireReading
from routellm_core.capabilities import Capabilities, common_capabilities
from routellm_core.controller import Controller
from routellm_core.decision import format_model_name, requested_model
from routellm_core.errors import InvalidThresholdError, RoutingError
from routellm_core.pricing import Price, price_of
from routellm_core.providers.endpoints import neighbour, openai_endpoint
from routellm_core.providers.http import ModelClient
from routellm_core.providers.redaction import redacted
from routellm_core.server.access import AccessControl
from routellm_core.server.anthropic.backend import MessagesBackend, MessagesReading
from routellm_core.server.connections import most_concurrent
from routellm_core.server.error_responses import RequestError
from routellm_core.server.settings import ServerSettings
from routellm_core.turns import Turn
from routellm_core.types import RoutingDecision, Tier

__all__ = ["DECISION_FIELDS", "RoutingService", "decision_headers"]

DECISION_FIELDS = ("model", "tier", "router", "score", "threshold", "reason", "fallback-from")
"""What ``x-routellm-…`` headers tell of a decision, each where it is known."""

logger = logging.getLogger(__name__)

_HEADER_SAFE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"  # everything printable but the percent sign and quotation marks
_LONGEST_REASON = 500  # characters; clients and proxies refuse long headers


class RoutingService:
    """A controller's decisions, and the calls that follow them.

    Args:
        controller: decides; its models are called.
        settings: of the server.
        client: connections to OpenAI-compatible models.
        replaces: the service before this one, whose counts of requests and dollars go on.

    Raises:
        ConfigError: the file of client keys cannot be read.
    """

    def __init__(
        self,
        controller: Controller,
        settings: ServerSettings,
        client: ModelClient,
        *,
        replaces: RoutingService | None = None,
    ) -> None:
        self.controller = controller
        self.settings = settings
        keys = settings.client_keys()
        self.access: AccessControl = AccessControl(
            keys, storage=settings.limits_storage, counted=replaces.access if replaces else None
        )
        self.prices: dict[Tier, Price | None] = {tier: price_of(model) for tier, model in controller.models.items()}
        unpriced = ", ".join(controller.model_pair.of(tier) for tier, price in self.prices.items() if price is None)
        if unpriced and any(key.dollars_per_day is not None for key in keys):
            logger.warning("dollars_per_day does not count %s: set input_ and output_cost_per_token", unpriced)
        self.backends = {operation: WireBackend(operation, client) for operation in get_args(Operation)}
        self.messages = MessagesBackend(client, self.backends["chat/completions"])
        caller = partial(AsyncResilientCaller, policy=controller.resilience, cool_downs=controller.cool_downs)
        self.callers: dict[str, AsyncResilientCaller] = {
            operation: caller(backend, controller.models, reading=WireReading(operation), operation=operation)
            for operation, backend in self.backends.items()
        }
        self.callers["messages"] = caller(
            self.messages, controller.models, reading=MessagesReading(), operation="messages"
        )
        self.most_concurrent = most_concurrent(settings)
        self._created = int(time.time())

    async def decide(self, turn: Turn, *, model: str) -> RoutingDecision:
        """Return the decision for a request.

        Raises:
            RequestError: there is no such model here (404).
            RoutingError: the conversation cannot be routed.
        """
        try:
            return await self.controller.adecide(turn, model=model)
        except InvalidThresholdError as error:
            raise RequestError(str(error), param="model", code="invalid_value") from error
        except RoutingError as error:
            if not self._is_known(model):
                raise self._no_such_model(str(error)) from error
            raise

    def embedding_model(self, wanted: str) -> ModelSettings:
        """Return who answers an embedding request: the configured model, else ``wanted`` at the strong model's server.

        Raises:
            RequestError: none is configured, and the strong model's server cannot be asked for others by name (404).
        """
        if self.settings.embedding_model is not None:
            return self.settings.embedding_model
        strong = self.controller.models["strong"]
        if openai_endpoint(strong) is None:
            # litellm reads a provider, even a host, out of a name, and the strong model's key would go there.
            raise RequestError(
                "this server has no embedding model; set server.embedding_model",
                status=404,
                param="model",
                code="model_not_found",
            )
        return neighbour(strong, wanted)

    def dropped_fields(self, operation: str, tier: Tier, body: Mapping[str, Any]) -> list[str]:
        """Return the fields of a request that the model of a tier does not get, since it would not understand them."""
        backend = self.messages if operation == "messages" else self.backends[operation]
        return backend.dropped_fields(self.controller.models[tier], body)

    def cooling_models(self) -> dict[str, float]:
        """Return for each model the seconds for which it is passed over after failures; 0 where it is not."""
        pair, downs = self.controller.model_pair, self.controller.cool_downs
        return {pair.weak: downs.remaining("weak"), pair.strong: downs.remaining("strong")}

    async def embed(self, model: ModelSettings, body: Mapping[str, Any]) -> WireAnswer:
        """Pass an embedding request on.

        Raises:
            BackendError: the model failed.
        """
        answer = await self.backends["embeddings"].acomplete(model, body)
        if not isinstance(answer, WireAnswer):
            raise RequestError("embeddings are not streamed", param="stream", code="invalid_value")
        return answer

    def model_cards(self) -> list[dict[str, Any]]:
        """Return what ``GET /v1/models`` lists: each router at its default threshold, ``auto``, the two models."""
        routed = ["auto", *self.router_model_names()]
        pair = dict.fromkeys((self.controller.model_pair.strong, self.controller.model_pair.weak))
        able = self.controller.selector().capabilities
        by_name = {self.controller.model_pair.of(tier): able[tier] for tier in able}
        return [
            *(self._card(name, "routellm") for name in routed),
            *(self._card(name, name.partition("/")[0], by_name[name]) for name in pair),
        ]

    def model_card(self, name: str) -> dict[str, Any]:
        """Return one of them, or a router at any threshold.

        Raises:
            RequestError: there is no such model here (404).
        """
        for card in self.model_cards():
            if card["id"] == name:
                return card
        if not self._is_known(name):
            raise self._no_such_model(f"no model {name!r}")
        return self._card(name, "routellm")

    def router_model_names(self) -> list[str]:
        """Return ``router-[name]-[threshold]`` of every router that has a default threshold."""
        thresholds = {name: self.controller.selector(name).threshold for name in self.controller.routers}
        return [format_model_name(name, value) for name, value in thresholds.items() if value is not None]

    def _card(self, name: str, owner: str, able: Capabilities | None = None) -> dict[str, Any]:
        """Describe a model; of a routed one, what holds for both models."""
        if able is None:
            able = common_capabilities(self.controller.selector().capabilities.values())
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": owner,
            "context_window": able.context_window,
            "max_output_tokens": able.max_output_tokens,
        }

    def _is_known(self, name: str) -> bool:
        try:
            wish = requested_model(name, self.controller.model_pair)
        except RoutingError:
            return False
        return wish.router is None or wish.router in self.controller.routers

    def _no_such_model(self, why: str) -> RequestError:
        known = ", ".join(card["id"] for card in self.model_cards())
        return RequestError(
            f"{why.rstrip('.')}. Models here: {known}; a router takes any threshold in [0, 1] or share such as 50%",
            status=404,
            param="model",
            code="model_not_found",
        )


def decision_headers(decision: RoutingDecision) -> dict[str, str]:
    """Return the decision as ``x-routellm-…`` headers; texts are percent-encoded where a header could not hold them.

    Where nothing was scored, the reason may quote what a failed embedding call said.
    """
    values = (
        decision.model,
        decision.tier,
        decision.router,
        None if decision.score is None else f"{decision.score:.6g}",
        None if decision.threshold is None else f"{decision.threshold:.6g}",
        (decision.reason if decision.score is not None else _safe(decision.reason))[:_LONGEST_REASON],
        decision.fallback_from,
    )
    return {
        f"x-routellm-{name}": quote(value, safe=_HEADER_SAFE, errors="replace")
        for name, value in zip(DECISION_FIELDS, values, strict=True)
        if value is not None
    }


@lru_cache(maxsize=64)
def _safe(reason: str) -> str:
    return redacted(reason)
