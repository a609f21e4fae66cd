"""``RoutingService``: what answers requests; built from a controller, and replaced as a whole when settings change."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import quote

from routellm_core.backends.direct import DirectClient
from routellm_core.backends.resilience import ResilientCaller
from routellm_core.backends.wire import Operation, WireBackend
from routellm_core.controller import Controller
from routellm_core.errors import InvalidThresholdError, RoutingError
from routellm_core.model_names import format_model_name, parse_model_name
from routellm_core.pricing import Price, price_of
from routellm_core.server.access import AccessControl
from routellm_core.server.error_responses import RequestError
from routellm_core.server_settings import ServerSettings
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["RoutingService", "decision_headers"]

logger = logging.getLogger(__name__)

_HEADER_SAFE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"  # everything printable but the percent sign and quotation marks


class RoutingService:
    """A controller's decisions, and the calls that follow them.

    Args:
        controller: decides; its models are called.
        settings: of the server.
        client: connections to OpenAI-compatible models.

    Raises:
        ConfigError: the file of client keys cannot be read.
    """

    def __init__(self, controller: Controller, settings: ServerSettings, client: DirectClient) -> None:
        self.controller = controller
        self.settings = settings
        self.access = AccessControl(settings.client_keys())
        self.prices: dict[Tier, Price | None] = {tier: price_of(model) for tier, model in controller.models.items()}
        self.callers = {
            operation: ResilientCaller(WireBackend(operation, client), controller.models, policy=controller.resilience)
            for operation in get_args(Operation)
        }
        self._embeddings = WireBackend("embeddings", client)
        self._created = int(time.time())

    async def decide(self, conversation: Any, *, model: str, session: str | None) -> RoutingDecision:
        """Return the decision for a conversation.

        Raises:
            RequestError: there is no such model here (404).
            RoutingError: the conversation cannot be routed.
        """
        if self.settings.log_prompts:
            logger.info("routing %r", conversation)
        try:
            return await self.controller.adecide(conversation, model=model, session=session)
        except InvalidThresholdError as error:
            raise RequestError(str(error), param="model", code="invalid_value") from error
        except RoutingError as error:
            if not self._is_known(model):
                raise self._no_such_model(str(error)) from error
            raise

    async def embed(self, body: Mapping[str, Any]) -> Any:
        """Pass an embedding request on: to the configured model, else to the strong model's provider."""
        configured = self.settings.embedding_model
        if configured is not None:
            return await self._embeddings.acomplete(configured, body)
        strong = self.controller.models["strong"]
        provider, slash, _ = strong.model.partition("/")
        wanted = str(body["model"])
        name = wanted if "/" in wanted or not slash else f"{provider}/{wanted}"
        return await self._embeddings.acomplete(strong.model_copy(update={"model": name, "extra": {}}), body)

    def model_cards(self) -> list[dict[str, Any]]:
        """Return what ``GET /v1/models`` lists: each router at its default threshold, ``auto``, the two models."""
        routed = ["auto", *self.router_model_names()]
        pair = dict.fromkeys((self.controller.model_pair.strong, self.controller.model_pair.weak))
        return [
            *(self._card(name, "routellm") for name in routed),
            *(self._card(name, name.partition("/")[0]) for name in pair),
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

    def _card(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}

    def _is_known(self, name: str) -> bool:
        pair: ModelPair = self.controller.model_pair
        if name in ("auto", "strong", "weak", pair.strong, pair.weak):
            return True
        try:
            return parse_model_name(name).router in self.controller.routers
        except RoutingError:
            return False

    def _no_such_model(self, why: str) -> RequestError:
        known = ", ".join(card["id"] for card in self.model_cards())
        return RequestError(
            f"{why.rstrip('.')}. Models here: {known}; a router takes any threshold in [0, 1] or share such as 50%",
            status=404,
            param="model",
            code="model_not_found",
        )


def decision_headers(decision: RoutingDecision) -> dict[str, str]:
    """Return the decision as ``x-routellm-…`` headers; texts are percent-encoded where a header could not hold them."""
    values = {
        "model": decision.model,
        "tier": decision.tier,
        "router": decision.router,
        "score": None if decision.score is None else f"{decision.score:.6g}",
        "threshold": None if decision.threshold is None else f"{decision.threshold:.6g}",
        "reason": decision.reason,
        "fallback-from": decision.fallback_from,
    }
    return {
        f"x-routellm-{name}": quote(value, safe=_HEADER_SAFE) for name, value in values.items() if value is not None
    }
