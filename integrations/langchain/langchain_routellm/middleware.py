"""``RouteLLMMiddleware``: routing for ``create_agent``, one decision for each human turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables.config import ensure_config

from langchain_routellm.failures import awith_fallback, with_fallback
from langchain_routellm.options import ROUTING_OPTIONS, build_turn_router, resolved
from langchain_routellm.stamps import stamped
from langchain_routellm.turns import Turn
from routellm_core.adapters import check_option_names
from routellm_core.errors import RouteLLMError
from routellm_core.types import RoutingDecision, Tier

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
    from langchain.agents.middleware.types import PrivateStateAttr
except ModuleNotFoundError as missing:
    raise ImportError(
        "RouteLLMMiddleware needs the package 'langchain', which is not installed. "
        "Install it with: pip install 'langchain-routellm[agents]'"
    ) from missing
from typing import NotRequired

__all__ = ["RouteLLMMiddleware"]


class _RoutingState(AgentState[Any]):
    """An agent's state with the turn's decision, which neither input nor output of the agent show."""

    routing: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class RouteLLMMiddleware(AgentMiddleware[_RoutingState, Any, Any]):
    """Sends each human turn of an agent to the strong or the weak model.

    The agent binds its tools, and chooses its way of structured output, for the model that is chosen. The decision is
    made when a turn begins and kept in the agent's (checkpointed) state, so that a tool loop and what follows an
    interrupt stay with one model. When that model fails in a way that may pass, the other one is asked for that call.

    ::

        agent = create_agent(strong, tools, middleware=[RouteLLMMiddleware("mf", 0.116, strong=strong, weak=weak)])

    Args:
        router: as for :class:`~langchain_routellm.RouteLLMChat`, and so are the other routing options: ``threshold``,
            ``strong_share``, ``strong``, ``weak``, ``selector``, ``extract``, ``sticky``, ``memory``,
            ``no_prompt_tier``, ``on_scoring_error`` and ``resilience``.

    Raises:
        RouteLLMError: an option is unknown, mistyped or contradictory, or the router cannot be loaded.
        ImportError: langchain is not installed (at import).
    """

    state_schema = _RoutingState

    def __init__(self, router: Any = None, threshold: Any = None, **options: Any) -> None:
        super().__init__()
        given = {"router": router, "threshold": threshold, **options}
        check_option_names(given, ROUTING_OPTIONS, subject=type(self).__name__)
        ready = resolved(given)
        self._models: dict[Tier, BaseChatModel] = {"strong": ready["strong"], "weak": ready["weak"]}
        self._turn_router = build_turn_router(ready)
        self.tools = []

    def before_agent(self, state: _RoutingState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        """Decide for the turn that begins."""
        return {"routing": self._turn_router.select(_turn(state)).as_dict()}

    async def abefore_agent(self, state: _RoutingState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        """Do as :meth:`before_agent` does, without blocking the event loop."""
        return {"routing": (await self._turn_router.aselect(_turn(state))).as_dict()}

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the turn's model, or the other one when it fails in a way that may pass."""

        def call(decision: RoutingDecision) -> ModelResponse[Any]:
            return _with_decision(handler(self._routed(request, decision)), decision)

        return with_fallback(self._turn_router, self._decision(request), call)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do as :meth:`wrap_model_call` does, without blocking the event loop."""

        async def call(decision: RoutingDecision) -> ModelResponse[Any]:
            return _with_decision(await handler(self._routed(request, decision)), decision)

        return await awith_fallback(self._turn_router, self._decision(request), call)

    def _decision(self, request: ModelRequest[Any]) -> RoutingDecision:
        record: Any = request.state.get("routing")
        if record is None:
            raise RouteLLMError("the agent's state has no routing decision; was RouteLLMMiddleware.before_agent run?")
        return RoutingDecision(**record)

    def _routed(self, request: ModelRequest[Any], decision: RoutingDecision) -> ModelRequest[Any]:
        model = self._models[decision.tier]
        metadata = {**(model.metadata or {}), "routing": decision.as_dict(), "routing_tier": decision.tier}
        return request.override(model=model.model_copy(update={"metadata": metadata}))


def _turn(state: _RoutingState) -> Turn:
    return Turn.of(state["messages"], ensure_config(), None)


def _with_decision(response: ModelResponse[Any], decision: RoutingDecision) -> ModelResponse[Any]:
    response.result = [
        stamped(message, decision) if isinstance(message, AIMessage) else message for message in response.result
    ]
    return response
