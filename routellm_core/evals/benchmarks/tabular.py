"""Own benchmarks: labelled rows of any kind, no code needed.

The rows are those of :mod:`routellm_core.rows.labelled`. Optional columns: ``id``, ``group``, and tokens for the cost
in dollars: ``input_tokens``, ``output_tokens``, ``strong_output_tokens``, ``weak_output_tokens``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.calibration.traffic import TOKEN_COLUMNS, token_counts
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import Benchmark, PairUsage
from routellm_core.rows.labelled import DEFAULT_PAIR, LabelledRecords, pair_rows
from routellm_core.rows.prompts import PromptRecord
from routellm_core.rows.sources import RowSource
from routellm_core.types import ModelPair

OUTPUT_TOKENS = 300.0
"""Tokens per answer, where the rows do not say."""


def load_tabular(
    source: Any,
    *,
    pair: ModelPair | None = None,
    name: str | None = None,
    column: str | None = None,
    output_tokens: float = OUTPUT_TOKENS,
) -> Benchmark:
    """Load labelled rows: a file, a folder, ``hf:owner/name``, a data set, a frame or a list of mappings.

    Args:
        source: rows with both models' qualities, one model's quality each, or battles; see
            :func:`~routellm_core.rows.labelled.load_rows`.
        pair: names of the two models; ``strong`` and ``weak`` by default.
        name: the benchmark's name; the file's stem by default.
        column: the prompt's column.
        output_tokens: tokens per answer, for the cost in dollars, where the rows do not say.

    Raises:
        ConfigError: no rows, a column is missing, or a cell makes no sense; the message has file and line.
    """
    rows = RowSource.parse(source)
    pair = pair or ModelPair(*DEFAULT_PAIR)
    names = pair.strong, pair.weak
    found = LabelledRecords.read(rows, column=column, pair=names, columns=("id", *TOKEN_COLUMNS))
    if found is None:
        raise ConfigError(f"{rows.name} has no rows")
    labelled = pair_rows(found.rows(), strong_model=pair.strong, weak_model=pair.weak)
    at = {record.place: record for record in found.records}
    records = [at[place] for place in labelled.places]
    name = name or re.sub(r"[^\w.-]+", "_", rows.name.removeprefix("hf:") if not rows.files else _stem(rows.data))
    binary = bool(np.isin([labelled.strong, labelled.weak], (0.0, 1.0)).all())
    checksum = rows.checksum()
    return Benchmark(
        name=name,
        title=name,
        pair=pair,
        prompts=labelled.prompts,
        prompt_ids=_unique_ids(records),
        strong_quality=labelled.strong,
        weak_quality=labelled.weak,
        groups=tuple(group or "all" for group in labelled.groups) or ("all",) * len(labelled),
        scale=100.0 if binary else 1.0,
        quality_label="accuracy (%)" if binary else "mean quality",
        calls_per_prompt=1,
        prompts_before_decontamination=len(labelled),
        source=f"{rows.label} ({checksum})" if checksum else rows.label,
        usage=_usage(records, rows.label, output_tokens),
    )


def _stem(location: str) -> str:
    name = Path(location).name
    return Path(name[:-3] if name.lower().endswith(".gz") else name).stem


def _unique_ids(records: Sequence[PromptRecord]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for number, record in enumerate(records, start=1):
        given = record.values.get("id")
        identifier = str(number if given in (None, "") else given)
        if identifier in seen:
            raise ConfigError(f"{record.place}: id {identifier!r} is taken by {seen[identifier]}")
        seen[identifier] = record.place
    return tuple(seen)


def _usage(records: Sequence[PromptRecord], label: str, output_tokens: float) -> PairUsage:
    sent, strong, weak = np.array([token_counts(record, output_tokens) for record in records]).T
    columns = [column for column in TOKEN_COLUMNS if column in records[0].values]
    note = f"the columns {', '.join(columns)} of {label}" if columns else ""
    if not {"input_tokens"} <= set(columns):
        note += f"{'; ' if note else ''}characters / 4 of the prompt"
    if not ({"output_tokens"} <= set(columns) or {"strong_output_tokens", "weak_output_tokens"} <= set(columns)):
        note += f"; {output_tokens:g} tokens per answer assumed"
    return PairUsage(sent, strong, sent, weak, note)
