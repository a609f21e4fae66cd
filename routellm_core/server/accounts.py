"""What one call of a model is counted under: reserved before it, settled after it, whatever became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from routellm_core.errors import BackendError
from routellm_core.pricing import Price
from routellm_core.server.access import AccessControl
from routellm_core.server.metrics import Metrics
from routellm_core.server.records import RequestRecord
from routellm_core.server.usage import estimated_input, estimated_output
from routellm_core.types import RoutingDecision, Tier

__all__ = ["Account"]


class Account:
    """The costs of one call.

    Args:
        access: holds the budgets of keys.
        metrics: counts.
        prices: by tier, where they are known.
        record: of the request.
        decision: who is to answer.
        body: the request.

    Attributes:
        decision: as it ended.
        metrics: counts.
    """

    def __init__(
        self,
        access: AccessControl,
        metrics: Metrics,
        prices: Mapping[Tier, Price | None],
        record: RequestRecord,
        decision: RoutingDecision,
        body: Mapping[str, Any],
    ) -> None:
        self.metrics = metrics
        self._access = access
        self._prices = prices
        self._record = record
        self._body = body
        self._started = time.perf_counter()
        self._reservation: Any = None
        self.decision = decision

    @property
    def decision(self) -> RoutingDecision:
        """Who answers."""
        return self._decision

    @decision.setter
    def decision(self, decision: RoutingDecision) -> None:
        self._decision = self._record.decision = decision

    async def reserve(self) -> None:
        """Count what the answer may cost against the key's budget.

        Raises:
            RequestError: the budget is spent.
        """
        self._reservation = await self._access.reserve(self._record.key, self._estimate)

    def first_event(self) -> None:
        """Note a stream's first event."""
        seconds = time.perf_counter() - self._started
        self._record.first_seconds = time.perf_counter() - self._record.started
        self.metrics.started(self.decision, seconds)

    async def close(self, counts: Mapping[str, int], *, made: int) -> None:
        """Settle an answer.

        Args:
            counts: its tokens as the model reported them; empty where it did not.
            made: an estimate of the tokens that it made, for that case.
        """
        if not counts:
            counts = {"input": estimated_input(self._body), "output": made}
            self._record.is_estimated = True
            self.metrics.uncounted(self.decision.model, "usage")
        key = self._record.key
        seconds = time.perf_counter() - self._started
        dollars = self.metrics.answered(self.decision, seconds, counts, self._prices, key.name if key else None)
        self._record.tokens, self._record.dollars = dict(counts), dollars
        await self._access.settle(self._reservation, dollars)

    def failed(self, error: BackendError) -> None:
        """Note that the models failed."""
        self.metrics.failed(error.model, error.status_code)
        self._record.failed(error)

    async def cancel(self, error: BackendError) -> None:
        """Settle a call that no answer came of."""
        self.failed(error)
        await self._access.settle(self._reservation, 0.0)

    def _estimate(self) -> float:
        price = self._prices[self.decision.tier]
        return price.dollars(estimated_input(self._body), estimated_output(self._body)) if price else 0.0
