"""Labelled prompts of a user's own: three kinds of rows, read from files and checked one by one.

    strong/weak   {"prompt": …, "strong": 1, "weak": 0}                      quality of both models' answers
    quality       {"prompt": …, "model": "m", "score": 0.8}                  one row per prompt and model
    preference    {"prompt": …, "model_a": "m", "model_b": "n", "winner": "model_a"}   or "model_b", "tie"

Each may have a ``weight``: how much it counts beside rows from another labeller (the paper's mix of human votes, a
judge's and golden labels). ``prompt`` may also be a list of chat messages; the text that would be routed on is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.prompt_files import PromptRecord, read_records
from routellm_core.prompts import routing_prompt

__all__ = ["PairRows", "PreferenceRows", "QualityRows", "TrainingRows", "load_rows", "pair_rows"]

Floats = npt.NDArray[np.float64]
_WINNERS: Final = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
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
    "weight",
    "licence",
    "data_licence",
)


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What all rows have.

    Attributes:
        prompts: n texts.
        weights: shape (n,), not negative.
        places: file and line of each row, for errors.
        licences: what the rows say about their licence, each statement once.
    """

    prompts: tuple[str, ...]
    weights: Floats
    places: tuple[str, ...]
    licences: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, eq=False)
class PairRows(_Labelled):
    """Quality of the strong and the weak model's answers: ``strong`` and ``weak``, shape (n,), in any one unit."""

    strong: Floats
    weak: Floats

    @property
    def gain(self) -> Floats:
        """Strong minus weak quality, shape (n,)."""
        return self.strong - self.weak

    @property
    def wins(self) -> npt.NDArray[np.bool_]:
        """Where the strong model is strictly better, shape (n,)."""
        return self.strong > self.weak


@dataclass(frozen=True, eq=False)
class QualityRows(_Labelled):
    """One model's score each: ``models`` n names, ``scores`` shape (n,)."""

    models: tuple[str, ...]
    scores: Floats


@dataclass(frozen=True, eq=False)
class PreferenceRows(_Labelled):
    """Battles: n names each, and ``outcome`` shape (n,): 1 where model_a won, 0 where model_b did, 0.5 for a tie."""

    model_a: tuple[str, ...]
    model_b: tuple[str, ...]
    outcome: Floats


TrainingRows: TypeAlias = PairRows | QualityRows | PreferenceRows


def load_rows(files: Sequence[str | Path], *, column: str | None = None) -> TrainingRows:
    """Read rows of one kind, told by their columns.

    Args:
        files: ``.jsonl``, ``.csv`` or ``.parquet``, all with rows of the same kind.
        column: the prompt's column; by default the first of prompt, text, question, messages.

    Raises:
        ConfigError: no rows, columns of no kind, or a cell that makes no sense; the message has file and line.
        MissingExtraError: a parquet file without ``pyarrow``.
    """
    records = [record for file in files for record in read_records(Path(file), column=column, columns=_COLUMNS)]
    if not records:
        raise ConfigError(f"no rows in {', '.join(str(file) for file in files) or 'no files'}")
    return _BUILDERS[_kind(records[0])](records)


def pair_rows(rows: TrainingRows, *, strong_model: str, weak_model: str) -> PairRows:
    """Return what the rows say about one pair of models.

    Of quality rows, the prompts that both models answered (scores of repeated answers are averaged); of preference
    rows, the battles between the two: a win is (1, 0), a tie (0.5, 0.5). Strong/weak rows are returned as they are.

    Raises:
        ConfigError: nothing is left; the message names the models that there are.
    """
    if isinstance(rows, PairRows):
        return rows
    pairs = _from_quality(rows, strong_model, weak_model) if isinstance(rows, QualityRows) else None
    if isinstance(rows, PreferenceRows):
        pairs = _from_battles(rows, strong_model, weak_model)
    if pairs is None or not len(pairs):
        models = rows.models if isinstance(rows, QualityRows) else (*rows.model_a, *rows.model_b)
        known = ", ".join(sorted(set(models))[:10])
        raise ConfigError(f"no row compares {strong_model!r} with {weak_model!r}; the data name {known}")
    return pairs


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
    return {
        "prompts": tuple(_prompt(record) for record in records),
        "weights": np.array([_weight(record) for record in records]),
        "places": tuple(record.place for record in records),
        "licences": tuple(sorted(stated)),
    }


def _pairs(records: Sequence[PromptRecord]) -> PairRows:
    return PairRows(
        **_common(records),
        strong=np.array([_number(record, "strong") for record in records]),
        weak=np.array([_number(record, "weak") for record in records]),
    )


def _qualities(records: Sequence[PromptRecord]) -> QualityRows:
    return QualityRows(
        **_common(records),
        models=tuple(_name(record, "model") for record in records),
        scores=np.array([_number(record, "score") for record in records]),
    )


def _preferences(records: Sequence[PromptRecord]) -> PreferenceRows:
    model_a = tuple(_name(record, "model_a") for record in records)
    model_b = tuple(_name(record, "model_b") for record in records)
    for record, first, second in zip(records, model_a, model_b, strict=True):
        if first == second:
            raise ConfigError(f"{record.place}: model_a and model_b are both {first!r}; a battle needs two models")
    outcome = np.array([_outcome(record) for record in records])
    return PreferenceRows(**_common(records), model_a=model_a, model_b=model_b, outcome=outcome)


_BUILDERS: Final[Mapping[str, Callable[[Sequence[PromptRecord]], TrainingRows]]] = {
    "strong/weak": _pairs,
    "quality": _qualities,
    "preference": _preferences,
}


def _prompt(record: PromptRecord) -> str:
    conversation = record.conversation
    text = conversation if isinstance(conversation, str) else routing_prompt(conversation) or ""
    if not text.strip():
        raise ConfigError(f"{record.place}: the prompt is empty")
    return text


def _number(record: PromptRecord, name: str) -> float:
    value = record.values.get(name)
    truth = {"true": 1.0, "false": 0.0}.get(str(value).strip().lower())
    try:
        number = float(value) if truth is None else truth  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{record.place}: {name} must be a number, got {value!r:.60}")
    return number


def _weight(record: PromptRecord) -> float:
    if record.values.get("weight") in (None, ""):
        return 1.0
    weight = _number(record, "weight")
    if weight < 0.0:
        raise ConfigError(f"{record.place}: weight must not be negative, got {weight}")
    return weight


def _name(record: PromptRecord, name: str) -> str:
    value = record.values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{record.place}: {name} must name a model, got {value!r:.60}")
    return value.strip()


def _outcome(record: PromptRecord) -> float:
    values = record.values
    if "winner" in values:
        winner = str(values["winner"]).strip()
        if winner not in _WINNERS:
            raise ConfigError(f"{record.place}: winner must be one of {', '.join(_WINNERS)}, got {winner!r:.60}")
        return _WINNERS[winner]
    won = [_number(record, name) for name in ("winner_model_a", "winner_model_b")]
    if won[0] == won[1] == 1.0 or not set(won) <= {0.0, 1.0}:
        raise ConfigError(f"{record.place}: winner_model_a and winner_model_b must be 0 or 1, and not both 1")
    return 0.5 + 0.5 * (won[0] - won[1])


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
        strong=outcome,
        weak=1.0 - outcome,
    )
