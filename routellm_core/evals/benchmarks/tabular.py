"""Own benchmarks: a file with one row per prompt and both models' qualities, no code needed.

Columns: ``prompt``, ``strong`` and ``weak`` (or ``strong_quality`` and ``weak_quality``, or the models' own names).
Optional: ``id``, ``group``, and tokens for the cost in dollars: ``input_tokens``, ``strong_output_tokens``,
``weak_output_tokens``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.evals.benchmarks.base import Benchmark, PairUsage
from routellm_core.evals.benchmarks.files import read_csv, read_jsonl
from routellm_core.types import FloatArray, ModelPair

__all__ = ["load_tabular", "read_rows"]

_TOKEN_COLUMNS = ("input_tokens", "strong_output_tokens", "weak_output_tokens")


def read_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Return (row number, row) of a ``.jsonl``, ``.csv`` or ``.parquet`` file.

    Raises:
        ConfigError: another suffix, or the file cannot be read.
        MissingExtraError: a parquet file without the extra ``[eval]``.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return list(read_jsonl(path))
    if suffix == ".csv":
        return list(read_csv(path))
    if suffix == ".parquet":
        parquet = import_extra("pyarrow.parquet", extra="eval", purpose="Reading a parquet file")
        try:
            return list(enumerate(parquet.read_table(path).to_pylist(), start=1))
        except (OSError, ValueError) as error:  # pyarrow's own errors derive from ValueError and OSError
            raise ConfigError(f"{path} cannot be read as parquet: {error}") from error
    raise ConfigError(f"{path.name} must end in .jsonl, .csv or .parquet")


def load_tabular(path: Path, *, pair: ModelPair | None = None, name: str | None = None) -> Benchmark:
    """Load a file of prompts with both models' qualities.

    Args:
        path: a ``.jsonl``, ``.csv`` or ``.parquet`` file.
        pair: names of the two models, for the report and for prices; ``strong`` and ``weak`` by default.
        name: the benchmark's name; the file's stem by default.

    Raises:
        ConfigError: a column is missing, or a row has no prompt or a quality that is not a finite number; the message
            names the row (the first data row is 1).
    """
    pair = pair or ModelPair(strong="strong", weak="weak")
    rows = read_rows(path)
    if not rows:
        raise ConfigError(f"{path.name} has no rows")
    strong_column = _column(rows, path, "strong", "strong_quality", pair.strong)
    weak_column = _column(rows, path, "weak", "weak_quality", pair.weak)
    _column(rows, path, "prompt")
    strong = np.array([_number(path, number, row, strong_column) for number, row in rows])
    weak = np.array([_number(path, number, row, weak_column) for number, row in rows])
    binary = bool(np.isin(strong, (0.0, 1.0)).all() and np.isin(weak, (0.0, 1.0)).all())
    return Benchmark(
        name=name or path.stem,
        title=name or path.stem,
        pair=pair,
        prompts=tuple(_prompt(path, number, row) for number, row in rows),
        prompt_ids=_unique_ids(path, rows),
        strong_quality=strong,
        weak_quality=weak,
        groups=tuple(str(row.get("group") or "all") for _, row in rows),
        scale=100.0 if binary else 1.0,
        quality_label="accuracy (%)" if binary else "mean quality",
        calls_per_prompt=1,
        prompts_before_decontamination=len(rows),
        source=f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})",
        usage=_usage(path, rows),
    )


def _column(rows: Sequence[tuple[int, Mapping[str, Any]]], path: Path, *names: str) -> str:
    found = rows[0][1]
    for name in names:
        if name in found:
            return name
    raise ConfigError(
        f"{path.name}, row {rows[0][0]}: no column {' or '.join(map(repr, names))}; "
        f"the columns are {', '.join(map(repr, found))}.{did_you_mean(names[0], map(str, found))}"
    )


def _number(path: Path, number: int, row: Mapping[str, Any], column: str) -> float:
    value = row.get(column)
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        quality = float(text)
    except ValueError:
        quality = math.nan
    if not math.isfinite(quality):
        raise ConfigError(f"{path.name}, row {number}: {column} is {value!r}; expected a finite number, true or false")
    return quality


def _prompt(path: Path, number: int, row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"{path.name}, row {number}: prompt is {prompt!r}; expected a text that is not empty")
    return prompt


def _unique_ids(path: Path, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for number, row in rows:
        identifier = str(row["id"]) if row.get("id") is not None else str(number)
        if identifier in seen:
            raise ConfigError(f"{path.name}, row {number}: id {identifier!r} is taken by row {seen[identifier]}")
        seen[identifier] = number
    return tuple(seen)


def _usage(path: Path, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> PairUsage | None:
    if not all(column in rows[0][1] for column in _TOKEN_COLUMNS):
        return None
    columns: list[FloatArray] = [
        np.array([_number(path, number, row, column) for number, row in rows]) for column in _TOKEN_COLUMNS
    ]
    sent, strong, weak = columns
    return PairUsage(sent, strong, sent, weak, f"the token columns of {path.name}")
