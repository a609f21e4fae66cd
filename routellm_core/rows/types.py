"""What labelled rows are once they are read, of one kind or several, and what they say about one pair of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What all rows have: n prompts, their weights, shape (n,), positive, and file and line, for errors.

    Attributes:
        licences: what the rows say about their licence, each statement once.
        groups: name of each row's group (a conversation, a template), ``""`` for none; empty where no row has one.
            Rows of a group are not independent, so they are never split between learning and measuring.
    """

    prompts: tuple[str, ...]
    weights: Floats
    places: tuple[str, ...]
    licences: tuple[str, ...]
    groups: tuple[str, ...] = field(default=(), kw_only=True)

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


@dataclass(frozen=True, eq=False)
class MixedRows:
    """Rows of several kinds, for one pair of models: human votes beside a judge's labels beside golden ones.

    Attributes:
        parts: rows of one kind each.
    """

    parts: tuple[RowsOfOneKind, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of all parts, in order."""
        return tuple(chain.from_iterable(part.prompts for part in self.parts))

    @property
    def places(self) -> tuple[str, ...]:
        """Likewise file and line."""
        return tuple(chain.from_iterable(part.places for part in self.parts))

    @property
    def groups(self) -> tuple[str, ...]:
        """Likewise the groups; empty where no row has one."""
        named = [part.groups or ("",) * len(part) for part in self.parts]
        return tuple(chain.from_iterable(named)) if any(part.groups for part in self.parts) else ()

    @property
    def weights(self) -> Floats:
        """Likewise the weights, shape (n,)."""
        return np.concatenate([part.weights for part in self.parts])


RowsOfOneKind: TypeAlias = PairRows | QualityRows | PreferenceRows
TrainingRows: TypeAlias = RowsOfOneKind | MixedRows


RowsT = TypeVar("RowsT", bound=RowsOfOneKind)


def pair_rows(rows: TrainingRows, *, strong_model: str, weak_model: str) -> PairRows:
    """Return what the rows say about one pair of models.

    Of quality rows, the prompts that both models answered (scores of repeated answers are averaged); of preference
    rows, the battles between the two: a win is (1, 0), a tie (0.5, 0.5). Strong/weak rows are returned as they are.

    Raises:
        ConfigError: nothing is left (the message names the models that there are), or mixed rows in different units.
    """
    if isinstance(rows, PairRows):
        return rows
    parts = rows.parts if isinstance(rows, MixedRows) else (rows,)
    refuse_mixed_units(parts)
    found = [kept for part in parts if len(kept := _pair_rows(part, strong_model, weak_model))]
    if found:
        return joined_rows(found)
    named: set[str] = set()
    for part in parts:
        named.update(part.models if isinstance(part, QualityRows) else ())
        named.update((*part.model_a, *part.model_b) if isinstance(part, PreferenceRows) else ())
    raise ConfigError(
        f"no row compares {strong_model!r} with {weak_model!r}; the data name {', '.join(sorted(named)[:10])}"
    )


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


def joined_rows(parts: Sequence[RowsT]) -> RowsT:
    """Return rows of one kind as one."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        "licences": tuple(sorted({licence for part in parts for licence in part.licences})),
        "groups": MixedRows(tuple(parts)).groups,
    }
    for name in (column.name for column in fields(parts[0])):
        cells = [getattr(part, name) for part in parts]
        if name not in columns:
            joined = np.concatenate(cells) if isinstance(cells[0], np.ndarray) else tuple(chain.from_iterable(cells))
            columns[name] = joined
    return type(parts[0])(**columns)


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
