"""What a router is: prompts in, scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from routellm_core.errors import ScoringError
from routellm_core.types import FloatArray, ModelPair

__all__ = ["Router", "checked_scores"]


class Router(ABC):
    """Estimates, for each prompt, how likely the strong model is to strictly beat the weak one.

    A router knows nothing of thresholds, messages or the models that are dispatched to. Everything goes through
    :meth:`score`, which takes a batch: evaluation, calibration, a server's micro-batches and a single chat call alike.

    Subclasses take keyword-only options in their constructor (the options of the configuration file) and implement
    :meth:`score`, which may be called from several threads at once. Pickling keeps the class and its options only.
    """

    _construction: tuple[tuple[Any, ...], dict[str, Any]]

    name: ClassVar[str]
    """The registered name, such as ``"mf"``."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Remember how the router was built, which is all that its pickle holds."""
        router = super().__new__(cls)
        router._construction = (arguments, options)
        return router

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled router is its class and options: loaded weights are dropped and read again where it arrives.
        arguments, options = self._construction
        return _construct, (type(self), arguments, options)

    @abstractmethod
    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return P(strong strictly beats weak) for each prompt.

        Args:
            prompts: n prompts; may be empty, may hold duplicates and texts of any length.

        Returns:
            shape (n,), floating, each in [0, 1], in the order of ``prompts``.

        Raises:
            ScoringError: the scores cannot be computed (an embedding service is down, memory ran out …).
        """

    @property
    def fingerprint(self) -> str:
        """A string that changes whenever the scores may change: name, checkpoint hash, options that matter.

        Score caches and calibration files are keyed by it.
        """
        return self.name

    @property
    def is_stochastic(self) -> bool:
        """Whether scoring the same prompt again may give another score; such scores are never cached."""
        return False

    @property
    def prompt_limit(self) -> str:
        """How a long prompt is treated, in one sentence."""
        return "Prompts of any length are scored whole."

    @property
    def reference_quantiles(self) -> FloatArray | None:
        """Score quantiles at 0, 1/1000, …, 1 over the checkpoint's reference traffic, shape (1001,), or None."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return facts for ``routellm doctor`` and logs: checkpoint, embedder, device, scored pair and so on."""
        return {"router": self.name, "prompt_limit": self.prompt_limit}

    def calculate_strong_win_rate(self, prompt: str) -> float:
        """Score one prompt (RouteLLM's name for it)."""
        return float(checked_scores(self, [prompt])[0])

    def route(self, prompt: str, threshold: float, routed_pair: ModelPair) -> str:
        """Return the model for one prompt (RouteLLM's signature): strong when ``score >= threshold``."""
        return routed_pair.strong if self.calculate_strong_win_rate(prompt) >= threshold else routed_pair.weak


def _construct(router: type[Router], arguments: tuple[Any, ...], options: dict[str, Any]) -> Router:
    return router(*arguments, **options)


def checked_scores(router: Router, prompts: Sequence[str]) -> FloatArray:
    """Score ``prompts`` and verify the result, so that no router can make a silent wrong decision.

    Returns:
        shape (n,), float64, each in [0, 1].

    Raises:
        ScoringError: the router raised one, or returned a wrong shape, NaN, an infinity or a value outside [0, 1].
    """
    if isinstance(prompts, str):
        raise TypeError("prompts must be a sequence of strings, not one string; wrap it in a list: [prompt]")
    scores = np.asarray(router.score(prompts), dtype=np.float64)
    if scores.shape != (len(prompts),):
        raise ScoringError(
            f"router {router.name!r} returned scores of shape {scores.shape} for {len(prompts)} prompts; "
            f"score() must return one float per prompt, shape ({len(prompts)},)"
        )
    valid = np.isfinite(scores) & (scores >= 0.0) & (scores <= 1.0)
    if not valid.all():
        first = int(np.flatnonzero(~valid)[0])
        raise ScoringError(
            f"router {router.name!r} returned {scores[first]} for prompt {first}; a score is a probability in [0, 1]"
        )
    return scores
