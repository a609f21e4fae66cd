"""litellm's auto-router heuristics as routers, run from the installed package: what others ship, on the same prompts.

Version 1 counts keywords and gives a score; version 2 estimates from UltraFeedback's statistics of a prompt's kind how
likely its simplest tier is to do. Both are called below litellm's public API, which only answers through a deployment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from routellm_core.routers import Router
from routellm_core.types import FloatArray

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no price list from the network

__all__ = ["LiteLLMHeuristicV1", "LiteLLMHeuristicV2"]


class LiteLLMHeuristicV1(Router):
    """The keyword scorer (classifier type ``heuristic``)."""

    name: ClassVar[str] = "litellm auto-router v1"

    def __init__(self) -> None:
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

        context: Any = None  # only needed to dispatch
        self._router = ComplexityRouter("auto", context, derive_savings_baseline=False)

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return the scorer's own score, squeezed into (0, 1); shape (n,)."""
        raw = np.array([self._router.classify(prompt)[1] for prompt in prompts], dtype=np.float64)
        return 1.0 / (1.0 + np.exp(-raw))


class LiteLLMHeuristicV2(Router):
    """The tier predictor (classifier type ``heuristic_v2``) with its shipped statistics."""

    name: ClassVar[str] = "litellm auto-router v2"

    def __init__(self) -> None:
        from litellm.router_strategy.complexity_router import tier_predictor

        self._predictor = tier_predictor.TierSuccessPredictor(tier_predictor.resolve_tier_artifact("ultrafeedback"))

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return the probability that the simplest tier fails, shape (n,)."""
        from litellm.router_strategy.complexity_router.complexity_router import classify_prompt

        found = [self._predictor.predict(prompt, classify_prompt(prompt)).probabilities[1] for prompt in prompts]
        return 1.0 - np.array(found, dtype=np.float64)
