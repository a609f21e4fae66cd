"""``Routing``: one router, one pair of models and one policy, shared by every copy of an LM or a program."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dspy_routellm.children import ChildModel, build_child
from dspy_routellm.fields import ExtractFromRequest, checked_route_fields
from dspy_routellm.saving import dump_router, import_path, imported, load_saved_router
from routellm_core import ModelPair, ModelSelector, Router, RoutingDecision, load_config
from routellm_core.adapters import resolve_router
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.calibration import CalibrationSource, calibrations_by_router
from routellm_core.decision import requested_threshold
from routellm_core.errors import ConfigError
from routellm_core.pricing import Price
from routellm_core.types import Tier

__all__ = ["ROUTING_OPTIONS", "Routing", "build_routing"]

ROUTING_OPTIONS = (
    "router",
    "threshold",
    "strong_share",
    "calibration",
    "strong",
    "weak",
    "route_fields",
    "extract",
    "no_prompt_tier",
    "on_scoring_error",
    "resilience",
)
"""The options that say how to route."""


class Routing:
    """Decides, and knows both models. Copies of it are itself, so that a router's weights are held once.

    Build it with :func:`build_routing`.

    Args:
        router: the router.
        models: both models.
        threshold: in [0, 1]; a share of strong calls is resolved already.
        route_fields: the input fields to route on, or None for all.
        extract: picks the text out of a request in their place.
        no_prompt_tier: the tier of a call without any text.
        on_scoring_error: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries and fallback.

    Attributes:
        counts: answers per model, those from DSPy's cache not counted.
    """

    def __init__(
        self,
        router: Router,
        models: Mapping[Tier, ChildModel],
        *,
        threshold: float,
        route_fields: tuple[str, ...] | None,
        extract: ExtractFromRequest | None,
        no_prompt_tier: Tier,
        on_scoring_error: Any,
        resilience: ResiliencePolicy,
    ) -> None:
        self.models = dict(models)
        self.route_fields = route_fields
        self.extract = extract
        self.resilience = resilience
        self._policies = {"no_prompt_tier": no_prompt_tier, "on_scoring_error": on_scoring_error}
        pair = ModelPair(strong=models["strong"].name, weak=models["weak"].name)
        self.selector = ModelSelector(router, pair, threshold=threshold, **self._policies)
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._abilities: dict[str, Any] = {}

    @property
    def router(self) -> Router:
        """The router."""
        return self.selector.router

    @property
    def threshold(self) -> float:
        """The threshold in [0, 1]."""
        return float(self.selector.threshold)  # type: ignore[arg-type]

    def select(self, text: str | None) -> RoutingDecision:
        """Decide for a text; None has nothing to route on."""
        return self.selector.select(text or "")

    async def aselect(self, text: str | None) -> RoutingDecision:
        """Decide without blocking the event loop."""
        return await self.selector.aselect(text or "")

    def count(self, model: str) -> None:
        """Count an answer of a model."""
        with self._lock:
            self.counts[model] += 1

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

    def with_threshold(self, threshold: float | str | None = None, *, strong_share: float | None = None) -> Routing:
        """Return a routing with another threshold over the same router and models.

        Raises:
            InvalidThresholdError: out of range, or given in two ways.
        """
        state = self.__getstate__()
        state["models"] = self.models
        state["threshold"] = _resolved(self.router, threshold, strong_share, None)
        return Routing(**state)

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
            "resilience": dict(vars(self.resilience)),
            **self._policies,
        }

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Routing:
        """Rebuild a routing; states of one router share it. The state must be trusted: it names code to import."""
        options = dict(state)
        fields, extract = options["route_fields"], options["extract"]
        return cls(
            load_saved_router(options.pop("router")),
            {tier: ChildModel.load_state(child) for tier, child in options.pop("models").items()},
            **{
                **options,
                "route_fields": None if fields is None else tuple(fields),
                "extract": None if extract is None else imported(extract),
                "resilience": ResiliencePolicy(**options["resilience"]),
            },
        )

    def __deepcopy__(self, _memo: dict[int, Any]) -> Routing:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A router pickles as its class and options, so weights are dropped here and read again there.
        return {
            "router": self.router,
            "models": self.models,
            "threshold": self.threshold,
            "route_fields": self.route_fields,
            "extract": self.extract,
            "resilience": self.resilience,
            **self._policies,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def build_routing(
    *,
    router: Router | str | None = None,
    threshold: float | str | None = None,
    strong_share: float | None = None,
    calibration: CalibrationSource | None = None,
    strong: Any = None,
    weak: Any = None,
    route_fields: Any = None,
    extract: ExtractFromRequest | None = None,
    no_prompt_tier: Tier | None = None,
    on_scoring_error: str | None = None,
    resilience: ResiliencePolicy | None = None,
    **shared: Any,
) -> Routing:
    """Build a routing; what is not given comes from the configuration (``ROUTELLM_CONFIG``, environment, defaults).

    Args:
        router: a router or its name.
        threshold: in [0, 1], or a share of strong calls such as ``"50%"``.
        strong_share: the same share as a number in [0, 1].
        calibration: one's own traffic, or the file of it; resolves shares, and gives the threshold where none is given.
        strong: the strong model; see :func:`~dspy_routellm.children.build_child`.
        weak: the weak one.
        route_fields: the signature's input fields to route on.
        extract: a function from the request to the text to route on, in their place.
        no_prompt_tier: the tier of a call without any text.
        on_scoring_error: where to go when the score cannot be computed: ``"strong"``, ``"weak"`` or ``"raise"``.
        resilience: retries and fallback.
        **shared: settings for both models; see :func:`~dspy_routellm.children.build_child`.

    Raises:
        ConfigError: an option of a wrong type or outside its values, or two that contradict each other.
        UnknownRouterError: a router name that is not registered.
        InvalidThresholdError: a threshold or share out of range.
    """
    requested_threshold(threshold, strong_share)
    config = load_config()
    if threshold is None and strong_share is None and calibration is None:
        threshold = config.threshold
    router = resolve_router(router or config.router, config)
    if calibration is None:
        calibration = calibrations_by_router(config.calibration, {router.name: router}).get(router.name)
    if extract is not None and not callable(extract):
        raise ConfigError(f"extract={extract!r} must be a function from a dspy.lm15.Request to the text to route on")
    if resilience is not None and not isinstance(resilience, ResiliencePolicy):
        raise ConfigError(f"resilience must be a ResiliencePolicy, got {type(resilience).__name__}")
    models: dict[Tier, ChildModel] = {
        "strong": build_child("strong", config.models.strong if strong is None else strong, **shared),
        "weak": build_child("weak", config.models.weak if weak is None else weak, **shared),
    }
    return Routing(
        router,
        models,
        threshold=_resolved(router, threshold, strong_share, calibration),
        route_fields=checked_route_fields(route_fields),
        extract=extract,
        no_prompt_tier=no_prompt_tier or config.no_prompt_tier,
        on_scoring_error=on_scoring_error or config.on_scoring_error,
        resilience=resilience or config.fallback.policy(),
    )


def _resolved(
    router: Router, threshold: float | str | None, strong_share: float | None, calibration: CalibrationSource | None
) -> float:
    pair = ModelPair("strong", "weak")
    options: dict[str, Any] = {"threshold": threshold, "strong_share": strong_share, "calibration": calibration}
    resolved = ModelSelector(router, pair, **options).threshold
    if resolved is None:
        raise ConfigError(
            "calibration= was given without a threshold, and holds none; add threshold='50%' or strong_share=0.5, or "
            "save a calibration with a target"
        )
    return float(resolved)
