"""Reading prompts from text, JSON Lines, CSV and parquet files, one at a time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError, UnsupportedPromptError
from routellm_core.prompts import as_messages
from routellm_core.types import ChatMessage

__all__ = ["Conversation", "PromptRecord", "read_conversations", "read_records", "user_turns"]

Conversation: TypeAlias = str | Sequence[ChatMessage]
_Row: TypeAlias = tuple[str, Any]
"""Where a row is, for errors, and the row: a mapping of columns, or the prompt itself."""
_DEFAULT_COLUMNS = ("prompt", "text", "question", "messages", "turns", "conversation_a")
_PARQUET_ROWS = 1024


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A row of a prompt file.

    Attributes:
        conversation: a prompt, or a list of chat messages.
        place: file and line, for errors.
        values: the further columns that were asked for and that the row has.
    """

    conversation: Conversation
    place: str
    values: Mapping[str, Any] = field(default_factory=dict)


def read_conversations(path: Path | None, *, column: str | None = None) -> Iterator[Conversation]:
    """Read prompts in constant memory.

    Args:
        path: ``.txt`` (or any other ending): one prompt a line, blank lines passed over; ``.jsonl``: a string, a list
            of messages or of the user's turns, or an object with the prompt in ``column``, one a line; ``.csv``: a
            header and the prompt in ``column``; ``.parquet``: the prompt in ``column``. None reads lines from standard
            input, as JSON Lines where the first one is JSON.
        column: the name of the prompt's column; by default the first of prompt, text, question, messages, turns,
            conversation_a.

    Yields:
        a prompt, or a list of chat messages.

    Raises:
        ConfigError: the file is missing, not UTF-8, or has no such column.
        UnsupportedPromptError: a row holds no prompt; the message has its line number.
        MissingExtraError: a parquet file without the extra ``[eval]``.
    """
    for record in read_records(path, column=column):
        yield record.conversation


def read_records(
    path: Path | None, *, column: str | None = None, columns: Sequence[str] = ()
) -> Iterator[PromptRecord]:
    """Read prompts as :func:`read_conversations` does, with further columns of their rows.

    Args:
        path: as there.
        column: as there.
        columns: names of further columns; a row that lacks one has no value for it.
    """
    for place, row in _rows(path, [*((column,) if column else _DEFAULT_COLUMNS), *columns]):
        if isinstance(row, dict):
            values = {name: row[name] for name in columns if name in row}
            yield PromptRecord(_conversation(_cell(row, column, place), place), place, values)
        else:
            yield PromptRecord(_conversation(row, place), place)


def _rows(path: Path | None, columns: Sequence[str]) -> Iterator[_Row]:
    if path is None:
        yield from _standard_input(sys.stdin)
        return
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    readers: dict[str, Callable[[TextIO, str], Iterator[_Row]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
    }
    reader = readers.get(path.suffix.lower(), _text_lines)
    try:
        # newline="" as the csv module wants it; utf-8-sig because spreadsheets write a byte-order mark
        with path.open(encoding="utf-8-sig", newline="" if reader is _csv_rows else None) as file:
            yield from reader(file, str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error


def _standard_input(stream: TextIO) -> Iterator[_Row]:
    first = next((line for line in stream if line.strip()), None)
    if first is None:
        return
    is_json = first.lstrip()[0] in '{["' and _is_json(first)

    def lines() -> Iterator[str]:
        yield first
        yield from stream

    yield from _json_lines(lines(), "standard input") if is_json else _text_lines(lines(), "standard input")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _text_lines(lines: Iterator[str] | TextIO, name: str) -> Iterator[_Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}, line {number}", line.rstrip("\r\n")


def _json_lines(lines: Iterator[str] | TextIO, name: str) -> Iterator[_Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UnsupportedPromptError(f"{place}: not JSON ({error})") from error
        yield place, row


def _csv_rows(file: TextIO, name: str) -> Iterator[_Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses prompts over 128 KiB
    reader = csv.DictReader(file)
    for row in reader:
        yield f"{name}, line {reader.line_num}", row


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[_Row]:
    parquet = import_extra("pyarrow.parquet", extra="eval", purpose=f"Reading {path.name}")
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if name in columns]
            number = 0
            # One row group at a time: an iteration over all of them keeps every group's buffers until its end.
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=wanted or names):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{path}, row {number}", row
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise ConfigError(f"{path} cannot be read as parquet: {error}") from error


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
        return user_turns(value) or as_messages(value)
    except UnsupportedPromptError as error:
        raise UnsupportedPromptError(f"{place}: {error}") from error


def user_turns(value: Any) -> Sequence[ChatMessage] | None:
    """Return the messages of a list of the user's turns (as MT-Bench and LMSYS's data sets have them), else None."""
    if not isinstance(value, list) or not value or not all(turn is None or isinstance(turn, str) for turn in value):
        return None
    return [{"role": "user", "content": turn or ""} for turn in value]  # LMSYS's withheld turns are null
