"""The difficulty direction that every shipped router rests on: how hard a prompt is, linear in its embedding.

The settings were chosen on held-out sources; see docs/training-notes.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from research.difficulty import FitOptions, Information, fit_direction, unit_information
from research.pool import Pool
from research.targets import DifficultyRows, difficulty_rows
from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.embeddings.surface import SURFACE_NAMES, surface_dimension

__all__ = [
    "CORE_SURFACE",
    "LENGTH_PRIOR",
    "PENALTY",
    "TRAFFIC_SOURCE",
    "UNIT_SPREAD",
    "DifficultyFit",
    "fit_difficulty",
    "traffic_prompts",
]

logger = logging.getLogger(__name__)
TRAFFIC_SOURCE: Final = "arena55k"
"""The source that stands for ordinary traffic."""
PENALTY: Final = 3000.0
UNIT_SPREAD: Final = 0.01
LENGTH_PRIOR: Final = 0.8
"""Prior mean of the weight of ``log_chars``: longer prompts are harder. Chosen on held-out sources."""
CORE_SURFACE: Final = frozenset(
    {
        "log_chars",
        "log_words",
        "log_lines",
        "log_sentences",
        "word_length",
        "long_word_share",
        "log_numbers",
        "number_share",
        "has_choices",
        "log_stem_chars",
        "log_choice_chars",
        "choice_digit_share",
        "count_question",
        "count_comma",
        "share_upper",
        "count_equals",
        "count_arithmetic",
        "count_dollar",
        "count_backslash",
        "cue_code",
        "cue_computation",
        "cue_proof",
        "cue_hypothesis",
        "cue_negation",
        "cue_following",
        "cue_writing",
        "cue_lookup",
    }
)
"""Surface features of the within-category fit, which has less to learn from than the within-source one."""


@dataclass(frozen=True)
class _Regression:
    """One of the two regressions that are averaged: its rows' information by source, and its columns."""

    information: dict[str, Information]
    columns: npt.NDArray[np.int64]
    options: FitOptions

    def direction(self, *, without: str | None = None) -> npt.NDArray[np.float64]:
        """Solve on every source but one; zero in the columns that the regression does not use."""
        kept = [
            (gram[np.ix_(self.columns, self.columns)], moment[self.columns])
            for source, (gram, moment) in self.information.items()
            if source != without
        ]
        direction = np.zeros(len(next(iter(self.information.values()))[1]))
        direction[self.columns] = fit_direction(kept, self.options)
        return direction


@dataclass(frozen=True)
class DifficultyFit:
    """Difficulty regressed on the embedding, ready to be solved without any one source.

    The direction is the mean of two regressions: difficulty within a source on all features, and difficulty within a
    category on the core features.

    Attributes:
        rows: difficulties within the source.
        embeddings: shape (n, d), aligned with ``rows``.
    """

    rows: DifficultyRows
    embeddings: Embeddings
    within_source: _Regression
    within_category: _Regression

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that were fitted."""
        return tuple(self.within_source.information)

    def direction(self, *, without: str | None = None) -> npt.NDArray[np.float64]:
        """Return θ, shape (d,), fitted on every source but one."""
        parts = (self.within_source.direction(without=without), self.within_category.direction(without=without))
        return 0.5 * parts[0] + 0.5 * parts[1]


def fit_difficulty(pool: Pool, embedder: Embedder) -> DifficultyFit:
    """Embed the pool's scored prompts and collect what both regressions need."""
    rows = difficulty_rows(pool, by_category=False)
    logger.info("embedding %d prompts with %s", len(rows.texts), embedder.name)
    embeddings = embedder.embed(rows.texts)
    row_of = {prompt_id: row for row, prompt_id in enumerate(rows.prompt_ids)}
    inner = difficulty_rows(pool, by_category=True)
    inner_embeddings = embeddings[[row_of[prompt_id] for prompt_id in inner.prompt_ids]]
    return DifficultyFit(
        rows=rows,
        embeddings=embeddings,
        within_source=_regression(embeddings, rows, core_only=False),
        within_category=_regression(inner_embeddings, inner, core_only=True),
    )


def traffic_prompts(pool: Pool) -> list[str]:
    """The prompts that stand for ordinary traffic, in the pool's order; some occur more than once."""
    prompts = pool.prompts
    texts: list[str] = prompts.loc[prompts["source"] == TRAFFIC_SOURCE, "prompt"].tolist()
    return texts


def _regression(embeddings: Embeddings, rows: DifficultyRows, *, core_only: bool) -> _Regression:
    dimension = embeddings.shape[1]
    semantic = dimension - surface_dimension() - 1
    used = [name in CORE_SURFACE or not core_only for name in SURFACE_NAMES]
    columns = np.flatnonzero(np.concatenate([np.ones(semantic, dtype=bool), used, [False]]))
    prior = np.zeros(dimension)
    prior[semantic + SURFACE_NAMES.index("log_chars")] = LENGTH_PRIOR
    options = FitOptions(penalty=PENALTY, prior_mean=prior[columns], unit_spread=UNIT_SPREAD)
    return _Regression(information=unit_information(embeddings, rows), columns=columns, options=options)
