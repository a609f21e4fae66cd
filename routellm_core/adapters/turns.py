"""From a framework's call to a decision: which turn is this, and what was decided for it. No model is called here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from routellm_core.adapters.stamps import is_record
from routellm_core.backends.cooldown import CoolDowns
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import StrongShare, requested_model
from routellm_core.errors import UnknownRouterError
from routellm_core.providers.settings import ModelSettings
from routellm_core.selector import ModelSelector
from routellm_core.turns import Turn
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["AdapterRequest", "Routing", "selection_options"]

M = TypeVar("M")


@dataclass(frozen=True)
class AdapterRequest:
    """One call of a framework, as far as a decision needs it.

    Attributes:
        turn: the conversation, whose it is and what it needs; see :meth:`routellm_core.turns.Turn.of`. Where the
            framework knows the question, the conversation is that question alone and the parameters hold the rest.
        model: the caller's wish: ``"strong"``, ``"weak"``, a model's name, ``"router-mf-0.116"``, or None.
        threshold: of this call, or None.
        records: what was recorded on the answers that followed the user's last message, the latest first.
    """

    turn: Turn
    model: str | None = None
    threshold: float | str | StrongShare | None = None
    records: Sequence[Any] = ()


@dataclass(frozen=True)
class Routing(Generic[M]):
    """What all calls of one routed model share.

    Attributes:
        selector: decides; may be shared with others.
        pair: the names of the models that answer, which a shared selector may know under other names.
        models: the framework's models, by tier.
        settings: what is known of them: names, limits, prices, time-outs.
        policy: what to do when a model fails.
        cool_downs: which of the models are failing just now.
        threshold: in place of the selector's, or None.
        given: the options that this was built from.
    """

    selector: ModelSelector
    pair: ModelPair
    models: Mapping[Tier, M]
    settings: Mapping[Tier, ModelSettings]
    policy: ResiliencePolicy
    cool_downs: CoolDowns
    threshold: float | StrongShare | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_other(self) -> bool:
        """Whether the other model is asked when one fails."""
        return self.policy.fallback and self.models["strong"] is not self.models["weak"]

    @property
    def effective_threshold(self) -> float | StrongShare | None:
        """The threshold of calls that wish for nothing."""
        return self.selector.threshold if self.threshold is None else self.threshold

    def select(self, request: AdapterRequest) -> RoutingDecision:
        """Decide.

        Raises:
            RoutingError: the request cannot be routed, or wishes for a model that is not here.
            ScoringError: scoring failed and the selector's policy is to raise.
        """
        options = self._options(request)
        return self.kept(request) or self._named(self.selector.select(request.turn, **options))

    async def aselect(self, request: AdapterRequest) -> RoutingDecision:
        """Decide as :meth:`select` does without blocking the event loop; concurrent prompts are scored together."""
        options = self._options(request)
        return self.kept(request) or self._named(await self.selector.aselect(request.turn, **options))

    def select_batch(self, requests: Sequence[AdapterRequest]) -> list[RoutingDecision]:
        """Decide for many; those that share their options are scored together.

        Raises:
            RoutingError: one of them cannot be routed.
        """
        decided: dict[int, RoutingDecision] = {}
        groups: list[tuple[dict[str, Any], list[int]]] = []
        for index, request in enumerate(requests):
            options = self._options(request)
            if kept := self.kept(request):
                decided[index] = kept
                continue
            group = next((members for known, members in groups if known == options), None)
            if group is None:
                groups.append((options, [index]))
            else:
                group.append(index)
        for options, members in groups:
            made = self.selector.select_batch([requests[index].turn for index in members], **options)
            decided.update(zip(members, map(self._named, made), strict=True))
        return [decided[index] for index in range(len(requests))]

    def kept(self, request: AdapterRequest) -> RoutingDecision | None:
        """Return the decision for the model that is answering the turn already, as its answers say themselves.

        They travel with the conversation (through checkpoints and files), where the selector's memory stays here.
        """
        if "force" in self._options(request):
            return None
        record = next(filter(self._is_own, request.records), None)
        if record is None:
            return None
        tier = record["tier"]
        return RoutingDecision(
            tier=tier,
            model=self.pair.of(tier),
            score=record.get("score"),
            threshold=record.get("threshold"),
            router=record["router"],
            reason=f"the turn stays on the {tier} model, which is answering it",
        )

    def _options(self, request: AdapterRequest) -> dict[str, Any]:
        limit = self.threshold if request.threshold is None else request.threshold
        return selection_options(request.model, self.selector, self.pair, threshold=limit)

    def _named(self, decision: RoutingDecision) -> RoutingDecision:
        return replace(decision, model=self.pair.of(decision.tier))

    def _is_own(self, record: Any) -> bool:
        if not is_record(record) or record["router"] != self.selector.router.name:
            return False
        # Another pair's answer may stand in a conversation that several agents share.
        is_known = record["tier"] in self.pair.tiers
        return is_known and ("inner" in record or record["model"] == self.pair.of(record["tier"]))


def selection_options(
    model: Any, selector: ModelSelector, pair: ModelPair, *, threshold: float | str | StrongShare | None = None
) -> dict[str, Any]:
    """Turn the ``model=`` of a single call into options of :meth:`ModelSelector.select`.

    Args:
        model: None or ``"auto"``; ``"strong"``, ``"weak"`` or the name of one of the two models, which skips scoring;
            or ``"router-mf-0.3"``, which sets the threshold of this call.
        selector: the selector that will decide.
        pair: the names of the models that answer, which a shared selector may know under other names.
        threshold: the threshold of calls that wish for nothing, or None for the selector's.

    Raises:
        RoutingError: none of these.
        UnknownRouterError: the name of a router that the selector does not have.
    """
    wish = requested_model(model, pair)
    own = selector.router.name
    if wish.router not in (None, own):
        raise UnknownRouterError(f"model={model!r} asks for the router {wish.router!r}; this was built with {own!r}")
    if wish.force is not None:
        return {"force": wish.force}
    limit = threshold if wish.threshold is None else wish.threshold
    return {} if limit is None else {"threshold": limit}
