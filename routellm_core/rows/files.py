"""Finding and reading data sets: local files or the Hugging Face Hub; parquet, csv, json, jsonl and npz."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError

__all__ = ["HUB_PREFIX", "as_matrix", "column_batches", "resolve_dataset", "row_files"]

HUB_PREFIX = "hf:"
"""Before a data set's id where a path could stand as well."""

_SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".npz")
"""Readable formats; of a folder that holds several, the first kind in this order is read."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_ROW_SUFFIXES = (".parquet", ".csv", ".jsonl")
_OTHER_SPLITS = re.compile(r"(^|[^a-z])(test|validation|valid|dev|eval)([^a-z]|$)", re.IGNORECASE)
_NOT_DATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json"}
_BATCH_ROWS = 1024


def row_files(source: str | Path) -> tuple[Path, ...]:
    """Return the files of a source that is read row by row.

    Args:
        source: a file of any kind that :mod:`routellm_core.rows.prompts` reads, a folder of such files,
            ``hf:owner/name`` for the train split of a data set on the Hub, or ``hf:owner/name:split``.

    Raises:
        ConfigError: there are none, or they are in a format that is not read row by row.
        MissingExtraError: a Hub data set without the extra ``[hub]``.
    """
    name = str(source)
    if name.startswith(HUB_PREFIX):
        dataset, _, split = name.removeprefix(HUB_PREFIX).partition(":")
        files = resolve_dataset(dataset, split=split or None)
    else:
        path = Path(source).expanduser()
        if not path.is_dir():
            return (path,)
        files = resolve_dataset(path)
    if files[0].suffix not in _ROW_SUFFIXES:
        raise ConfigError(f"data set {name!r} is in {files[0].suffix}; readable are {', '.join(_ROW_SUFFIXES)}")
    return tuple(files)


def resolve_dataset(source: str | Path, *, split: str | None = None) -> list[Path]:
    """Return the files of a data set's split, in order.

    Args:
        source: a file, a folder, or a Hub data set id ``owner/name`` or ``owner/name@revision``. Only data files are
            fetched, and no code of the data set is run.
        split: of the files, those with this word in their path; None takes the train split, which is every file that
            names no other split.

    Raises:
        ConfigError: nothing readable is there.
        MissingExtraError: a Hub id without the extra ``[hub]``.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise ConfigError(f"{path} is a {path.suffix or 'nameless'} file; readable are {', '.join(_SUFFIXES)}")
        return [path]
    if not path.is_dir():
        path = _fetch(str(source))
    return _split_files(path, source, split)


def _fetch(source: str) -> Path:
    if not _HUB_ID.fullmatch(source):
        raise ConfigError(
            f"data set {source!r} is neither a file nor a folder here, nor a Hub id such as "
            "'routellm/gpt4_judge_battles'"
        )
    repo_id, _, revision = source.partition("@")
    hub = import_extra("huggingface_hub", extra="hub", purpose=f"Downloading the data set {source!r}")
    try:
        return Path(
            hub.snapshot_download(
                repo_id,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=[f"*{suffix}" for suffix in _SUFFIXES],
            )
        )
    except Exception as error:  # the Hub client raises httpx, requests, OS and its own errors alike
        first_line = str(error).splitlines()[0] if str(error) else "no details"
        raise ConfigError(
            f"data set {source!r} could not be fetched from the Hugging Face Hub ({type(error).__name__}: {first_line})"
        ) from error


def _split_files(folder: Path, source: str | Path, split: str | None) -> list[Path]:
    wanted = None if split is None else re.compile(rf"(^|[^a-z]){re.escape(split)}([^a-z]|$)", re.IGNORECASE)
    for suffix in _SUFFIXES:
        found = [file for file in sorted(folder.rglob(f"*{suffix}")) if file.name not in _NOT_DATA]
        named = {file: file.relative_to(folder).as_posix() for file in found}
        of_split = [
            file for file in found if (wanted.search(named[file]) if wanted else not _OTHER_SPLITS.search(named[file]))
        ]
        if of_split:
            return of_split
    raise ConfigError(
        f"data set {str(source)!r} holds no {', '.join(_SUFFIXES)} file of the split {split or 'train'!r}"
    )


def column_batches(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read the columns of ``columns`` that ``file`` has.

    Yields:
        up to 1,024 rows at a time where the format allows it: column name to values. A column of equally long lists
        comes as a matrix from parquet and npz.

    Raises:
        ConfigError: the file is unreadable.
        MissingExtraError: parquet or csv without ``pyarrow``.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines, ".json": _json, ".npz": _npz}
    try:
        yield from readers[file.suffix](file, columns)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file} could not be read: {error}") from error


def _arrow(module: str, file: Path) -> Any:
    return import_extra(module, extra="eval", purpose=f"Reading {file.name}")


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with _arrow("pyarrow.parquet", file).ParquetFile(file) as table:
        present = [name for name in columns if name in table.schema_arrow.names]
        # One row group at a time: an iteration over all of them keeps every group's buffers until its end.
        for group in range(table.num_row_groups):
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=present):
                yield {name: _from_arrow(batch.column(name)) for name in present}


def _from_arrow(column: Any) -> Any:
    # Lists of numbers are flattened without a Python object per number; 164,000 × 1,536 of them would take minutes.
    if str(column.type).startswith(("list<", "large_list<", "fixed_size_list<")) and len(column):
        width, remainder = divmod(len(column.flatten()), len(column))
        is_matrix = not remainder and column.null_count == 0
        if is_matrix and str(column.type.value_type) in ("float", "double", "halffloat"):
            lengths = set(column.value_lengths().to_pylist()) if hasattr(column, "value_lengths") else {width}
            if lengths == {width}:
                return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
    return column.to_pylist()


def _csv(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    csv = _arrow("pyarrow.csv", file)
    # Arena answers run over lines and are long; a block must hold at least one whole row.
    table = csv.read_csv(
        file,
        read_options=csv.ReadOptions(block_size=1 << 26),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(("prompt", "model_a", "model_b", "winner", "embeddings"), "string"),
            include_columns=list(columns),
            include_missing_columns=True,
            strings_can_be_null=False,
        ),
    )
    yield {
        name: table.column(name).to_pylist() for name in columns if table.column(name).null_count < max(1, len(table))
    }


def _json_lines(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield _from_records([json.loads(line) for line in lines if line.strip()], columns)


def _json(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        yield _from_records(json.loads(text), columns)
        return
    yield from _json_lines(file, columns)


def _from_records(records: list[dict[str, Any]], columns: Sequence[str]) -> dict[str, Any]:
    present = [name for name in columns if records and name in records[0]]
    return {name: [record[name] for record in records] for name in present}


def _npz(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with np.load(file, allow_pickle=False) as arrays:
        present = [name for name in columns if name in arrays.files]
        yield {name: array if (array := arrays[name]).ndim > 1 else array.tolist() for name in present}


def as_matrix(column: Any, file: Path) -> npt.NDArray[np.float32]:
    """Return a column of vectors as shape (n, d), float32; text cells are parsed as JSON lists.

    Raises:
        ConfigError: the vectors differ in length or are not numbers.
    """
    if isinstance(column, list) and column and isinstance(column[0], str):
        column = [json.loads(cell) for cell in column]
    try:
        matrix = np.asarray(column, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: column 'embeddings' must hold number lists of one length ({error})") from error
    if matrix.ndim != 2:
        raise ConfigError(
            f"{file}: column 'embeddings' must hold one list of numbers per row, got shape {matrix.shape}"
        )
    return matrix
