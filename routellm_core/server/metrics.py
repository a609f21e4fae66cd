"""Prometheus metrics: decisions, scores, where the time goes, tokens, dollars, errors, fallbacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from routellm_core.pricing import Price
from routellm_core.types import RoutingDecision, Tier

__all__ = ["MULTIPROCESS_FOLDER", "Metrics"]

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable, prometheus_client's own, with the folder through which several workers are added up."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SCORES = tuple(step / 20 for step in range(1, 20))

_Labelled = TypeVar("_Labelled", Counter, Histogram)


class Metrics:
    """One server's metrics. No label ever holds a prompt or a key; clients' keys appear by their names."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Callable[..., Counter]:
            return _by_labels(Counter(name, about, labels, registry=registry))

        def histogram(
            name: str, about: str, label: str, buckets: Sequence[float] = _SECONDS
        ) -> Callable[..., Histogram]:
            return _by_labels(Histogram(name, about, [label], buckets=buckets, registry=registry))

        self.requests = counter("routellm_requests", "Answers by operation and HTTP status", "operation", "status")
        self.in_progress = Gauge(
            "routellm_requests_in_progress", "Requests in progress", registry=registry, multiprocess_mode="livesum"
        )
        self._decisions = counter("routellm_decisions", "Routing decisions", "router", "tier", "model")
        self._scores = histogram("routellm_score", "P(strong beats weak)", "router", _SCORES)
        self._routing = histogram("routellm_routing_seconds", "Time to a decision", "router")
        self._model = histogram("routellm_model_seconds", "From the decision to the end of the answer", "model")
        self._first = histogram("routellm_first_event_seconds", "From the decision to a stream's first event", "model")
        self._tokens = counter("routellm_tokens", "Tokens, as models reported them or by estimate", "model", "kind")
        self._dollars = counter("routellm_dollars", "What answers cost", "model")
        self._saved = Counter(
            "routellm_saved_dollars", "What the strong model would have cost beyond the weak one's answers",
            registry=registry,
        )  # fmt: skip
        self._key_dollars = counter("routellm_key_dollars", "What answers cost by client", "key")
        self._uncounted = counter("routellm_uncounted", "Answers without a price or a token count", "model", "missing")
        self._errors = counter("routellm_backend_errors", "Failed model calls", "model", "status")
        self._failing = Gauge(
            "routellm_model_failing", "1 while a model is passed over after failures", ["model"],
            registry=registry, multiprocess_mode="max",
        )  # fmt: skip
        self._fallbacks = counter("routellm_fallbacks", "Answers by the other model", "failed", "answered")

    def decided(self, decision: RoutingDecision) -> None:
        """Count a decision."""
        self._decisions(decision.router, decision.tier, decision.model).inc()
        self._routing(decision.router).observe(decision.latency_seconds)
        if decision.score is not None:
            self._scores(decision.router).observe(decision.score)

    def started(self, decision: RoutingDecision, seconds: float) -> None:
        """Count the first event of a stream."""
        self._first(decision.model).observe(seconds)

    def answered(
        self, decision: RoutingDecision, seconds: float, counts: Mapping[str, int], prices: Mapping[Tier, Price | None],
        key_name: str | None,
    ) -> float:  # fmt: skip
        """Count a finished answer.

        Args:
            decision: as it ended.
            seconds: the model's share of the time.
            counts: ``input`` and ``output`` tokens, and which of the input were ``cached`` or ``written``.
            prices: by tier, where they are known.
            key_name: the client's.

        Returns:
            what it cost, in dollars; 0 where the price is not known.
        """
        self._model(decision.model).observe(seconds)
        if decision.fallback_from is not None:
            self._fallbacks(decision.fallback_from, decision.model).inc()
        price, strong = prices[decision.tier], prices["strong"]
        dollars = self.spent(decision.model, counts, price, key_name)
        if price and strong and decision.tier == "weak":
            self._saved.inc(max(0.0, _dollars(strong, counts) - dollars))
        return dollars

    def spent(self, model: str, counts: Mapping[str, int], price: Price | None, key_name: str | None) -> float:
        """Count the tokens and dollars of an answer; return the dollars, 0 where the price is not known."""
        for kind, count in counts.items():
            self._tokens(model, kind).inc(count)
        if price is None:
            self.uncounted(model, "price")
            return 0.0
        dollars = _dollars(price, counts)
        self._dollars(model).inc(dollars)
        if key_name is not None:
            self._key_dollars(key_name).inc(dollars)
        return dollars

    def uncounted(self, model: str, missing: str) -> None:
        """Count an answer without a known price, or whose tokens are an estimate (``usage``)."""
        self._uncounted(model, missing).inc()

    def failed(self, model: str, status: int) -> None:
        """Count a call that a model failed for good."""
        self._errors(model, str(status)).inc()

    def failing(self, models: Mapping[str, float]) -> None:
        """Tell for each model for how many seconds it is passed over yet; 0 where it is not."""
        for model, seconds in models.items():
            self._failing.labels(model).set(float(seconds > 0))

    def exposition(self) -> bytes:
        """Return all of them in Prometheus's text format, over all workers."""
        if not os.environ.get(MULTIPROCESS_FOLDER):
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _dollars(price: Price, counts: Mapping[str, int]) -> float:
    cached, written = counts.get("cached", 0), counts.get("written", 0)
    return price.dollars(counts["input"], counts["output"], cached_tokens=cached, written_tokens=written)


def _by_labels(metric: _Labelled) -> Callable[..., _Labelled]:
    """Return the part of a metric that has these label values; found again without the library's lock and checks."""
    return lru_cache(maxsize=512)(metric.labels)
