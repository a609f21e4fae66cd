"""What is known of one request while it is served, and the line that is written about it at its end."""

from __future__ import annotations

import json
import logging
import random
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routellm_core.server.settings import ClientKey
from routellm_core.types import RoutingDecision

__all__ = ["REQUEST_ID", "REQUEST_LINES", "RequestRecord", "write_request_lines"]

REQUEST_ID = "x-request-id"
_PLAIN = re.compile(r"[\w./:%@+-]+")
_FITTING_ID = re.compile(r"[\w.:=/+-]{1,128}", re.ASCII)
logger = logging.getLogger(__name__)
REQUEST_LINES = logging.getLogger("routellm_core.server.requests")
"""The lines, at level INFO. They are written where the program, or :func:`write_request_lines`, lets them."""


def write_request_lines() -> None:
    """Write them to standard error as they are, whatever else is logged."""
    if not REQUEST_LINES.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        REQUEST_LINES.addHandler(handler)
        REQUEST_LINES.setLevel(logging.INFO)
        REQUEST_LINES.propagate = False


@dataclass(slots=True)
class RequestRecord:
    """One request.

    Attributes:
        id: the client's ``x-request-id`` where it gave a fitting one, else a new one.
        method: of HTTP.
        path: as it was asked for.
        headers: the client's, by names in small letters.
        started: on the clock of ``time.perf_counter``.
        operation: the path as it is declared; None where there is none.
        key: the client's.
        held: bytes of its body that are counted as held.
        decision: as it ended.
        prompt: what was routed on, where prompts are logged.
        tokens: by kind.
        dollars: what the answer cost.
        is_estimated: whether tokens or dollars are estimates.
        first_seconds: until the first event of a stream.
        status: of the answer; None where the client left before one.
        error: what went wrong, in words for the log.
    """

    id: str
    method: str
    path: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    operation: str | None = None
    key: ClientKey | None = None
    held: int = 0
    decision: RoutingDecision | None = None
    prompt: Any = None
    tokens: dict[str, int] = field(default_factory=dict)
    dollars: float = 0.0
    is_estimated: bool = False
    first_seconds: float | None = None
    status: int | None = None
    error: str | None = None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> RequestRecord:
        """Return the record of a request that begins, by ASGI's scope."""
        record = cls("", scope["method"], scope["path"], dict(scope["headers"]))
        wanted = record.header(REQUEST_ID)
        record.id = wanted if _FITTING_ID.fullmatch(wanted) else f"{random.getrandbits(128):032x}"
        return record

    def header(self, name: str) -> str:
        """Return one of the client's headers; empty where it sent none."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def failed(self, error: Exception) -> None:
        """Write down why it failed, which the client is told in fewer words."""
        self.error = str(error)
        logger.warning("request %s failed: %s", self.id, error)

    def fields(self) -> dict[str, Any]:
        """Return what the line tells; nothing that is not known."""
        decision = self.decision
        routed = {} if decision is None else {
            "tier": decision.tier,
            "model": decision.model,
            "router": decision.router,
            "score": None if decision.score is None else round(decision.score, 6),
            "threshold": decision.threshold,
            "fallback_from": decision.fallback_from,
            "routing_ms": round(1000 * decision.latency_seconds, 2),
        }  # fmt: skip
        known = {
            "request_id": self.id,
            "method": self.method,
            "path": self.path,
            "status": self.status or 499,
            "key": self.key.name if self.key else None,
            **routed,
            **{f"{kind}_tokens": count for kind, count in self.tokens.items()},
            "dollars": round(self.dollars, 8) if self.tokens else None,
            "estimated": self.is_estimated or None,
            "first_event_ms": None if self.first_seconds is None else round(1000 * self.first_seconds, 2),
            "total_ms": round(1000 * (time.perf_counter() - self.started), 2),
            "error": self.error,
            "prompt": self.prompt,
        }
        return {name: value for name, value in known.items() if value is not None}

    def line(self, form: str) -> str:
        """Return the line, as JSON or as ``name=value``."""
        fields = self.fields()
        if form == "json":
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            return json.dumps({"time": now, **fields}, ensure_ascii=False, default=str)
        return " ".join(f"{name}={_shown(value)}" for name, value in fields.items())

    def annotate_span(self) -> None:
        """Tell OpenTelemetry's span of this request what was decided, where that library is in use."""
        trace = sys.modules.get("opentelemetry.trace")
        if trace is None:
            return
        span = trace.get_current_span()
        if span.is_recording():
            hidden = ("method", "path", "status", "prompt")
            span.set_attributes({f"routellm.{k}": v for k, v in self.fields().items() if k not in hidden})


def _shown(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
