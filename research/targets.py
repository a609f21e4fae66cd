"""What is learned: how hard a prompt is, from the answers of many models.

The win of one model over another on a prompt is a poor target: it is nearly all noise and does not carry over to
another pair. A prompt's *difficulty*, its mean failure over every model that answered it, does; see
docs/training-notes.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.pool import Pool

__all__ = ["DifficultyRows", "difficulty_rows"]

_MIN_SPREAD: Final = 0.02
"""Standard deviation of a model's scores in a group below which the group says nothing about that model."""
_MIN_SCALE: Final = 0.15
"""A rarely failing model is scaled as if it spread this much, so that one failure is not a six-sigma event."""
_MIN_SHARED: Final = 30
"""Prompts that two models must share for their covariance to count."""
_MIN_SIGNAL: Final = 1e-3
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DifficultyRows:
    """Prompts with a difficulty each. The arrays have length n.

    Attributes:
        prompt_ids: ids in the pool.
        texts: the prompts.
        target: difficulty in units of its own signal's standard deviation within the group, mean 0 in each group.
        noise: variance of the target within the group in the same units, that is 1 / reliability.
        group: the group (source and category, or source) within which everything is centred.
        unit: the unit whose effects may differ from the common ones (see ``matrix_factorization``).
    """

    prompt_ids: list[str]
    texts: list[str]
    target: Floats
    noise: Floats
    group: npt.NDArray[np.str_]
    unit: npt.NDArray[np.str_]

    def select(self, keep: npt.NDArray[np.bool_]) -> DifficultyRows:
        """Return the rows where ``keep`` (n,) is True."""
        rows = np.flatnonzero(keep)
        return DifficultyRows(
            prompt_ids=[self.prompt_ids[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            target=self.target[rows],
            noise=self.noise[rows],
            group=self.group[rows],
            unit=self.unit[rows],
        )


def difficulty_rows(pool: Pool, *, by_category: bool = True) -> DifficultyRows:
    """Compute the difficulty of every prompt that models with known correctness answered.

    Each model's scores are centred and scaled within the group, so that a prompt answered by strong models only does
    not look easy; the negative mean over models is the difficulty. A category's reliability (Cronbach's alpha) is the
    share of the difficulty's variance that models agree on: five models guessing at four options agree on little, and
    such a category must weigh less than one with fifty models.

    Args:
        pool: the training pool; sources without scores (human votes) drop out.
        by_category: groups are (source, category); otherwise sources, so that differences between the categories of
            one source count.
    """
    prompts = pool.prompts
    source = prompts["source"].astype(str)
    frame = prompts.assign(category_key=source + "|" + prompts["category"].astype(str), source_key=source)
    answers = pool.scores.merge(frame[["prompt_id", "category_key", "source_key"]], on="prompt_id")
    group = "category_key" if by_category else "source_key"
    difficulty = _standardised(answers, group).groupby("prompt_id")["failure"].mean()
    rows = frame[frame["prompt_id"].isin(difficulty.index)].reset_index(drop=True)
    target = rows["prompt_id"].map(difficulty).to_numpy(dtype=np.float64, copy=True)
    noise = np.ones(len(rows))
    reliabilities = _reliabilities(_standardised(answers, "category_key"))
    for name, members in rows.groupby("category_key").indices.items():
        signal, total = reliabilities.get(str(name), (_MIN_SIGNAL, 1.0))
        target[members] /= np.sqrt(signal)
        noise[members] = total / signal
    keys = rows[group].to_numpy(dtype=str)
    for name in np.unique(keys):
        target[keys == name] -= target[keys == name].mean()
    return DifficultyRows(
        prompt_ids=rows["prompt_id"].tolist(),
        texts=rows["prompt"].tolist(),
        target=target,
        noise=noise,
        group=keys,
        unit=rows["source_key"].to_numpy(dtype=str),
    )


def _standardised(answers: Any, group: str) -> Any:
    """Answers with ``failure``: (the model's mean in the group − score) / its spread there."""
    by_model = answers.groupby([group, "model"])["score"]
    mean, spread = by_model.transform("mean"), by_model.transform("std")
    failure = (mean - answers["score"]) / spread.clip(lower=_MIN_SCALE)
    return answers.assign(failure=failure)[spread > _MIN_SPREAD]


def _reliabilities(answers: Any) -> dict[str, tuple[float, float]]:
    """For each category the variance of the difficulty that models agree on, and all of its variance."""
    found = {}
    for name, members in answers.groupby("category_key"):
        total = float(members.groupby("prompt_id")["failure"].mean().var(ddof=0))
        total = max(total, _MIN_SIGNAL)
        found[str(name)] = (float(np.clip(_signal_variance(members), _MIN_SIGNAL, total)), total)
    return found


def _signal_variance(answers: Any) -> float:
    """Mean covariance between two models' standardised failures: the variance that they share; 0 if unknown."""
    table = answers.pivot_table(index="prompt_id", columns="model", values="failure")
    covariance = table.cov(min_periods=_MIN_SHARED).to_numpy()
    between = covariance[~np.eye(len(covariance), dtype=bool)]
    between = between[np.isfinite(between)]
    return float(between.mean()) if len(between) else 0.0
