"""The prompts of rows: which column holds them, and what may stand in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from routellm_core.errors import ConfigError, UnsupportedPromptError, did_you_mean
from routellm_core.prompts import as_messages, message_text
from routellm_core.rows.sources import RowSource
from routellm_core.types import ChatMessage

Conversation: TypeAlias = str | Sequence[ChatMessage]
PROMPT_COLUMNS = (
    *("prompt", "text", "question", "messages", "conversation", "turns", "conversation_a", "instruction"),
)
"""Where a prompt is looked for, the first that a row has, if no column is named."""


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A prompt or chat messages, file and line for errors, and those of the wanted columns that the row has."""

    conversation: Conversation
    place: str
    values: Mapping[str, Any] = field(default_factory=dict)


def read_conversations(source: Any, *, column: str | None = None) -> Iterator[Conversation]:
    """Read prompts in constant memory.

    Args:
        source: what :class:`RowSource` takes: a path, ``hf:owner/name``, a data set, a list …; None for standard input.
            A row is a text, a list of chat messages or of the user's turns, or a mapping with one of these in
            ``column``. Where the texts of all rows are JSON lists of turns or messages, as in LMSYS's files, they are
            parsed; an iterator, a pipe and standard input are read once and so are not.
        column: the name of the prompt's column; by default the first of :data:`PROMPT_COLUMNS`.

    Yields:
        a prompt, or a list of chat messages.

    Raises:
        ConfigError: nothing is there, or a row is broken or holds no prompt; the message has file and line.
        MissingExtraError: a source that takes a package that is not installed.
    """
    for record in read_records(source, column=column):
        yield record.conversation


def read_records(source: Any, *, column: str | None = None, columns: Sequence[str] = ()) -> Iterator[PromptRecord]:
    """Read prompts as :func:`read_conversations` does, with further columns of their rows.

    A row that lacks one of ``columns`` has no value for it.
    """
    rows = RowSource.parse(source)
    candidates = (column,) if column else PROMPT_COLUMNS
    wanted = [*candidates, *columns]
    holds_json = rows.is_rereadable and _all_hold_json_lists(rows, candidates)
    for place, row in rows.rows(wanted):
        values = {name: row[name] for name in columns if name in row} if isinstance(row, Mapping) else {}
        cell = _cell(row, candidates, place)
        yield PromptRecord(_conversation(json.loads(cell) if holds_json else cell, place), place, values)


def conversation_text(conversation: Conversation) -> str:
    """Return everything that is said in a conversation, which is what is sent to a model."""
    if isinstance(conversation, str):
        return conversation
    return "\n".join(message_text(message) for message in conversation)


def _cell(row: Any, candidates: Sequence[str], place: str) -> Any:
    """Return the prompt of a row: of a mapping the first of the columns, else the row itself."""
    if not isinstance(row, Mapping):
        return row
    found = next((name for name in candidates if name in row), None)
    if found is None:
        raise ConfigError(
            f"{place}: no column {' or '.join(map(repr, candidates))}; it has {', '.join(map(repr, row)) or 'none'}."
            f"{did_you_mean(candidates[0], map(str, row))} Name the prompt's column with --column"
        )
    return row[found]


def _all_hold_json_lists(source: RowSource, candidates: Sequence[str]) -> bool:
    """Whether the prompt of every row is a text with a JSON list of turns or messages; most often the first says no.

    All must be, because a text that begins with a bracket may be a prompt like any other.
    """
    found = False
    for _, row in source.rows(candidates):
        cell = next((row[name] for name in candidates if name in row), None) if isinstance(row, Mapping) else row
        if not isinstance(cell, str) or not cell.lstrip().startswith("["):
            return False
        try:
            _messages(json.loads(cell))
        except (ValueError, RecursionError, UnsupportedPromptError):
            return False
        found = True
    return found


def _conversation(value: Any, place: str) -> Conversation:
    if isinstance(value, str):
        return value
    try:
        return _messages(value)
    except UnsupportedPromptError as error:
        raise ConfigError(
            f"{place}: {error}. A prompt is a text, a list of messages, or a list of the user's turns"
        ) from error


def _messages(value: Any) -> Sequence[ChatMessage]:
    """Return chat messages; a list of texts is the user's turns, as in MT-Bench's and LMSYS's data sets."""
    value = value.tolist() if hasattr(value, "tolist") else value  # pandas keeps lists as arrays
    if isinstance(value, (list, tuple)) and value and all(turn is None or isinstance(turn, str) for turn in value):
        return [{"role": "user", "content": turn or ""} for turn in value]  # LMSYS's withheld turns are null
    return as_messages(value)
