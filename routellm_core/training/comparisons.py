"""Rows over many models as one table of comparisons: a prompt, two models, and the gain of one over the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.rows.labelled import refuse_mixed_units
from routellm_core.rows.types import (
    PreferenceRows,
    QualityRows,
    TrainingRows,
)
from routellm_core.training.checks import RARE, parts_of
from routellm_core.training.crossfit import group_numbers

__all__ = ["Comparisons", "comparisons_of", "models_named"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
_OPPONENTS: Final = 8
"""Models that a prompt's answer is compared with, where more than so many answered it."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Comparisons of M models on p prompts."""

    models: tuple[str, ...]  # M names
    prompts: tuple[str, ...]  # p texts, each once
    prompt: Indices  # shape (n,), indices into ``prompts``
    model_a: Indices  # shape (n,), indices into ``models``
    model_b: Indices  # shape (n,), indices into ``models``
    gain: Floats  # shape (n,), quality of model_a minus model_b
    weights: Floats  # shape (n,), positive
    group: Indices  # shape (p,), the same number for prompts that are not independent of each other

    def __len__(self) -> int:
        return len(self.gain)

    def prompts_by_model(self) -> dict[str, int]:
        """Return on how many prompts each model was compared."""
        seen = np.zeros((len(self.prompts), len(self.models)), dtype=bool)
        seen[self.prompt, self.model_a] = True
        seen[self.prompt, self.model_b] = True
        return {model: int(count) for model, count in zip(self.models, seen.sum(axis=0), strict=True)}

    def of_models(self, models: Sequence[str]) -> Comparisons:
        """Return the comparisons among ``models`` alone, renumbered in their order."""
        number = {model: place for place, model in enumerate(models)}
        place = np.array([number.get(model, -1) for model in self.models], dtype=np.intp)
        return self._selected((place[self.model_a] >= 0) & (place[self.model_b] >= 0), tuple(models), place)

    def about(self, models: Sequence[str]) -> Comparisons:
        """Return the comparisons in which at least one of ``models`` takes part."""
        asked = np.isin(np.array(self.models), list(models))
        return self._selected(
            asked[self.model_a] | asked[self.model_b], self.models, np.arange(len(self.models), dtype=np.intp)
        )

    def _selected(self, kept: npt.NDArray[np.bool_], models: tuple[str, ...], place: Indices) -> Comparisons:
        used, prompt = np.unique(self.prompt[kept], return_inverse=True)
        return Comparisons(
            models=models,
            prompts=tuple(self.prompts[row] for row in used),
            prompt=prompt.astype(np.intp),
            model_a=place[self.model_a[kept]],
            model_b=place[self.model_b[kept]],
            gain=self.gain[kept],
            weights=self.weights[kept],
            group=self.group[used],
        )

    def without_rare(
        self, *, needed: Iterable[str] = (), known: Iterable[str] = ()
    ) -> tuple[Comparisons, dict[str, int]]:
        """Return the comparisons without models that have fewer than ``RARE`` prompts, and those models' prompts.

        Models that are ``known`` have vectors already, and so may be rare and need no comparisons among themselves.
        Raises ConfigError where a ``needed`` model is too rare, or models fall into groups that were never compared.
        """
        left_out: dict[str, int] = {}
        battles, kept = self, set(known)
        while rare := {m: seen for m, seen in battles.prompts_by_model().items() if seen < RARE and m not in kept}:
            left_out |= rare
            battles = battles.of_models([model for model in battles.models if model not in rare])
        if missing := sorted(left_out.keys() & set(needed)):
            raise ConfigError(
                f"model {missing[0]!r} was compared on {left_out[missing[0]]} prompts; at least {RARE} are needed for "
                "a vector of its own"
            )
        battles._refuse_islands(kept)
        return battles, left_out

    def _refuse_islands(self, known: Collection[str]) -> None:
        group = np.array([-1 if model in known else place for place, model in enumerate(self.models)])
        pairs = {(int(a), int(b)) for a, b in zip(self.model_a, self.model_b, strict=True)}
        for _ in self.models:
            for a, b in pairs:
                group[a] = group[b] = min(group[a], group[b])
        groups = [[model for model, of in zip(self.models, group, strict=True) if of == g] for g in np.unique(group)]
        if len(groups) > 1:
            first, second = (", ".join(members[:4]) for members in groups[:2])
            raise ConfigError(f"no chain of rows compares {first} with {second}; add such rows, or train them apart")


