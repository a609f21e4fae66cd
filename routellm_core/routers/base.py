"""What a router is: prompts in, scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, SupportsIndex

import numpy as np

from routellm_core.errors import ScoringError
from routellm_core.types import FloatArray, ModelPair

__all__ = ["Router", "checked_scores"]


class Router(ABC):
    """Estimates, for each prompt, how likely the strong model is to strictly beat the weak one.

    A router knows nothing of thresholds, messages or the models that are dispatched to. Everything goes through
    :meth:`score`, which takes a batch: evaluation, calibration, a server's micro-batches and a single chat call alike.

    Subclasses take keyword-only options in their constructor (the options of the configuration file), if any, and
    implement :meth:`score`, which may be called from several threads at once.

    A router that :func:`load_router` built pickles as its class and options: weights are read again where it arrives.
    One that its class built pickles like any object, with what it holds. Copies share what is loaded.
    """

    name: ClassVar[str]
    """The registered name, such as ``"mf"``; a router that is loaded under another name has that name."""

    loaded_from: tuple[str, Mapping[str, Any]] | None = None
    """The name and options that :func:`load_router` built it from; None for one that its class built."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self.loaded_from is None:
            return super().__reduce_ex__(protocol)
        from routellm_core.routers.registry import build_router

        # By class, not by name: another process need not have registered it.
        return build_router, (type(self), *self.loaded_from)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        # Frameworks copy what holds a router; gigabytes of weights and the embedder's connections are shared.
        return self.__copy__()

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
