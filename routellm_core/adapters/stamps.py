"""The record of a decision on an answer, a run or a history: plain values, and one of them where routers nest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routellm_core.types import RoutingDecision

__all__ = ["RECORD_KEY", "is_record", "record_of", "stood_in"]

RECORD_KEY = "routing"
"""Where answers and runs carry the record."""


def record_of(decision: RoutingDecision, inner: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is recorded of a decision.

    Args:
        decision: as it ended, after a fallback too.
        inner: the record of the router that the decided model is itself, if it is one. The one record then names the
            model that answered, and has the inner one as ``inner``.
    """
    record = decision.as_dict()
    if inner is None or _is_of(inner, record):
        return record if inner is None else dict(inner)
    return {**record, "model": inner["model"], "inner": dict(inner)}


def _is_of(inner: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Return whether ``inner`` is this very record, on which an inner one was noted already."""
    own = {key: value for key, value in record.items() if key != "model"}
    return own == {key: value for key, value in inner.items() if key not in ("model", "inner")}


def stood_in(decision: RoutingDecision, model: str, cause: str) -> dict[str, Any]:
    """Return the record for an answer by a model that is none of the router's, a backup of the framework's own.

    Args:
        decision: what was decided, and failed.
        model: who answered.
        cause: why, for a person.
    """
    reason = f"{decision.reason}; {cause}, so {model} answered"
    failed = decision.fallback_from or decision.model
    return {**decision.as_dict(), "model": model, "fallback_from": failed, "reason": reason}


def is_record(value: Any) -> bool:
    """Return whether a value is the record of a decision, and not another program's under the same name."""
    return isinstance(value, Mapping) and {"tier", "model", "router", "reason"} <= value.keys()
