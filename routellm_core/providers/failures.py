"""Which failures are worth asking the other model about, whichever SDK raised them, and the decision after that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from routellm_core.errors import BackendError, is_retryable_status
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["fallen_back", "is_retryable"]

# Lost connections and time-outs: openai and anthropic, httpx, requests, botocore, google-api-core. Told by name,
# because none of these packages needs to be installed.
_CONNECTION_ERRORS = frozenset(
    {"APIConnectionError", "TransportError", "ConnectionError", "Timeout", "HTTPClientError"}
)


def is_retryable(error: BaseException) -> bool:
    """Return whether the same request can succeed at the other model: time-out, lost connection, 408/409/425/429, 5xx.

    Everything else (a bad request, a missing key, a mistake in the program) would fail again or hide a mistake.
    """
    if isinstance(error, BackendError):
        return error.retryable
    status = _status(error)
    if status is not None:
        return is_retryable_status(status)
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    return any(base.__name__ in _CONNECTION_ERRORS for base in type(error).__mro__)


def fallen_back(decision: RoutingDecision, pair: ModelPair, error: BaseException) -> RoutingDecision:
    """Return the decision for the other model of ``pair``, after the decided one failed with ``error``."""
    tier: Tier = "weak" if decision.tier == "strong" else "strong"
    status = _status(error)
    cause = type(error).__name__ if status is None else f"status {status}"
    return replace(
        decision,
        tier=tier,
        model=pair.of(tier),
        fallback_from=decision.model,
        reason=f"{decision.reason}; {decision.model} failed with {cause}, so {pair.of(tier)} answered",
        details={**decision.details, "fallback_error": str(error)[:500]},
    )


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        candidates = [(response.get("ResponseMetadata") or {}).get("HTTPStatusCode")]
    else:
        candidates = [getattr(error, "status_code", None), getattr(error, "code", None)]
        candidates.append(getattr(response, "status_code", None))
    for candidate in candidates:
        if isinstance(candidate, int) and 400 <= candidate <= 599:
            return int(candidate)
    return None
