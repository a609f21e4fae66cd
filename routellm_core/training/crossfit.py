"""Fitting without a part of the rows, and scoring that part: what every honest figure of a trained router rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.training.checks import normalised

__all__ = ["TEST_SPLIT", "CrossFit", "cross_fit", "group_numbers", "grouped_folds", "held_out_of"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Fit: TypeAlias = Callable[[npt.NDArray[np.bool_]], Floats]
TEST_SPLIT: Final = "Rows of a test split that shares no prompt with the training rows"
_FOLDS: Final = 8
_FEWER_FOLDS: Final = 5
_MANY: Final = 5000
"""Rows above which a fifth left out costs the fit little, and an eighth more time."""
_LEAST_GROUPS: Final = 10


def group_numbers(prompts: Sequence[str], groups: Sequence[str] = ()) -> Indices:
    """Return a number for each row, shape (n,): rows that share a group, or whose texts are equal, share one.

    Args:
        prompts: n texts.
        groups: n names, ``""`` where a row belongs to no group; empty where no row does.
    """
    graph = import_extra("scipy.sparse", extra="train", purpose="Training on grouped rows")
    connected = import_extra("scipy.sparse.csgraph", extra="train", purpose="Training on grouped rows")
    names: dict[tuple[bool, str], int] = {}
    rows, nodes = [], []
    for row, prompt in enumerate(prompts):
        keys = [(False, normalised(prompt))]
        keys += [(True, groups[row])] if groups and groups[row] else []
        rows += [row] * len(keys)
        nodes += [names.setdefault(key, len(names)) for key in keys]
    incidence = graph.coo_matrix((np.ones(len(rows)), (rows, nodes)), shape=(len(prompts), len(names))).tocsr()
    _, labels = connected.connected_components(incidence @ incidence.T, directed=False)
    return np.asarray(labels, dtype=np.intp)


def grouped_folds(groups: Indices, *, count: int | None = None, seed: int = 0) -> Indices:
    """Return a fold for each row, shape (n,); rows of one group share it, and folds are about equally large.

    A ``count`` of None takes eight folds, or five of many rows. Raises ConfigError for fewer than ten groups.
    """
    selection = import_extra("sklearn.model_selection", extra="train", purpose="Cross-validation")
    named, group = np.unique(groups, return_inverse=True)
    if len(named) < _LEAST_GROUPS:
        raise ConfigError(
            f"the rows form {len(named)} groups; at least {_LEAST_GROUPS} are needed, because a group is never split "
            "between what is learned from and what is measured on"
        )
    folded = selection.GroupKFold(count or (_FEWER_FOLDS if len(groups) > _MANY else _FOLDS))
    shuffled = np.random.default_rng(seed).permutation(len(named))[group]
    folds = np.empty(len(groups), dtype=np.intp)
    for fold, (_, inside) in enumerate(folded.split(folds, groups=shuffled)):
        folds[inside] = fold
    return folds


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Predictions for rows by fits that did not see them."""

    folds: Indices  # of the m items, shape (m,)
    held_out: Floats  # shape (m, …), by the fit without an item's fold
    refitted: Floats  # shape (folds, m, …), by fits without its fold and one more; NaN in its own fold


def held_out_of(fit: Fit, folds: Indices, of_items: Indices | None = None) -> Floats:
    """Return predictions by fits without an item's fold, shape (m, …); arguments are those of :func:`cross_fit`."""
    items = folds if of_items is None else of_items
    found: Floats | None = None
    for fold in range(int(folds.max()) + 1):
        predicted = fit(folds != fold)
        found = np.empty_like(predicted) if found is None else found
        found[items == fold] = predicted[items == fold]
    assert found is not None  # noqa: S101 (there is a fold)
    return found


def cross_fit(fit: Fit, folds: Indices, held_out: Floats | None = None, *, of_items: Indices | None = None) -> CrossFit:
    """Fit without every fold, and without every two.

    ``fit`` goes from the rows to fit on, shape (n,), to predictions for at least the items left out, shape (m, …).
    ``folds`` of the rows, shape (n,), count from 0, as do ``of_items``, shape (m,), None where the rows are predicted;
    ``held_out`` is what :func:`held_out_of` returns, where that is known.
    """
    items = folds if of_items is None else of_items
    known = held_out_of(fit, folds, of_items) if held_out is None else held_out
    count = int(folds.max()) + 1
    refitted = np.full((count, *known.shape), np.nan)
    for first in range(count):
        for second in range(first + 1, count):
            predicted = fit((folds != first) & (folds != second))
            refitted[second, items == first] = predicted[items == first]
            refitted[first, items == second] = predicted[items == second]
    return CrossFit(items, known, refitted)
