"""``Routing``: one router, one pair of models and one policy, shared by every copy of an LM or a program."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dspy_routellm.children import ChildModel, build_child
from dspy_routellm.fields import ExtractFromRequest, checked_route_fields
from dspy_routellm.requests import routed_on
from dspy_routellm.saving import dump_router, import_path, imported, load_saved_router
from routellm_core import ModelSelector, Router, RoutingDecision, load_config
from routellm_core import adapters as core
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.errors import ConfigError
from routellm_core.pricing import Price
from routellm_core.types import ModelPair, Tier

__all__ = ["CLIENT_OPTIONS", "ROUTING_OPTIONS", "Routing"]

CLIENT_OPTIONS = ("api_base", "api_key", "timeout", "temperature", "max_tokens")
"""What reaches the models that are built from a name."""

_SELECTION = ("router", "threshold", "strong_share", "calibration", "strong", "weak", "resilience")
_POLICIES = ("no_prompt_tier", "on_scoring_error")
ROUTING_OPTIONS = (*_SELECTION, *_POLICIES, "route_fields", "extract")
"""The options that say how to route."""


class Routing:
    """Decides, and knows both models. Copies of it are itself, so that a router's weights are held once.

    Args:
        options: of :data:`ROUTING_OPTIONS` and :data:`CLIENT_OPTIONS`; what is not given comes from the configuration
            (``ROUTELLM_CONFIG``, environment, defaults).
        previous: what was built from other options before; what did not change is taken from it.

    Attributes:
        core: what the core decides and calls with.
        counts: answers per model, those from DSPy's cache not counted; of two models of one name, with their tier.

    Raises:
        ConfigError: an option of a wrong type or outside its values, or two that contradict each other.
        UnknownRouterError: a router name that is not registered.
        InvalidThresholdError: a threshold or share out of range.
    """

    def __init__(self, options: Mapping[str, Any], *, previous: Routing | None = None) -> None:
        self._options = {name: value for name, value in options.items() if value is not None}
        self.route_fields = checked_route_fields(options.get("route_fields"))
        self.extract: ExtractFromRequest | None = options.get("extract")
        if self.extract is not None and not callable(self.extract):
            raise ConfigError(
                f"extract={self.extract!r} must be a function from a dspy.lm15.Request to the text to route on"
            )
        shared = {name: options.get(name) for name in CLIENT_OPTIONS}
        # A program is no conversation, in which one question says something about the next.
        given = {name: options.get(name) for name in (*_SELECTION, *_POLICIES)}
        self.core: core.Routing[ChildModel] = core.build_routing(
            {**given, "extract": routed_on, "sticky": False},
            build_model=lambda tier, spec: build_child(tier, spec, **shared),
            settings_of=lambda _, child: child.settings,
            previous=previous.core if previous else None,
        )
        if self.core.selector.threshold is None:
            raise ConfigError(
                "calibration= was given without a threshold, and holds none; add threshold='50%' or strong_share=0.5, "
                "or save a calibration with a target"
            )
        config = load_config()
        self._policies = {name: self._options.get(name, getattr(config, name)) for name in _POLICIES}
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._abilities: dict[str, Any] = {}

    @property
    def router(self) -> Router:
        """The router."""
        return self.core.selector.router

    @property
    def models(self) -> Mapping[Tier, ChildModel]:
        """Both models."""
        return self.core.models

    @property
    def pair(self) -> ModelPair:
        """Their names."""
        return self.core.pair

    @property
    def selector(self) -> ModelSelector:
        """What decides."""
        return self.core.selector

    @property
    def resilience(self) -> ResiliencePolicy:
        """Attempts of a model, and when the other one is asked."""
        return self.core.policy

    @property
    def threshold(self) -> float:
        """The threshold in [0, 1]."""
        return float(self.core.selector.threshold)  # type: ignore[arg-type]

    def changed(self, **options: Any) -> Routing:
        """Return a routing with other options over the same router and models, where those did not change.

        Raises:
            RouteLLMError: an option is mistyped, out of range or contradictory.
        """
        replaced = {"threshold", "strong_share"} if {"threshold", "strong_share"} & options.keys() else set()
        kept = {name: value for name, value in self._options.items() if name not in replaced}
        return Routing({**kept, **options}, previous=self)

    def select(self, text: str | None) -> RoutingDecision:
        """Decide for a text; None has nothing to route on."""
        return self.core.selector.select(text or "")

    async def aselect(self, text: str | None) -> RoutingDecision:
        """Decide without blocking the event loop."""
        return await self.core.selector.aselect(text or "")

    def count(self, model: str, tier: Tier) -> None:
        """Count an answer of a model."""
        with self._lock:
            self.counts[f"{model} ({tier})" if self.pair.strong == self.pair.weak == model else model] += 1

    def prices(self) -> dict[str, Price | None]:
        """Return the models' prices by their names; those of a model that routes itself are its models'."""
        found: dict[str, Price | None] = {}
        for child in self.models.values():
            inner = getattr(child.lm.engine, "routing", None)
            found.update(inner.prices() if isinstance(inner, Routing) else {child.name: child.price})
        return found

    def supports(self, ability: str) -> bool:
        """Return whether both models support something, such as ``"supports_function_calling"``."""
        return bool(self._common(ability))

    @property
    def supported_params(self) -> frozenset[str]:
        """The request parameters that both models take."""
        return frozenset(self._common("supported_params") or ())

    def _common(self, ability: str) -> Any:
        if ability not in self._abilities:
            strong, weak = (self.models[tier].supports(ability) for tier in ("strong", "weak"))
            self._abilities[ability] = strong & weak
        return self._abilities[ability]

    @property
    def model_name(self) -> str:
        """A name for DSPy's cache key: it changes with whatever may change a decision or an answer.

        ``routellm/router-mf-0.116(openai:gpt-5.4|openai:gpt-5.4-nano)#1a2b3c4d``. The models' slashes are colons, for
        DSPy takes what follows the last slash as a model and applies that model's rules.
        """
        models = [self.models[tier] for tier in ("strong", "weak")]
        identity = {
            "router": self.router.fingerprint,
            "models": [[child.name, child.lm.model_type, repr(sorted(child.generation.items()))] for child in models],
            "threshold": self.threshold,
            "route_fields": self.route_fields,
            "extract": None if self.extract is None else getattr(self.extract, "__qualname__", repr(self.extract)),
            **self._policies,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        pair = "|".join(child.name.replace("/", ":") for child in models)
        return f"routellm/router-{self.router.name}-{self.threshold:.6g}({pair})#{digest}"

    def dump_state(self) -> dict[str, Any]:
        """Return JSON-ready values that :meth:`load_state` rebuilds the routing from. Keys are left out.

        Raises:
            TypeError: the router's options, ``extract`` or a model's engine cannot be written as JSON.
        """
        return {
            "router": dump_router(self.router),
            "models": {tier: child.dump_state() for tier, child in self.models.items()},
            "threshold": self.threshold,
            "route_fields": None if self.route_fields is None else list(self.route_fields),
            "extract": None if self.extract is None else import_path(self.extract, "extract"),
            "resilience": asdict(self.core.policy),
            **self._policies,
        }

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Routing:
        """Rebuild a routing; states of one router share it. The state must be trusted: it names code to import."""
        options = dict(state)
        models = {tier: ChildModel.load_state(child) for tier, child in options.pop("models").items()}
        loaded = {
            "router": load_saved_router(options["router"]),
            "extract": None if options["extract"] is None else imported(options["extract"]),
            "resilience": ResiliencePolicy(**options["resilience"]),
        }
        return cls({**options, **models, **loaded})

    def __deepcopy__(self, _memo: dict[int, Any]) -> Routing:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A router pickles as its class and options, so weights are dropped here and read again there.
        settled = {"router": self.router, "threshold": self.threshold, "resilience": self.core.policy, **self.models}
        own = {"route_fields": self.route_fields, "extract": self.extract}
        return Routing, ({**settled, **own, **self._policies},)
