"""Reading prompts from text, JSON Lines and CSV files, one at a time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from routellm_core.errors import ConfigError, UnsupportedPromptError
from routellm_core.prompts import validate_messages
from routellm_core.types import ChatMessage

__all__ = ["Conversation", "read_conversations"]

Conversation: TypeAlias = str | Sequence[ChatMessage]
_DEFAULT_COLUMNS = ("prompt", "text", "question", "messages")


def read_conversations(path: Path | None, *, column: str | None = None) -> Iterator[Conversation]:
    """Read prompts in constant memory.

    Args:
        path: ``.txt`` (or any other ending): one prompt a line, blank lines passed over; ``.jsonl``: a string, a list
            of messages, or an object with the prompt in ``column``, one a line; ``.csv``: a header and the prompt in
            ``column``. None reads lines from standard input, as JSON Lines where the first one is JSON.
        column: the name of the prompt's column; by default the first of prompt, text, question, messages.

    Yields:
        a prompt, or a list of chat messages.

    Raises:
        ConfigError: the file is missing, not UTF-8, or has no such column.
        UnsupportedPromptError: a row holds no prompt; the message has its line number.
    """
    if path is None:
        yield from _standard_input(sys.stdin, column)
        return
    readers: dict[str, Callable[[TextIO, str, str | None], Iterator[Conversation]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
    }
    reader = readers.get(path.suffix.lower(), _text_lines)
    try:
        # newline="" as the csv module wants it; utf-8-sig because spreadsheets write a byte-order mark
        with path.open(encoding="utf-8-sig", newline="" if reader is _csv_rows else None) as file:
            yield from reader(file, str(path), column)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error


def _standard_input(stream: TextIO, column: str | None) -> Iterator[Conversation]:
    first = next((line for line in stream if line.strip()), None)
    if first is None:
        return
    is_json = first.lstrip()[0] in '{["' and _is_json(first)

    def lines() -> Iterator[str]:
        yield first
        yield from stream

    yield from _json_lines(lines(), "standard input", column) if is_json else _text_lines(lines(), "", column)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _text_lines(lines: Iterator[str] | TextIO, _name: str, _column: str | None) -> Iterator[Conversation]:
    for line in lines:
        if line.strip():
            yield line.rstrip("\r\n")


def _json_lines(lines: Iterator[str] | TextIO, name: str, column: str | None) -> Iterator[Conversation]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UnsupportedPromptError(f"{place}: not JSON ({error})") from error
        yield _conversation(_cell(row, column, place) if isinstance(row, dict) else row, place)


def _csv_rows(file: TextIO, name: str, column: str | None) -> Iterator[Conversation]:
    csv.field_size_limit(2**31 - 1)  # the default refuses prompts over 128 KiB
    reader = csv.DictReader(file)
    for row in reader:
        place = f"{name}, line {reader.line_num}"
        yield _conversation(_cell(row, column, place), place)


def _cell(row: dict[str, Any], column: str | None, place: str) -> Any:
    wanted = (column,) if column else _DEFAULT_COLUMNS
    found = next((name for name in wanted if name in row), None)
    if found is None:
        raise ConfigError(
            f"{place}: no column {' or '.join(map(repr, wanted))}; it has {', '.join(map(repr, row))}. "
            "Name the prompt's column with --column"
        )
    return row[found]


def _conversation(value: Any, place: str) -> Conversation:
    if isinstance(value, str):
        return value
    try:
        return validate_messages(value)
    except UnsupportedPromptError as error:
        raise UnsupportedPromptError(f"{place}: {error}") from error
