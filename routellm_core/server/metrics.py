"""Prometheus metrics: decisions, scores, where the time goes, tokens, dollars, errors, fallbacks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from routellm_core.pricing import Price
from routellm_core.types import RoutingDecision, Tier

__all__ = ["MULTIPROCESS_FOLDER", "Metrics"]

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable, prometheus_client's own, with the folder through which several workers are added up."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SCORES = tuple(step / 20 for step in range(1, 20))


class Metrics:
    """One server's metrics. No label ever holds a prompt or a key; clients' keys appear by their names."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "routellm_requests", "Answers by operation and HTTP status", ["operation", "status"], registry=registry
        )
        self.in_progress = Gauge(
            "routellm_requests_in_progress", "Requests in progress", registry=registry, multiprocess_mode="livesum"
        )
        self._decisions = Counter(
            "routellm_decisions", "Routing decisions", ["router", "tier", "model"], registry=registry
        )
        self._scores = Histogram(
            "routellm_score", "P(strong beats weak)", ["router"], buckets=_SCORES, registry=registry
        )
        self._routing = Histogram(
            "routellm_routing_seconds", "Time to a decision", ["router"], buckets=_SECONDS, registry=registry
        )
        self._model = Histogram(
            "routellm_model_seconds", "From the decision to the end of the answer", ["model"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._first = Histogram(
            "routellm_first_event_seconds", "From the decision to a stream's first event", ["model"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("routellm_tokens", "Tokens that models reported", ["model", "kind"], registry=registry)
        self._dollars = Counter("routellm_dollars", "What answers cost", ["model"], registry=registry)
        self._saved = Counter(
            "routellm_saved_dollars", "What the strong model would have cost beyond the weak one's answers",
            registry=registry,
        )  # fmt: skip
        self._key_dollars = Counter("routellm_key_dollars", "What answers cost by client", ["key"], registry=registry)
        self._errors = Counter("routellm_backend_errors", "Failed model calls", ["model", "status"], registry=registry)
        self._fallbacks = Counter(
            "routellm_fallbacks", "Answers by the other model", ["failed", "answered"], registry=registry
        )

    def decided(self, decision: RoutingDecision) -> None:
        """Count a decision."""
        self._decisions.labels(decision.router, decision.tier, decision.model).inc()
        self._routing.labels(decision.router).observe(decision.latency_seconds)
        if decision.score is not None:
            self._scores.labels(decision.router).observe(decision.score)

    def started(self, decision: RoutingDecision, seconds: float) -> None:
        """Count the first event of a stream."""
        self._first.labels(decision.model).observe(seconds)

    def answered(
        self, decision: RoutingDecision, seconds: float, usage: Mapping[str, int], prices: Mapping[Tier, Price | None],
        key_name: str | None,
    ) -> float:  # fmt: skip
        """Count a finished answer.

        Args:
            decision: as it ended.
            seconds: the model's share of the time.
            usage: ``input`` and ``output`` tokens; empty where the model did not say.
            prices: by tier, where they are known.
            key_name: the client's.

        Returns:
            what it cost, in dollars; 0 where tokens or price are not known.
        """
        self._model.labels(decision.model).observe(seconds)
        if decision.fallback_from is not None:
            self._fallbacks.labels(decision.fallback_from, decision.model).inc()
        if not usage:
            return 0.0
        for kind, count in usage.items():
            self._tokens.labels(decision.model, kind).inc(count)
        price, strong = prices[decision.tier], prices["strong"]
        if price is None:
            return 0.0
        dollars = price.dollars(usage["input"], usage["output"])
        self._dollars.labels(decision.model).inc(dollars)
        if key_name is not None:
            self._key_dollars.labels(key_name).inc(dollars)
        if decision.tier == "weak" and strong is not None:
            self._saved.inc(max(0.0, strong.dollars(usage["input"], usage["output"]) - dollars))
        return dollars

    def failed(self, model: str, status: int) -> None:
        """Count a call that a model failed for good."""
        self._errors.labels(model, str(status)).inc()

    def exposition(self) -> bytes:
        """Return all of them in Prometheus's text format, over all workers."""
        if not os.environ.get(MULTIPROCESS_FOLDER):
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
