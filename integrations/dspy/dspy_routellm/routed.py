"""``Routed``: a program that decides once per call which of two LMs runs it."""

from __future__ import annotations

import logging
from typing import Any

import dspy
from dspy.predict.parameter import Parameter

from dspy_routellm.fields import input_text
from dspy_routellm.routing import ROUTING_OPTIONS, Routing
from routellm_core import Router, RoutingDecision
from routellm_core.calibration import CalibrationSource
from routellm_core.errors import ConfigError
from routellm_core.types import Tier

__all__ = ["Routed"]

logger = logging.getLogger(__name__)


class RoutingParameter(Parameter):  # type: ignore[misc]
    """A program's routing as a part of what ``program.save`` keeps: its threshold, which belongs to one router.

    Args:
        routing: the routing.
    """

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    def reset(self) -> None:
        """Do nothing: an optimizer's fresh copy of a program is routed as the program is."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:  # noqa: ARG002 (DSPy's signature)
        """Return the threshold, and the router that it is for."""
        return {"threshold": self.routing.threshold, "router": self.routing.router.fingerprint}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take a saved threshold over, where it is for the same router."""
        if not state:  # saved before thresholds were
            return
        if state["router"] != self.routing.router.fingerprint:
            logger.warning(
                "the saved threshold is for another router than %r; it is left out", self.routing.router.name
            )
            return
        self.routing = self.routing.changed(threshold=state["threshold"])


class Routed(dspy.Module):
    """Runs a program with the strong or the weak LM, decided by the program's inputs.

    ::

        program = Routed(dspy.ReAct("question -> answer", tools=[…]), "openai/gpt-5.4", "openai/gpt-5.4-nano")
        program(question="…")

    All calls of one run go to one LM, under its own name: usage, cost and history are that LM's. A predictor with an LM
    of its own (``set_lm``) keeps it. There is no fallback, for a program's tools may have acted already; the LMs retry.

    Args:
        program: the program.
        strong_lm: the strong LM: a ``dspy.LM``, a litellm name, or settings; see :class:`~dspy_routellm.RouteLLM`.
        weak_lm: likewise.
        router: a router's name, or a router; by default the configured one.
        threshold: in [0, 1], or a share of strong runs such as ``"50%"``; by default the configured one.
        strong_share: the same share as a number in [0, 1].
        calibration: see :class:`~dspy_routellm.RouteLLM`; :func:`~dspy_routellm.measure` makes one for this program.
        route_fields: the inputs to route on, such as ``["question"]``; by default the texts that carry the request (not
            lists, nor what is named like ``context`` or ``passages``).
        no_prompt_tier: the tier of a run without any text.
        on_scoring_error: where to go when the score cannot be computed.
        api_base: base URL for LMs given by their name.
        api_key: key, likewise.

    Attributes:
        program: the program, which optimizers find and tune.

    Raises:
        ConfigError: ``program`` is no module, or an option of a wrong type or value.
        InvalidThresholdError: a threshold or share out of range.
    """

    def __init__(
        self,
        program: dspy.Module,
        strong_lm: Any = None,
        weak_lm: Any = None,
        *,
        router: Router | str | None = None,
        threshold: float | str | None = None,
        strong_share: float | None = None,
        calibration: CalibrationSource | None = None,
        route_fields: list[str] | tuple[str, ...] | None = None,
        no_prompt_tier: Tier | None = None,
        on_scoring_error: str | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(program, dspy.Module):
            raise ConfigError(f"program must be a dspy.Module, got {type(program).__name__}")
        self.program = program
        routing = Routing(
            {
                "router": router,
                "threshold": threshold,
                "strong_share": strong_share,
                "calibration": calibration,
                "strong": strong_lm,
                "weak": weak_lm,
                "route_fields": route_fields,
                "no_prompt_tier": no_prompt_tier,
                "on_scoring_error": on_scoring_error,
                "api_base": api_base,
                "api_key": api_key,
            }
        )
        self.routing_parameter = RoutingParameter(routing)

    @property
    def routing(self) -> Routing:
        """The router, the models and the policy."""
        return self.routing_parameter.routing

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an option of the routing (``threshold``, ``weak_lm`` …) takes effect, for this program.

        Raises:
            RouteLLMError: the option is mistyped, out of range or contradictory; nothing has changed then.
        """
        option = name.removesuffix("_lm")
        if option in ROUTING_OPTIONS:
            self.routing_parameter = RoutingParameter(self.routing.changed(**{option: value}))
        else:
            super().__setattr__(name, value)

    @property
    def strong_lm(self) -> dspy.LM:
        """The strong LM."""
        return self.routing.models["strong"].lm

    @property
    def weak_lm(self) -> dspy.LM:
        """The weak LM."""
        return self.routing.models["weak"].lm

    @property
    def threshold(self) -> float:
        """The threshold in [0, 1]; assign another one, also as ``"50%"``, to change it for this program."""
        return self.routing.threshold

    @property
    def model_counts(self) -> dict[str, int]:
        """Runs per model so far, of this program and its copies."""
        return dict(self.routing.counts)

    def load_state(self, state: dict[str, Any], **options: Any) -> None:
        """Load a saved program, with its threshold where it was saved."""
        super().load_state({"routing_parameter": {}, **state}, **options)

    def decide(self, **inputs: Any) -> RoutingDecision:
        """Return the decision for a program call, without running it."""
        return self.routing.select(input_text(inputs, self.routing.route_fields))

    def forward(self, **inputs: Any) -> Any:
        """Decide, and run the program with the chosen LM.

        Returns:
            the program's prediction; :func:`~dspy_routellm.routing_of` tells the decision.

        Raises:
            UnsupportedPromptError: none of ``route_fields`` is among the inputs.
        """
        decision = self.decide(**inputs)
        with dspy.context(lm=self.routing.models[decision.tier].lm):
            return self._decided(self.program(**inputs), decision)

    async def aforward(self, **inputs: Any) -> Any:
        """Do as :meth:`forward` does, without blocking the event loop."""
        decision = await self.routing.aselect(input_text(inputs, self.routing.route_fields))
        with dspy.context(lm=self.routing.models[decision.tier].lm):
            return self._decided(await self.program.acall(**inputs), decision)

    def _decided(self, prediction: Any, decision: RoutingDecision) -> Any:
        self.routing.count(decision.model, decision.tier)
        if isinstance(prediction, dspy.Prediction):
            prediction._routing = decision  # an attribute with an underscore is no output field
        return prediction
