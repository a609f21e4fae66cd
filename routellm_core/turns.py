"""What one request says beside its text: whose conversation it is, what it refers to, what it needs of a model."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from routellm_core.capabilities import Needs, needs_of
from routellm_core.memory import ConversationMemory
from routellm_core.prompts import as_messages, last_turn, message_text, opening, user_text
from routellm_core.types import ChatMessage, Tier

_SESSION_HEADERS = ("x-session-id", "x-session-affinity")
_SESSION_FIELDS = ("session_id", "thread_id", "conversation_id")
_CLAUDE_CODE_SESSION = re.compile(r"_session_([\w-]{8,})$")  # at the end of metadata.user_id


@dataclass(frozen=True)
class TurnContext:
    """What a request says beside its text.

    Attributes:
        session: the conversation's id; None where the caller has none.
        client: whose conversation it is, such as a client's key; the same id of two clients means two conversations.
        state: what only the provider holds that gave it out: ids of earlier responses, files and containers.
    """

    session: str | None = None
    client: str = ""
    state: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, Any],
        *,
        session: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: str = "",
    ) -> TurnContext:
        """Read a request.

        The conversation's id is the first of: ``session``; the headers ``x-session-id`` and ``x-session-affinity``;
        ``conversation``, ``prompt_cache_key`` and, of ``metadata``, ``session_id``, ``thread_id`` or
        ``conversation_id`` among the parameters. ``user`` is a person, not a conversation.

        Args:
            parameters: of OpenAI's chat completions or responses.
            session: the conversation's id, where the caller was given one.
            headers: the request's, by names in small letters.
            client: whose conversation it is.
        """
        found = (session, *((headers or {}).get(name) for name in _SESSION_HEADERS), *_named_sessions(parameters))
        given = next((str(value) for value in found if value), None)
        return cls(given, client, tuple(dict.fromkeys(_provider_state(parameters))))


def _named_sessions(parameters: Mapping[str, Any]) -> Iterator[Any]:
    conversation = parameters.get("conversation")
    yield conversation.get("id") if isinstance(conversation, Mapping) else conversation
    yield parameters.get("prompt_cache_key")
    metadata = parameters.get("metadata")
    if isinstance(metadata, Mapping):
        yield from (metadata.get(name) for name in _SESSION_FIELDS)
        found = _CLAUDE_CODE_SESSION.search(str(metadata.get("user_id") or ""))
        yield found and found[1]


def _provider_state(parameters: Mapping[str, Any]) -> Iterator[str]:
    conversation = parameters.get("conversation")
    for value in (
        parameters.get("previous_response_id"),
        conversation.get("id") if isinstance(conversation, Mapping) else conversation,
        parameters.get("container"),
        *(tool.get("container") for tool in _mappings(parameters, "tools")),
    ):
        if isinstance(value, str) and value:
            yield value
    for name in ("messages", "input"):
        yield from (value for key, value in _leaves(parameters.get(name)) if key in ("file_id", "container_id"))
    references = (item for item in _mappings(parameters, "input") if item.get("type") == "item_reference")
    yield from (str(item.get("id")) for item in references)


def _leaves(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the strings in nested values, each with the key that it stands under."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str):
                yield str(key), item
            else:
                yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)


_SIGNATURES = frozenset({"thought_signature", "signature", "encrypted_content"})
_MARK_NAMES = "id|call_id|container_id|file_id|thought_signature|signature|encrypted_content"
# A quotation mark within a text is escaped, so that what a model writes about ids is not taken for one.
_MARKS = re.compile(rb'"(?:' + _MARK_NAMES.encode() + rb')"\s*:\s*"((?:[^"\\]|\\.){1,262144})"')


def state_marks(content: bytes) -> Iterator[str]:
    """Yield the ids and signatures in the JSON of an answer, or in the events of its stream."""
    for mark in _MARKS.finditer(content):
        yield mark[1].decode("utf-8", "replace")


def has_open_call(messages: Sequence[ChatMessage]) -> bool:
    """Return whether a tool's result came last, or a model's call still waits for one."""
    last = messages[-1] if messages else {}
    if last.get("role") in ("tool", "function"):
        return True
    if last.get("role") == "assistant":
        return bool(list(_call_ids(last)))
    return last.get("role") == "user" and any(part.get("type") == "tool_result" for part in _mappings(last, "content"))


def _mappings(message: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = message.get(name)
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, (list, tuple)) else []


def _call_ids(message: ChatMessage) -> Iterator[str]:
    """Yield the ids of the tool calls that a message makes or answers."""
    yield from (str(call["id"]) for call in _mappings(message, "tool_calls") if call.get("id"))
    if message.get("tool_call_id"):
        yield str(message["tool_call_id"])
    for part in _mappings(message, "content"):
        if part.get("type") in ("tool_use", "tool_result"):
            yield str(part.get("id") or part.get("tool_use_id") or "")


@dataclass(frozen=True)
class TurnKeys:
    """What a request is remembered and recognised by; hashes.

    Attributes:
        conversation: the conversation; None where nothing tells it from others.
        turn: the user's question that is being worked on, within the conversation.
        bound: what only one model can go on with, the strongest first: state at a provider, then tool calls and
            signatures of the turn, the latest first.
        state: of these, the state at a provider.
        is_follow_up: whether something was said in the conversation before.
        is_within_turn: whether a model has begun to answer the user's last question.
        salt: what ids within the conversation are told apart from those of others by.
    """

    conversation: str | None
    turn: str | None
    bound: tuple[str, ...]
    state: tuple[str, ...]
    is_follow_up: bool
    is_within_turn: bool
    salt: str

    @classmethod
    def of(cls, messages: Sequence[ChatMessage], context: TurnContext) -> TurnKeys:
        """Compute the keys of a request."""
        index = last_turn(messages)
        began = 0 if index is None else index
        current = messages[began + 1 :] if index is not None else messages
        is_within = any(message.get("role") == "assistant" for message in current) or has_open_call(messages)
        opened = opening(messages)
        conversation = None
        if context.session is not None:
            conversation = _hash("session", context.client, context.session)
        elif _is_distinctive(opened):
            system = (message_text(item) for item in messages if item.get("role") in ("system", "developer"))
            conversation = _hash("opening", context.client, "\n".join(system), opened)
        # Some servers count their calls from 1 in every conversation.
        salt = conversation or _hash("opening", context.client, opened)
        asked = user_text(messages[began]) if index is not None else ""
        number = sum(message.get("role") == "user" for message in messages[:began])
        marks = [mark for message in reversed(current) for mark in (*_call_ids(message), *_signatures(message))]
        state = tuple(_hash("state", context.client, value) for value in context.state)
        return cls(
            conversation=conversation,
            turn=_hash("turn", conversation, str(number), asked) if conversation else None,
            bound=(*state, *dict.fromkeys(_mark_key(salt, context.client, mark) for mark in marks)),
            state=state,
            is_follow_up=context.session is not None or any(item.get("role") == "assistant" for item in messages),
            is_within_turn=is_within,
            salt=salt,
        )


_LONG = 128  # characters; an id is shorter, a signature longer


def _mark_key(salt: str, client: str, mark: str) -> str:
    return _hash("mark", client if len(mark) >= _LONG else salt, mark)


def _signatures(message: ChatMessage) -> Iterator[str]:
    if message.get("role") == "assistant":
        yield from (value for key, value in _leaves(message) if key in _SIGNATURES and value)


def opening_session(messages: Sequence[ChatMessage]) -> str | None:
    """Return what a conversation can be told from others by where nobody named it, or None: "Hi" opens many."""
    text = opening(messages)
    return text if _is_distinctive(text) else None


def _is_distinctive(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) >= 40 and (len(text.split()) >= 6 or not text.isascii())


def _hash(*parts: str) -> str:
    joined = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Turn:
    """One request, read once: what a selector decides on, and what it remembers an answer by.

    Attributes:
        messages: the conversation, plain.
        context: whose it is and what it refers to.
        needs: what it needs of a model.
    """

    messages: Sequence[ChatMessage]
    context: TurnContext = TurnContext()
    needs: Needs = field(default_factory=Needs)

    @classmethod
    def of(
        cls,
        conversation: str | Sequence[Any],
        parameters: Mapping[str, Any] | None = None,
        *,
        session: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: str = "",
    ) -> Turn:
        """Read a request.

        Args:
            conversation: a prompt, or chat messages.
            parameters: of the call: ``tools``, ``response_format``, ``metadata`` …
            session: the conversation's id; see :meth:`TurnContext.of` for where else it is looked for.
            headers: the request's, by names in small letters.
            client: whose conversation it is.

        Raises:
            UnsupportedPromptError: neither a prompt nor well-formed, non-empty messages.
        """
        messages = conversation if isinstance(conversation, str) else as_messages(conversation)
        plain = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        given: Mapping[str, Any] = {"messages": plain} if parameters is None else parameters
        context = TurnContext.of(given, session=session, headers=headers, client=client)
        return cls(plain, context, needs_of(given))

    @cached_property
    def keys(self) -> TurnKeys:
        """What the request is recognised by."""
        return TurnKeys.of(self.messages, self.context)

    @cached_property
    def signatures(self) -> tuple[str, ...]:
        """The keys of what earlier answers hold that only their model can read."""
        marks = (mark for message in self.messages for mark in _signatures(message))
        return tuple(_mark_key(self.keys.salt, self.context.client, mark) for mark in marks)


class Recorder:
    """Takes in an answer, whole or in pieces, and remembers which model gave it.

    Args:
        memory: where.
        turn: the request.
        tier: who answered.
    """

    def __init__(self, memory: ConversationMemory, turn: Turn, tier: Tier) -> None:
        self._memory = memory
        self._turn = turn
        self._tier = tier
        self._seen: set[str] = set()
        self._has_begun = False

    def saw(self, content: bytes = b"") -> None:
        """Take in the JSON of an answer, or events of its stream."""
        if values := self._new(content):
            self._memory.remember(values)

    async def asaw(self, content: bytes = b"") -> None:
        """Do as :meth:`saw` does, without blocking the event loop where the memory is shared."""
        if not (values := self._new(content)):
            return
        if self._memory.is_local:
            self._memory.remember(values)
        else:
            await asyncio.to_thread(self._memory.remember, values)

    def _new(self, content: bytes) -> dict[str, Tier]:
        marks = set(state_marks(content)) - self._seen
        if self._has_begun and not marks:
            return {}
        self._seen |= marks
        keys, client = self._turn.keys, self._turn.context.client
        found = [_mark_key(keys.salt, client, mark) for mark in marks]
        found += [_hash("state", client, mark) for mark in marks if len(mark) < _LONG]
        if not self._has_begun:
            self._has_begun = True
            found += keys.state
            if keys.turn is not None:
                found += [keys.turn, f"{keys.conversation}:has"]
        return dict.fromkeys(found, self._tier)


def without_state(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without what only the model can read that wrote it: signatures, thinking, encrypted reasoning.

    The models' APIs allow that. What cannot be left out without losing the conversation itself (an earlier response's
    id, a file, a container) stays.
    """
    plain = dict(parameters)
    for name in ("messages", "input"):
        if isinstance(plain.get(name), list):
            stripped = (_stripped(item) for item in plain[name])
            plain[name] = [item for item in stripped if item is not None]
    return plain


_FOREIGN_FIELDS = frozenset({"thinking_blocks", "reasoning_details", "extra_content", "provider_specific_fields"})
_FOREIGN_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})


def _stripped(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    if item.get("type") in _FOREIGN_PARTS:
        return None
    kept = {key: value for key, value in item.items() if key not in _FOREIGN_FIELDS | _SIGNATURES}
    for name in ("content", "tool_calls"):
        if isinstance(kept.get(name), list):
            stripped = (_stripped(part) for part in kept[name])
            kept[name] = [part for part in stripped if part is not None]
    return kept
