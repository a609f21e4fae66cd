"""The values that travel through the library. All of them are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError

Tier: TypeAlias = str
"""The name of a place on a ladder; of a pair's, ``"strong"`` and ``"weak"``."""
PairTier: TypeAlias = Literal["strong", "weak"]
ChatMessage: TypeAlias = Mapping[str, Any]
"""One message in OpenAI's chat format: at least a ``role``, usually a ``content``."""
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The models that a decision chooses between, cheap to strong, by the names a backend knows them under.

    Attributes:
        models: at least two names. Two models may have one name (one at two hosts, or at two efforts): tiers tell them
            apart.
    """

    models: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ConfigError(f"a ladder has at least two models, cheap to strong; got {list(self.models)!r}")

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers' names, cheap to strong: ``"weak"`` … ``"strong"``, and what is between by its number."""
        return ("weak", *(f"tier-{number}" for number in range(2, len(self.models))), "strong")

    @property
    def strong(self) -> str:
        """The strongest model."""
        return self.models[-1]

    @property
    def weak(self) -> str:
        """The cheapest model."""
        return self.models[0]

    def of(self, tier: Tier) -> str:
        """Return the model of ``tier``."""
        return self.models[self.tiers.index(tier)]


class ModelPair(Ladder):
    """The ladder of two."""

    __slots__ = ()

    def __init__(self, strong: str, weak: str) -> None:
        super().__init__((weak, strong))

    def __repr__(self) -> str:
        return f"ModelPair(strong={self.strong!r}, weak={self.weak!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelPair, (self.strong, self.weak)


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
