"""Labelled prompts of a user's own: three kinds of rows, read from files and data sets and checked one by one.

    strong/weak   {"prompt": …, "strong": 1, "weak": 0}                      quality of both models' answers
    quality       {"prompt": …, "model": "m", "score": 0.8}                  one row per prompt and model
    preference    {"prompt": …, "model_a": "m", "model_b": "n", "winner": "model_a"}   or "model_b", "tie"

The two columns of the first kind may also be called ``strong_quality`` and ``weak_quality``, or after the two models.
Each kind may have a ``group``, a name that rows of one conversation or template share, and a ``weight``: how much a row
counts beside rows from another labeller (the paper's mix of human votes, a judge's and golden labels); each source may
have a weight for all its rows. The prompt may also be a list of chat messages or of the user's turns; the text that
would be routed on is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import numpy as np

from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.rows.cells import number_cell, outcome_cell, prompt_cell, text_cell, weight_cell
from routellm_core.rows.prompts import PromptRecord, read_records
from routellm_core.rows.sources import RowSource
from routellm_core.rows.types import (
    MixedRows,
    PairRows,
    PreferenceRows,
    QualityRows,
    RowsOfOneKind,
    TrainingRows,
    joined_rows,
    pair_rows,
    refuse_mixed_units,
)

__all__ = [
    "DEFAULT_PAIR",
    "LABEL_COLUMNS",
    "LabelledRecords",
    "MixedRows",
    "PairRows",
    "PreferenceRows",
    "QualityRows",
    "TrainingRows",
    "label_columns",
    "load_rows",
    "pair_rows",
    "refuse_mixed_units",
    "row_kind",
]

DEFAULT_PAIR: Final = ("strong", "weak")
"""Names of the two models where none are given."""
_PAIR_COLUMNS: Final = (DEFAULT_PAIR, ("strong_quality", "weak_quality"))
LABEL_COLUMNS: Final = (
    *chain.from_iterable(_PAIR_COLUMNS),
    "model",
    "score",
    "model_a",
    "model_b",
    "winner",
    "winner_model_a",
    "winner_model_b",
    "winner_tie",
    "turn",
    "weight",
    "group",
    "licence",
    "data_licence",
)
"""What labelled rows may have beside the prompt."""


@dataclass(frozen=True)
class LabelledRecords:
    """The rows of one source, of which nothing but the kind is looked into yet.

    ``kind`` is ``"strong/weak"``, with the ``columns`` of both models' quality, ``"quality"`` or ``"preference"``.
    """

    records: Sequence[PromptRecord]
    kind: str
    columns: tuple[str, str] | None

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        column: str | None = None,
        pair: tuple[str, str] = DEFAULT_PAIR,
        columns: Sequence[str] = (),
    ) -> LabelledRecords | None:
        """Read a source, or return None for one without rows; the arguments are :func:`load_rows`'s.

        ``columns`` are further ones to keep.

        Raises:
            ConfigError: columns of no kind, or rows that cannot be read.
        """
        records = list(read_records(source, column=column, columns=[*LABEL_COLUMNS, *pair, *columns]))
        if not records:
            return None
        named = label_columns(records[0].values, pair)
        kind = "strong/weak" if named else row_kind(records[0].values)
        if kind is None:
            raise _no_kind(RowSource.parse(source), pair)
        return cls(records, kind, named)

    def rows(self) -> RowsOfOneKind:
        """Check every cell.

        Raises:
            ConfigError: a cell that makes no sense; the message has file and line.
        """
        if self.columns is not None:
            return _pairs(self.records, columns=self.columns)
        return _qualities(self.records) if self.kind == "quality" else _preferences(self.records)


def label_columns(values: Mapping[str, Any], pair: tuple[str, str] = DEFAULT_PAIR) -> tuple[str, str] | None:
    """Return the columns with the strong and the weak model's quality, or None where a row has no such two."""
    return next((names for names in (*_PAIR_COLUMNS, pair) if all(name in values for name in names)), None)