def models_named(rows: TrainingRows) -> tuple[str, ...]:
    """Return the models that preference and quality rows name, in order; strong/weak rows name none."""
    found: dict[str, None] = {}
    for part in parts_of(rows):
        if isinstance(part, QualityRows):
            found.update(dict.fromkeys(part.models))
        elif isinstance(part, PreferenceRows):
            found.update(dict.fromkeys((*part.model_a, *part.model_b)))
    return tuple(found)


def comparisons_of(rows: TrainingRows, *, strong_model: str, weak_model: str, seed: int = 0) -> Comparisons:
    """Make comparisons of rows.

    A battle's gain is 1, 0 or -1. Of quality rows every two models that answered a prompt are compared, each pair with
    the weight 2/m for m models: the sum is then that of a regression with an effect of its own for every prompt.
    Strong/weak rows compare the named pair. Weights are relative to the rows' mean. ``seed`` chooses opponents where
    very many models answered a prompt. Raises ConfigError where rows of several kinds measure in different units.
    """
    refuse_mixed_units(parts_of(rows))
    models = tuple(dict.fromkeys((*models_named(rows), strong_model, weak_model)))
    number = {model: place for place, model in enumerate(models)}
    generator = np.random.default_rng(seed)
    prompts: dict[str, int] = {}
    table: list[tuple[int, int, int, float, float]] = []
    for part in parts_of(rows):
        if isinstance(part, QualityRows):
            compared = _quality_comparisons(part, number, generator)
        elif isinstance(part, PreferenceRows):
            compared = (
                (part.prompts[row], number[part.model_a[row]], number[part.model_b[row]], 2.0 * outcome - 1.0, weight)
                for row, (outcome, weight) in enumerate(zip(part.outcome.tolist(), part.weights.tolist(), strict=True))
            )
        else:
            pair = (number[strong_model], number[weak_model])
            compared = (
                (prompt, *pair, gain, weight)
                for prompt, gain, weight in zip(part.prompts, part.gain.tolist(), part.weights.tolist(), strict=True)
            )
        table += [(prompts.setdefault(prompt, len(prompts)), *facts) for prompt, *facts in compared]  # type: ignore[misc]
    prompt, model_a, model_b, gain, weights = (np.array(column) for column in zip(*table, strict=True))
    return Comparisons(
        models=models,
        prompts=tuple(prompts),
        prompt=prompt.astype(np.intp),
        model_a=model_a.astype(np.intp),
        model_b=model_b.astype(np.intp),
        gain=gain.astype(np.float64),
        weights=weights.astype(np.float64) / float(rows.weights.mean()),
        group=_groups(rows, prompts),
    )


def _groups(rows: TrainingRows, place: Mapping[str, int]) -> Indices:
    """Number the groups of the distinct prompts, shape (p,)."""
    of_row = group_numbers(rows.prompts, rows.groups)
    groups = np.empty(len(place), dtype=np.intp)
    groups[[place[prompt] for prompt in rows.prompts if prompt in place]] = [
        number for prompt, number in zip(rows.prompts, of_row.tolist(), strict=True) if prompt in place
    ]
    return groups


def _quality_comparisons(
    rows: QualityRows, number: Mapping[str, int], generator: np.random.Generator
) -> Iterable[tuple[str, int, int, float, float]]:
    answers: dict[str, dict[int, list[int]]] = {}
    for row, (prompt, model) in enumerate(zip(rows.prompts, rows.models, strict=True)):
        answers.setdefault(prompt, {}).setdefault(number[model], []).append(row)
    for prompt, found in answers.items():
        score = {model: float(rows.scores[place].mean()) for model, place in found.items()}
        weight = {model: float(rows.weights[place].mean()) for model, place in found.items()}
        pairs = _pairs(list(found), generator)
        for a, b in pairs:
            share = (len(found) - 1) / len(pairs)  # m - 1 comparisons' worth in all, as m answers say
            yield prompt, a, b, score[a] - score[b], share * (weight[a] + weight[b]) / 2.0


def _pairs(models: list[int], generator: np.random.Generator) -> list[tuple[int, int]]:
    if len(models) <= _OPPONENTS + 1:
        return list(combinations(models, 2))
    order = generator.permutation(models).tolist()
    return [
        (order[place], order[(place + step) % len(order)])
        for place in range(len(order))
        for step in range(1, _OPPONENTS // 2 + 1)
    ]
