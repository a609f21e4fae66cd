"""Columns of vectors, without a Python object per number: 164,000 × 1,536 of them would take minutes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.rows.files import data_suffix
from routellm_core.rows.sources import RowSource

_ROWS_AT_A_TIME: Final = 1024


def vector_batches(source: RowSource, column: str) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the vectors of a source in order and constant memory, shape (k, d), float32.

    Its rows have a list of numbers, or the JSON of one, in ``column`` (of an npz file, an array); all of one length.

    Raises:
        ConfigError: the source cannot be read, has no such column, or its vectors differ in length.
    """
    where = f"{source.name}: column {column!r}"
    for cells in _cells(source, column, where):
        try:
            matrix = np.asarray(cells, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where} must hold number lists of one length ({error})") from error
        if matrix.ndim != 2:
            raise ConfigError(f"{where} must hold one list of numbers per row, got shape {matrix.shape}")
        yield matrix


def _cells(source: RowSource, column: str, where: str) -> Iterator[Any]:
    if source.files and all(data_suffix(file) == ".parquet" for file in source.files):
        for file in source.files:
            yield from map(_matrix_or_lists, _arrow_columns(file, column, where))
        return
    if not source.files and type(source.object).__module__.startswith("datasets"):
        data = source.object
        if column not in (data.column_names or [column]):
            raise ConfigError(f"{where} is not there; the columns are {', '.join(data.column_names)}")
        for table in data.select_columns([column]).with_format("arrow").iter(_ROWS_AT_A_TIME):
            yield _matrix_or_lists(table.column(column).combine_chunks())
        return
    rows = source.rows([column])
    while part := list(islice(rows, _ROWS_AT_A_TIME)):
        cells = [row.get(column) if isinstance(row, dict) else None for _, row in part]
        if any(cell is None for cell in cells):
            raise ConfigError(f"{source.name} has no column {column!r} in every row")
        yield [json.loads(cell) if isinstance(cell, str) else cell for cell in cells]


def _arrow_columns(file: Path, column: str, where: str) -> Iterator[Any]:
    parquet = import_extra("pyarrow.parquet", extra="eval", purpose=f"Reading {file.name}")
    try:
        with parquet.ParquetFile(file) as table:
            if column not in table.schema_arrow.names:
                raise ConfigError(f"{where} is not there; the columns are {', '.join(table.schema_arrow.names)}")
            for group in range(table.num_row_groups):  # one at a time, or every group's buffers are kept to the end
                for batch in table.iter_batches(batch_size=_ROWS_AT_A_TIME, row_groups=[group], columns=[column]):
                    yield batch.column(0)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise error if isinstance(error, ConfigError) else ConfigError(f"{file} cannot be read: {error}") from error


def _matrix_or_lists(column: Any) -> Any:
    """Return an Arrow column of equally long lists of floats as a matrix, any other as Python lists."""
    if len(column) and "list<" in str(column.type) and column.null_count == 0:
        numbers = column.flatten()
        width, rest = divmod(len(numbers), len(column))
        lengths = set(column.value_lengths().to_pylist()) if hasattr(column, "value_lengths") else {width}
        if not rest and lengths == {width} and str(numbers.type) in ("float", "double", "halffloat"):
            return numbers.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return column.to_pylist()
