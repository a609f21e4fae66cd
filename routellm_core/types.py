"""The values that travel through the library. All of them are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ChatMessage", "FloatArray", "ModelPair", "RoutingDecision", "Tier"]

Tier: TypeAlias = Literal["strong", "weak"]
ChatMessage: TypeAlias = Mapping[str, Any]
"""One message in OpenAI's chat format: at least a ``role``, usually a ``content``."""
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class ModelPair:
    """The two models that a decision chooses between, by the names a backend knows them under."""

    strong: str
    weak: str

    def of(self, tier: Tier) -> str:
        """Return the model of ``tier``."""
        return self.strong if tier == "strong" else self.weak


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Which model a prompt goes to, and why.

    Attributes:
        tier: ``"strong"`` or ``"weak"``.
        model: the model's name; after a fallback, the model that answered.
        score: P(strong model strictly beats weak model) in [0, 1], or None where nothing was scored.
        threshold: the threshold that the score was compared with, or None where nothing was compared.
        router: the router's name.
        reason: one sentence for a person.
        latency_seconds: time spent on scoring and deciding (for a batch, the batch's time shared equally).
        fallback_from: the model that was chosen first and failed, or None.
        details: further facts, such as the error that made a fallback necessary.
    """

    tier: Tier
    model: str
    score: float | None
    threshold: float | None
    router: str
    reason: str
    latency_seconds: float = 0.0
    fallback_from: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as plain JSON-ready values, with empty optional fields left out."""
        record = asdict(self)
        record["details"] = dict(self.details)
        optional = ("fallback_from", "details")
        return {key: value for key, value in record.items() if key not in optional or value}
