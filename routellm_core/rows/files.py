"""One file, row by row: text, JSON Lines, JSON, CSV, TSV, parquet and npz. Nothing else opens a data file.

A row is what the file has (a text, a list, or a mapping of columns) with its place, for errors. Files are read in
constant memory, but for json and npz. Text formats may be compressed with gzip; endings are read in either case.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias
from zipfile import BadZipFile

import numpy as np

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError

Row: TypeAlias = tuple[str, Any]
"""Where a row is, for errors, and the row."""
DATA_SUFFIXES: Final = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".npz", ".txt")
READABLE: Final = ".txt, .jsonl, .ndjson, .json, .csv and .tsv (each also as .gz), .parquet and .npz"
_ROWS_AT_A_TIME: Final = 1024


def data_suffix(path: Path) -> str:
    """Return the ending that tells a file's format, in lower case and without ``.gz``; ``""`` for none.

    Raises:
        ConfigError: no format has this ending.
    """
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    packed = name.endswith(".gz") and suffix in (".parquet", ".npz", "")
    if packed or (suffix and suffix not in DATA_SUFFIXES):
        raise ConfigError(f"{path} is a {''.join(path.suffixes[-2:])} file; readable are {READABLE}")
    return suffix


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Row]:
    """Read a file.

    Args:
        path: its ending tells the format: ``.txt`` one text a line, blank lines passed over; ``.jsonl`` and ``.ndjson``
            one JSON value a line; ``.json`` an array of rows, or rows one after the other; ``.csv`` and ``.tsv`` a
            header and rows; ``.parquet``; ``.npz`` one array per column. A file without an ending (a pipe) is read as
            JSON Lines where its first line is JSON, else as text.
        columns: of a parquet or npz file that has some of these, no others are read.

    Raises:
        ConfigError: the file is missing, broken or of another format; the message has file and line.
        MissingExtraError: a parquet file without the extra ``[eval]``.
    """
    suffix = data_suffix(path)
    try:
        if suffix == ".parquet":
            yield from _parquet(path, columns)
        elif suffix == ".npz":
            yield from _npz(path, columns)
        else:
            opener: Callable[..., Any] = gzip.open if path.name.lower().endswith(".gz") else open
            # newline="" as the csv module wants it; the others end a line at \n, and strip a \r before it
            newline = "" if suffix in (".csv", ".tsv") else "\n"
            with opener(path, "rt", encoding="utf-8-sig", newline=newline) as file:  # spreadsheets write a BOM
                yield from _READERS[suffix](file, str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, BadZipFile) as error:  # some of pyarrow's are OSErrors
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except ConfigError:
        raise
    except (ValueError, KeyError) as error:  # numpy's and the others of pyarrow
        raise ConfigError(f"{path} cannot be read as {suffix.lstrip('.')}: {error}") from error


def read_table(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file as :func:`read_rows` does, and refuse rows that are not mappings of columns."""
    for place, row in read_rows(path, columns):
        if not isinstance(row, dict):
            raise ConfigError(f"{place}: expected an object with columns, got {row!r:.60}")
        yield place, row


def text_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Read a stream whose name does not tell: JSON Lines where the first line is JSON, else one text a line."""
    numbered = enumerate(lines, start=1)
    number, first = next(((number, line) for number, line in numbered if line.strip()), (0, ""))
    reader = _lines
    if first.lstrip()[:1] in ("{", "[", '"'):
        try:
            json.loads(first)
            reader = _json_lines
        except (ValueError, RecursionError):
            pass  # a text that begins with a bracket
    yield from reader(chain([first], (line for _, line in numbered)), name, number)


def _lines(lines: Iterable[str], name: str, start: int = 1) -> Iterator[Row]:
    for number, line in enumerate(lines, start):
        if line.strip():
            yield f"{name}, line {number}", line.rstrip("\r\n")


def _json_lines(lines: Iterable[str], name: str, start: int = 1) -> Iterator[Row]:
    for number, line in enumerate(lines, start):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; a JSON array over several lines belongs in a .json file" if line.lstrip()[0] in "[]" else ""
            raise ConfigError(f"{name}, line {number}: not JSON ({error}){hint}") from error
        yield f"{name}, line {number}", row


def _json(file: TextIO, name: str) -> Iterator[Row]:
    text = file.read()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not str(error).startswith("Extra data"):
            raise ConfigError(f"{name}: not JSON ({error})") from error
        yield from _json_lines(text.split("\n"), name)
        return
    if _is_table_of_columns(content):
        raise ConfigError(
            f"{name} holds one object of columns; write an array of rows, one object each (in pandas: "
            "to_json(orient='records'))"
        )
    for number, row in enumerate(content if isinstance(content, list) else [content], start=1):
        yield f"{name}, row {number}", row


def _is_table_of_columns(row: Any) -> bool:
    if not isinstance(row, dict) or len(row) < 2:
        return False
    columns = list(row.values())
    return all(isinstance(column, (list, dict)) and len(column) == len(columns[0]) for column in columns)


def _separated(file: TextIO, name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses prompts over 128 KiB
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or ())
        if repeated := sorted({column for column in header if header.count(column) > 1}):
            raise ConfigError(f"{name}: the header names {repeated[0]!r} twice")
        for row in reader:
            if None in row or None in row.values():
                raise ConfigError(
                    f"{name}, line {reader.line_num}: the number of fields differs from the header's {len(header)}; "
                    "a text with line ends or delimiters stands in double quotes"
                )
            yield f"{name}, line {reader.line_num}", row
    except csv.Error as error:
        raise ConfigError(f"{name}, line {reader.line_num}: {error}") from error


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    parquet = import_extra("pyarrow.parquet", extra="eval", purpose=f"Reading {path.name}")
    number = 0
    with parquet.ParquetFile(path) as file:
        present = [name for name in file.schema_arrow.names if name in columns] or None
        # One row group at a time: an iteration over all of them keeps every group's buffers until its end.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], columns=present):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row


def _npz(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with np.load(path, allow_pickle=False) as arrays:
        present = [name for name in arrays.files if name in columns] or arrays.files
        table = {name: arrays[name] for name in present}
    if len({array.shape[:1] for array in table.values()}) > 1 or any(not array.ndim for array in table.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in table.items())
        raise ConfigError(f"{path}: every array must have one entry per row; the shapes are {shapes}")
    for number, row in enumerate(zip(*table.values(), strict=True), start=1):
        yield f"{path}, row {number}", {name: cell.tolist() for name, cell in zip(table, row, strict=True)}


_READERS: Final[dict[str, Callable[[TextIO, str], Iterator[Row]]]] = {
    "": text_rows,
    ".txt": _lines,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": lambda file, name: _separated(file, name, ","),
    ".tsv": lambda file, name: _separated(file, name, "\t"),
}
