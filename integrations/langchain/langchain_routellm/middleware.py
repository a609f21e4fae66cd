"""``RouteLLMMiddleware``: routing for ``create_agent``, one decision for each human turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables.config import ensure_config

from langchain_routellm.calls import failure
from langchain_routellm.configuration import chosen_options
from langchain_routellm.errors import langchain_errors
from langchain_routellm.messages import MessageReading, core_extract, request_of, without_foreign_state
from langchain_routellm.rungs import Rung, build_rung, is_named, mapped, routes_itself, settings_of
from langchain_routellm.stamps import Stamp
from routellm_core.adapters import (
    RECORD_KEY,
    ROUTING_OPTIONS,
    Attempt,
    RoutedCall,
    Routing,
    build_routing,
    check_option_names,
    is_record,
    stood_in,
)
from routellm_core.decision import requested_threshold
from routellm_core.types import RoutingDecision

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
    from langchain.agents.middleware.types import PrivateStateAttr
except ModuleNotFoundError as missing:
    raise ImportError(
        "RouteLLMMiddleware needs the package 'langchain', which is not installed. "
        "Install it with: pip install 'langchain-routellm[agents]'"
    ) from missing

__all__ = ["RouteLLMMiddleware"]

_STATE_KEY = "langchain_routellm_decision"
_REMEMBERED_FAILURES = 64


class _RoutingState(AgentState[Any]):
    """An agent's state with the turn's decision, which neither input nor output of the agent show."""

    langchain_routellm_decision: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class RouteLLMMiddleware(AgentMiddleware[_RoutingState, Any, Any]):
    """Sends each human turn of an agent to the strong or the weak model.

    The agent binds its tools, and chooses its way of structured output, for the model that is chosen. The decision is
    made when a turn begins and kept in the agent's (checkpointed) state, so that a tool loop and what follows an
    interrupt stay with one model. When that model fails, the other one is asked, as :class:`RouteLLMChat` does, and
    what the turn still needs comes from the one that answered.

    ``ModelFallbackMiddleware`` may stand before or after it: the backup and the other tier are both asked.

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
        self.routing: Routing[Rung] = build_routing(
            given,
            build_model=lambda tier, spec: build_rung(tier, spec, given),
            settings_of=settings_of,
            core_extract=core_extract,
        )
        self.tools = []
        # Calls whose two models failed, by the identity of their state, and the model that was asked for: an outer
        # middleware that has a backup comes again with the same state and another model.
        self._failed: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def before_agent(self, state: _RoutingState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        """Decide for the turn that begins."""
        return {_STATE_KEY: self.routing.select(_request(state["messages"])).as_dict()}

    async def abefore_agent(self, state: _RoutingState, runtime: Any) -> dict[str, Any]:  # noqa: ARG002
        """Do as :meth:`before_agent` does, without blocking the event loop."""
        return {_STATE_KEY: (await self.routing.aselect(_request(state["messages"]))).as_dict()}

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the turn's model and, where that is called for, the other one."""
        if self._is_backup(request):
            response = handler(request)
            self._failed.pop(id(request.state), None)
            return _backed_up(response, self._decision(request))

        def attempt(made: Attempt) -> ModelResponse[Any]:
            stamp = Stamp(made.decision, is_nested=routes_itself(self.routing.models[made.tier]))
            try:
                return _stamped(handler(self._routed(request, made, stamp)), stamp)
            except Exception as error:
                raise failure(self.routing, made.tier, error) from error.__cause__

        with langchain_errors(), self._noting_failure(request):
            return self._call(request).run(attempt)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do as :meth:`wrap_model_call` does, without blocking the event loop."""
        if self._is_backup(request):
            response = await handler(request)
            self._failed.pop(id(request.state), None)
            return _backed_up(response, self._decision(request))

        async def attempt(made: Attempt) -> ModelResponse[Any]:
            stamp = Stamp(made.decision, is_nested=routes_itself(self.routing.models[made.tier]))
            try:
                return _stamped(await handler(self._routed(request, made, stamp)), stamp)
            except Exception as error:
                raise failure(self.routing, made.tier, error) from error.__cause__

        with langchain_errors(), self._noting_failure(request):
            return await self._call(request).arun(attempt)

    def _call(self, request: ModelRequest[Any]) -> RoutedCall:
        asked = _request(request.messages, {"tools": [*request.tools]} if request.tools else {})
        retried = [tier for tier in self.routing.pair.tiers if is_named(self.routing.given.get(tier))]
        kept = self.routing.kept(asked)
        decision = kept or self._decision(request)
        return RoutedCall(self.routing, asked, MessageReading(), decision=decision, retried=retried)

    def _decision(self, request: ModelRequest[Any]) -> RoutingDecision:
        record: Any = request.state.get(_STATE_KEY)
        if is_record(record):
            return RoutingDecision(**record)
        return self.routing.select(_request(request.messages))  # an agent that was entered in the middle

    def _is_backup(self, request: ModelRequest[Any]) -> bool:
        """Return whether an outer middleware asks another model, after both of these failed for the same request."""
        state, model = self._failed.get(id(request.state), (None, None))
        return state is request.state and model is not request.model

    @contextmanager
    def _noting_failure(self, request: ModelRequest[Any]) -> Iterator[None]:
        self._failed.pop(id(request.state), None)
        try:
            yield
        except Exception:
            self._failed[id(request.state)] = (request.state, request.model)
            while len(self._failed) > _REMEMBERED_FAILURES:
                self._failed.popitem(last=False)
            raise

    def _routed(self, request: ModelRequest[Any], made: Attempt, stamp: Stamp) -> ModelRequest[Any]:
        def watched(model: BaseChatModel) -> BaseChatModel:
            metadata = {**(model.metadata or {}), RECORD_KEY: made.decision.as_dict(), "routing_tier": made.tier}
            return model.model_copy(update={"metadata": metadata, "callbacks": stamp.callbacks(model.callbacks)})

        messages = without_foreign_state(request.messages) if made.is_foreign else request.messages
        model: Any = mapped(self.routing.models[made.tier], watched)
        return request.override(model=model, messages=messages)


def _stamped(response: Any, stamp: Stamp) -> Any:
    """Write the decision on the answer; where a backup of another middleware gave it, the record says so."""
    for index, message in enumerate(response.result):
        if isinstance(message, AIMessage):
            cause = f"{stamp.decision.model} failed"
            response.result[index] = (
                stamp.on(message) if stamp.is_written else _stood_in(message, stamp.decision, cause)
            )
    return response


def _backed_up(response: Any, decision: RoutingDecision) -> Any:
    for index, message in enumerate(response.result):
        if isinstance(message, AIMessage):
            response.result[index] = _stood_in(message, decision, "both models failed")
    return response


def _stood_in(message: AIMessage, decision: RoutingDecision, cause: str) -> AIMessage:
    name = str(message.response_metadata.get("model_name") or "another model")
    record = stood_in(decision, name, cause)
    return message.model_copy(update={"response_metadata": {**message.response_metadata, RECORD_KEY: record}})


def _request(messages: Any, parameters: Any = None) -> Any:
    config = ensure_config()
    options, config = chosen_options(config, {}, ROUTING_OPTIONS)
    threshold = requested_threshold(options.get("threshold"), options.get("strong_share"))
    return request_of(messages, config, parameters or {}, threshold=threshold)
