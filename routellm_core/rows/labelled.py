"""Labelled prompts of a user's own: three kinds of rows, read from files and data sets and checked one by one.

    strong/weak   {"prompt": …, "strong": 1, "weak": 0}                      quality of both models' answers
    quality       {"prompt": …, "model": "m", "score": 0.8}                  one row per prompt and model
    preference    {"prompt": …, "model_a": "m", "model_b": "n", "winner": "model_a"}   or "model_b", "tie"

Each may have a ``group``, a name that rows of one conversation or template share, and a ``weight``: how much it counts
beside rows from another labeller (the paper's mix of human votes, a judge's and golden labels); each source may have a
weight for all its rows. ``prompt`` may also be a list of chat messages or of the user's turns; the text that would be
routed on is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.rows.prompts import PromptRecord
from routellm_core.rows.sources import (
    RowSource,
    number_cell,
    outcome_cell,
    prompt_cell,
    text_cell,
    weight_cell,
)
from routellm_core.rows.types import (
    MixedRows,
    PairRows,
    PreferenceRows,
    QualityRows,
    RowsOfOneKind,
    TrainingRows,
)

__all__ = [
    "MixedRows",
    "PairRows",
    "PreferenceRows",
    "QualityRows",
    "TrainingRows",
    "load_rows",
    "pair_rows",
    "refuse_mixed_units",
]

_COLUMNS: Final = (
    "strong",
    "weak",
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


def load_rows(sources: Sequence[str | Path], *, column: str | None = None) -> TrainingRows:
    """Read rows, their kind told by their columns.

    Args:
        sources: ``.jsonl``, ``.csv`` or ``.parquet`` files, folders of them, or ``hf:owner/name[:split]`` for a data
            set on the Hub; ``weight=0.5:`` before one multiplies its rows' weights. Each holds rows of one kind.
        column: the prompt's column; by default the first of prompt, text, question, messages, turns, conversation_a.

    Returns:
        :class:`MixedRows` where the sources differ in kind.

    Raises:
        ConfigError: no rows, columns of no kind, or a cell that makes no sense; the message has file and line.
        MissingExtraError: a parquet file without ``pyarrow``, or a Hub data set without the extra ``[hub]``.
    """
    by_kind: dict[str, list[tuple[PromptRecord, float]]] = {}
    for source in map(RowSource.parse, sources):
        records = source.records(column=column, columns=_COLUMNS)
        if records:
            by_kind.setdefault(_kind(records[0]), []).extend((record, source.weight) for record in records)
    if not by_kind:
        raise ConfigError(f"no rows in {', '.join(str(source) for source in sources) or 'no files'}")
    parts = []
    for kind, weighted in by_kind.items():
        rows = _BUILDERS[kind]([record for record, _ in weighted])
        parts.append(replace(rows, weights=rows.weights * np.array([weight for _, weight in weighted])))
    return parts[0] if len(parts) == 1 else MixedRows(tuple(parts))


def pair_rows(rows: TrainingRows, *, strong_model: str, weak_model: str) -> PairRows:
    """Return what the rows say about one pair of models.

    Of quality rows, the prompts that both models answered (scores of repeated answers are averaged); of preference
    rows, the battles between the two: a win is (1, 0), a tie (0.5, 0.5). Strong/weak rows are returned as they are.

    Raises:
        ConfigError: nothing is left (the message names the models that there are), or mixed rows in different units.
    """
    if isinstance(rows, PairRows):
        return rows
    if isinstance(rows, MixedRows):
        refuse_mixed_units(rows.parts)
        return _joined([found for part in rows.parts if len(found := _pair_rows(part, strong_model, weak_model))])
    pairs = _pair_rows(rows, strong_model, weak_model)
    if not len(pairs):
        models = rows.models if isinstance(rows, QualityRows) else (*rows.model_a, *rows.model_b)
        known = ", ".join(sorted(set(models))[:10])
        raise ConfigError(f"no row compares {strong_model!r} with {weak_model!r}; the data name {known}")
    return pairs


def _pair_rows(rows: RowsOfOneKind, strong_model: str, weak_model: str) -> PairRows:
    if isinstance(rows, QualityRows):
        return _from_quality(rows, strong_model, weak_model)
    return _from_battles(rows, strong_model, weak_model) if isinstance(rows, PreferenceRows) else rows


def refuse_mixed_units(parts: Sequence[RowsOfOneKind]) -> None:
    """Refuse rows of several kinds of which only some measure quality between 0 and 1, as battles do.

    Raises:
        ConfigError: with the largest values.
    """
    spans = [_span(part) for part in parts]
    if len({span > 1.0 for span in spans}) > 1:
        raise ConfigError(
            f"the sources measure quality in different units: values reach {min(spans):g} in one and {max(spans):g} in "
            "another (battles count 0, 0.5 and 1); bring the scores to 0 to 1"
        )


def _span(rows: RowsOfOneKind) -> float:
    if isinstance(rows, PreferenceRows):
        return 1.0
    values = rows.scores if isinstance(rows, QualityRows) else np.concatenate([rows.strong, rows.weak])
    return float(np.abs(values).max())


def _joined(parts: Sequence[PairRows]) -> PairRows:
    if not parts:
        raise ConfigError("no row of any source compares the two models")
    return PairRows(
        prompts=tuple(chain.from_iterable(part.prompts for part in parts)),
        weights=np.concatenate([part.weights for part in parts]),
        places=tuple(chain.from_iterable(part.places for part in parts)),
        licences=tuple(sorted({licence for part in parts for licence in part.licences})),
        groups=MixedRows(tuple(parts)).groups,
        strong=np.concatenate([part.strong for part in parts]),
        weak=np.concatenate([part.weak for part in parts]),
    )


def _kind(record: PromptRecord) -> str:
    values = record.values
    if "strong" in values and "weak" in values:
        return "strong/weak"
    if "model_a" in values and "model_b" in values:
        return "preference"
    if "model" in values and "score" in values:
        return "quality"
    raise ConfigError(
        f"{record.place}: cannot tell what kind of row this is; it needs strong and weak, or model and score, or "
        f"model_a, model_b and winner, beside the prompt. Of these it has {', '.join(sorted(values)) or 'none'}"
    )


def _common(records: Sequence[PromptRecord]) -> dict[str, Any]:
    stated = {str(r.values.get("licence") or r.values.get("data_licence") or "") for r in records} - {""}
    groups = tuple(str(record.values.get("group") or "") for record in records)
    return {
        "prompts": tuple(prompt_cell(record) for record in records),
        "groups": groups if any(groups) else (),
        "weights": np.array([weight_cell(record) for record in records]),
        "places": tuple(record.place for record in records),
        "licences": tuple(sorted(stated)),
    }


def _pairs(records: Sequence[PromptRecord]) -> PairRows:
    return PairRows(
        **_common(records),
        strong=np.array([number_cell(record, "strong") for record in records]),
        weak=np.array([number_cell(record, "weak") for record in records]),
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


_BUILDERS: Final[Mapping[str, Callable[[Sequence[PromptRecord]], RowsOfOneKind]]] = {
    "strong/weak": _pairs,
    "quality": _qualities,
    "preference": _preferences,
}


def _from_quality(rows: QualityRows, strong_model: str, weak_model: str) -> PairRows:
    answers: dict[str, dict[str, list[int]]] = {}
    for row, (prompt, model) in enumerate(zip(rows.prompts, rows.models, strict=True)):
        if model in (strong_model, weak_model):
            answers.setdefault(prompt, {}).setdefault(model, []).append(row)
    both = {prompt: found for prompt, found in answers.items() if len(found) == 2}
    return PairRows(
        prompts=tuple(both),
        weights=np.array([rows.weights[list(chain.from_iterable(found.values()))].mean() for found in both.values()]),
        places=tuple(rows.places[found[strong_model][0]] for found in both.values()),
        licences=rows.licences,
        groups=tuple(rows.groups[found[strong_model][0]] for found in both.values()) if rows.groups else (),
        strong=np.array([rows.scores[found[strong_model]].mean() for found in both.values()]),
        weak=np.array([rows.scores[found[weak_model]].mean() for found in both.values()]),
    )


def _from_battles(rows: PreferenceRows, strong_model: str, weak_model: str) -> PairRows:
    pair = {strong_model, weak_model}
    kept = [row for row in range(len(rows)) if {rows.model_a[row], rows.model_b[row]} == pair]
    first = np.array([rows.model_a[row] == strong_model for row in kept], dtype=bool)
    outcome = np.where(first, rows.outcome[kept], 1.0 - rows.outcome[kept])
    return PairRows(
        prompts=tuple(rows.prompts[row] for row in kept),
        weights=rows.weights[kept],
        places=tuple(rows.places[row] for row in kept),
        licences=rows.licences,
        groups=tuple(rows.groups[row] for row in kept) if rows.groups else (),
        strong=outcome,
        weak=1.0 - outcome,
    )