def load_rows(sources: Any, *, column: str | None = None, pair: tuple[str, str] = DEFAULT_PAIR) -> TrainingRows:
    """Read rows, their kind told by their columns.

    Args:
        sources: one or several of what :class:`RowSource` takes: files, folders, ``hf:owner/name[:split]`` for a data
            set on the Hub, data sets, frames, lists of mappings; ``weight=0.5:`` before a path multiplies its rows'
            weights. Each holds rows of one kind.
        column: the prompt's column; by default the first of ``prompts.PROMPT_COLUMNS`` that a row has.
        pair: names of the strong and the weak model, after which the columns of their qualities may be called.

    Returns:
        :class:`MixedRows` where the sources differ in kind.

    Raises:
        ConfigError: no rows, columns of no kind, or a cell that makes no sense; the message has file and line.
        MissingExtraError: a source that takes a package that is not installed.
    """
    by_kind: dict[str, list[RowsOfOneKind]] = {}
    parsed = [RowSource.parse(source) for source in _each(sources)]
    for source in parsed:
        found = LabelledRecords.read(source, column=column, pair=pair)
        if found is not None:
            rows = found.rows()
            by_kind.setdefault(found.kind, []).append(replace(rows, weights=rows.weights * source.weight))
    if not by_kind:
        raise ConfigError(f"no rows in {', '.join(source.name for source in parsed) or 'no files'}")
    parts = tuple(joined_rows(rows) for rows in by_kind.values())
    return parts[0] if len(parts) == 1 else MixedRows(parts)


def _each(sources: Any) -> Sequence[Any]:
    """Return the sources of a list; a list of mappings is one source itself."""
    if not isinstance(sources, (list, tuple)) or (sources and isinstance(sources[0], Mapping)):
        return [sources]
    return sources


def row_kind(values: Mapping[str, Any]) -> str | None:
    """Return ``"preference"`` or ``"quality"`` by the columns of a row, or None for neither."""
    if "model_a" in values and "model_b" in values:
        return "preference"
    return "quality" if "model" in values and "score" in values else None


def _no_kind(source: RowSource, pair: tuple[str, str]) -> ConfigError:
    place, row = next(source.rows()) if source.is_rereadable else (source.name, {})
    columns = [str(name) for name in row] if isinstance(row, Mapping) else []
    own = "" if pair == DEFAULT_PAIR else f", or {pair[0]!r} and {pair[1]!r}"
    near = did_you_mean("weak" if "strong" in columns else "strong", columns)
    return ConfigError(
        f"{place}: cannot tell what kind of row this is; beside the prompt it needs strong and weak (or strong_quality "
        f"and weak_quality{own}), or model and score, or model_a, model_b and winner. It has "
        f"{', '.join(map(repr, columns)) or 'no columns'}.{near}"
    )


def _common(records: Sequence[PromptRecord]) -> dict[str, Any]:
    stated = {str(r.values.get("licence") or r.values.get("data_licence") or "") for r in records} - {""}
    groups = tuple(str(_or_empty(record.values.get("group"))) for record in records)
    return {
        "prompts": tuple(prompt_cell(record) for record in records),
        "groups": groups if any(groups) else (),
        "weights": np.array([weight_cell(record) for record in records]),
        "places": tuple(record.place for record in records),
        "licences": tuple(sorted(stated)),
    }


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def _pairs(records: Sequence[PromptRecord], *, columns: tuple[str, str]) -> PairRows:
    return PairRows(
        **_common(records),
        strong=np.array([number_cell(record, columns[0]) for record in records]),
        weak=np.array([number_cell(record, columns[1]) for record in records]),
    )


def _qualities(records: Sequence[PromptRecord]) -> QualityRows:
    return QualityRows(
        **_common(records),
        models=tuple(text_cell(record, "model") for record in records),
        scores=np.array([number_cell(record, "score") for record in records]),
    )


def _preferences(records: Sequence[PromptRecord]) -> PreferenceRows:
    model_a = tuple(text_cell(record, "model_a") for record in records)
    model_b = tuple(text_cell(record, "model_b") for record in records)
    for record, first, second in zip(records, model_a, model_b, strict=True):
        if first == second:
            raise ConfigError(f"{record.place}: model_a and model_b are both {first!r}; a battle needs two models")
    battles = zip(records, model_a, model_b, strict=True)
    outcome = np.array([outcome_cell(record, first, second) for record, first, second in battles])
    return PreferenceRows(**_common(records), model_a=model_a, model_b=model_b, outcome=outcome)
