"""What labelled rows are once they are read: arrays of one kind, or several kinds side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["MixedRows", "PairRows", "PreferenceRows", "QualityRows", "RowsOfOneKind", "TrainingRows"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What all rows have.

    Attributes:
        prompts: n texts.
        weights: shape (n,), positive.
        places: file and line of each row, for errors.
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
