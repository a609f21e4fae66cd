"""Fitting without a part of the rows, and scoring that part: what every honest figure of a trained router rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.training.checks import normalised

__all__ = ["CrossFit", "cross_fit", "group_numbers", "grouped_folds"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Kept = npt.NDArray[np.bool_]
_FOLDS: Final = 10
_FEWER_FOLDS: Final = 5
_MANY: Final = 5000
"""Rows above which a fifth left out costs the fit nothing, and a tenth more time."""
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

    Args:
        groups: as from :func:`group_numbers`, shape (n,).
        count: of folds; None takes ten, or five of many rows.
        seed: of the assignment.

    Raises:
        ConfigError: fewer than ten groups.
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
    """Predictions for rows by fits that did not see them.

    Attributes:
        folds: of the m items, shape (m,).
        held_out: shape (m, …), by the fit without an item's fold.
        refitted: shape (folds, m, …), by fits without its fold and one more; NaN in its own fold.
    """

    folds: Indices
    held_out: Floats
    refitted: Floats


def cross_fit(fit: Callable[[Kept], Floats], folds: Indices, *, of_items: Indices | None = None) -> CrossFit:
    """Fit without every fold, and without every two.

    Args:
        fit: from the rows to fit on, shape (n,), to predictions for at least the items that are left out, shape (m, …).
        folds: of the rows, shape (n,), from 0.
        of_items: folds of what is predicted, shape (m,); None where that is the rows.
    """
    count = int(folds.max()) + 1
    items = folds if of_items is None else of_items
    held_out: Floats | None = None
    refitted: Floats | None = None
    for first in range(count):
        without, asked = folds != first, items == first
        predicted = fit(without)
        if held_out is None or refitted is None:
            held_out = np.empty_like(predicted)
            refitted = np.full((count, *predicted.shape), np.nan)
        held_out[asked] = predicted[asked]
        for second in range(first + 1, count):
            predicted = fit(without & (folds != second))
            refitted[second, asked] = predicted[asked]
            refitted[first, items == second] = predicted[items == second]
    assert held_out is not None and refitted is not None  # noqa: S101, PT018 (there is a fold)
    return CrossFit(items, held_out, refitted)
