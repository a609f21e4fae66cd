"""``WireBackend``: calls a model and answers in bytes, as a server relays them.

OpenAI-compatible models are relayed to directly; every other provider goes through litellm, whose objects are written
out in the same form.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic_core import to_json

from routellm_core.backends.base import ModelSettings
from routellm_core.backends.litellm_wire import dropped_fields, send_through_litellm
from routellm_core.providers.endpoints import OpenAIEndpoint, openai_endpoint
from routellm_core.providers.errors import refusal
from routellm_core.providers.events import Emptiness, Events, Progress, emptiness, whole_answer
from routellm_core.providers.http import ModelClient

Operation: TypeAlias = Literal["chat/completions", "completions", "responses", "embeddings"]

_REMEMBERED_MODELS = 16


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """A whole answer.

    Attributes:
        content: its JSON, as the client gets it.
        usage: the tokens that the model counted, as it names them; empty where it did not.
        emptiness: why it holds nothing; None where it holds something.
    """

    content: bytes
    usage: Mapping[str, Any]
    emptiness: Emptiness | None = None


class WireBackend:
    """Calls models for one operation of OpenAI's API.

    Args:
        operation: the operation's path.
        client: the connections to OpenAI-compatible models.
    """

    def __init__(self, operation: Operation, client: ModelClient) -> None:
        self._operation = operation
        self._client = client
        # Where the last models are, by identity: settings hold mappings and so have no hash. They are kept beside the
        # endpoint, so that no other settings can take their identity.
        self._endpoints: dict[int, tuple[ModelSettings, OpenAIEndpoint | None]] = {}

    def dropped_fields(self, model: ModelSettings, parameters: Mapping[str, Any]) -> list[str]:
        """Return the fields of a request that a model does not get, since it would not understand them."""
        return dropped_fields(model, self._operation, parameters) if self._endpoint(model) is None else []

    async def acomplete(
        self, model: ModelSettings, parameters: Mapping[str, Any]
    ) -> WireAnswer | AsyncIterator[Events]:
        """Call ``model`` once.

        Returns:
            the answer, or, where ``parameters`` say ``stream``, its events as they come.

        Raises:
            BackendError: the model failed or answered with something else.
        """
        endpoint = self._endpoint(model)
        if endpoint is None:
            answer = await send_through_litellm(model, self._operation, parameters)
            return self._checked(answer, model.model) if isinstance(answer, bytes) else answer
        sent = await self._client.asend(model, endpoint, self._operation, parameters)
        return self._checked(sent, model.model) if isinstance(sent, bytes) else sent

    def _endpoint(self, model: ModelSettings) -> OpenAIEndpoint | None:
        if id(model) not in self._endpoints:
            if len(self._endpoints) >= _REMEMBERED_MODELS:
                self._endpoints.clear()
            self._endpoints[id(model)] = model, openai_endpoint(model)
        return self._endpoints[id(model)][1]

    def _checked(self, content: bytes, label: str) -> WireAnswer:
        body = whole_answer(content, self._operation, label)
        nothing = None if self._operation == "embeddings" else emptiness([body])
        if self._operation == "responses" and body.get("status") == "failed":
            raise refusal(200, {}, to_json(body), label)
        if self._operation == "chat/completions" and _complete_choices(body["choices"]):
            content = to_json(body)
        usage = body.get("usage")
        return WireAnswer(content, usage if isinstance(usage, dict) else {}, nothing)


class WireReading:
    """What answers in bytes say.

    Args:
        operation: the operation's path.
    """

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def is_content(self, piece: Events) -> bool:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        progress = Progress(self._operation)
        for data in piece.data:
            progress.note(data)
        return progress.has_content

    def emptiness(self, answer: WireAnswer | list[Events]) -> Emptiness | None:
        """See :class:`~routellm_core.backends.resilience.Reading`."""
        if isinstance(answer, WireAnswer):
            return answer.emptiness
        return emptiness([data for events in answer for data in events.data])


def _complete_choices(choices: Any) -> bool:
    """Add the keys that OpenAI's schema requires and some servers leave out; return whether any was missing."""
    was_incomplete = False
    for choice in choices if isinstance(choices, list) else []:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        for owner, key in ((choice, "logprobs"), (message, "refusal"), (message, "content")):
            if key not in owner:
                owner[key] = None
                was_incomplete = True
    return was_incomplete
