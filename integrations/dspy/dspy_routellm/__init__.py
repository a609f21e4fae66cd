"""DSPy programs that route: each call, or each program run, goes to the strong or the weak LLM."""

from __future__ import annotations

from dspy_routellm.engine import AsyncRoutingEngine, RoutingEngine
from dspy_routellm.lm import RouteLLM
from dspy_routellm.measuring import Measurement, measure
from dspy_routellm.routed import Routed
from dspy_routellm.stamps import calls_by_model, routing_of
from routellm_core.calibration import MeasuredExample

__all__ = [
    "AsyncRoutingEngine",
    "MeasuredExample",
    "Measurement",
    "RouteLLM",
    "Routed",
    "RoutingEngine",
    "calls_by_model",
    "measure",
    "routing_of",
]
