"""Checks of labelled rows before anything is fitted: what would make the result worthless, and what to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.rows.types import MixedRows, PairRows, QualityRows, RowsOfOneKind, TrainingRows

__all__ = ["RowsReport", "check_pair_rows", "check_rows", "normalised", "parts_of", "refuse_leakage"]

MIN_ROWS: Final = 50
"""Rows of a pair below which nothing can be learned and nothing can be said about it."""
MIN_LABELS: Final = 10
"""Rows with, and without, a strict win of the strong model below which a probability cannot be calibrated."""
RARE: Final = 20
"""Rows of a model below which its vector is mostly the prior."""
_FEW: Final = 200


@dataclass(frozen=True)
class RowsReport:
    """What the rows are."""

    rows: int  # number of rows
    prompts: int  # number of distinct prompts, after :func:`normalised`
    labels: Mapping[str, int]  # label to number of rows
    models: Mapping[str, int]  # model to number of rows; empty for strong/weak rows
    warnings: tuple[str, ...]  # sentences for people


def normalised(prompt: str) -> str:
    """Return the prompt in lower case with single blanks: equal texts are one prompt."""
    return " ".join(prompt.lower().split())


def check_rows(rows: TrainingRows) -> RowsReport:
    """Count rows, prompts, labels and models, and warn of duplicates and rare models."""
    labels, models, warnings = Counter[str](), Counter[str](), dict[str, None]()
    for part in parts_of(rows):
        counted, named, distinct = _counted(part)
        labels.update(counted)
        models.update(named)
        if repeated := len(part) - distinct:
            warnings[f"{repeated} rows repeat another row's prompt; copies are kept on one side of every split"] = None
        if rare := sorted(model for model, count in named.items() if count < RARE):
            warnings[f"{len(rare)} models have fewer than {RARE} rows: {', '.join(rare[:8])}"] = None
    prompts = len({normalised(prompt) for prompt in rows.prompts})
    return RowsReport(len(rows), prompts, dict(labels), dict(models), tuple(warnings))


def parts_of(rows: TrainingRows) -> tuple[RowsOfOneKind, ...]:
    """Return the rows by kind."""
    return rows.parts if isinstance(rows, MixedRows) else (rows,)


def check_pair_rows(rows: PairRows) -> tuple[str, ...]:
    """Return warnings; raise ConfigError where nothing can be learned: few rows, labels all alike, or no weight."""
    wins = int(rows.wins.sum())
    if len(rows) < MIN_ROWS:
        raise ConfigError(f"{len(rows)} rows for the pair; at least {MIN_ROWS} are needed, 200 to 2,000 are usual")
    if min(wins, len(rows) - wins) < MIN_LABELS:
        raise ConfigError(
            f"the strong model strictly wins on {wins} of {len(rows)} rows; at least {MIN_LABELS} wins and "
            f"{MIN_LABELS} other rows are needed"
        )
    if not rows.weights.sum() > 0.0:
        raise ConfigError("every row has the weight 0")
    warnings = []
    if len(rows) < _FEW:
        warnings.append(f"{len(rows)} rows are few: the intervals will be wide")
    if np.average(rows.gain, weights=rows.weights) <= 0.0:
        warnings.append("the strong model is not better on average; is the pair the right way round?")
    return tuple(warnings)


def refuse_leakage(train: TrainingRows, test: TrainingRows) -> None:
    """Raise ConfigError where prompts are in both splits, with the first one's row in the test split."""
    seen = {normalised(prompt) for prompt in train.prompts}
    leaked = [place for place, prompt in zip(test.places, test.prompts, strict=True) if normalised(prompt) in seen]
    if leaked:
        raise ConfigError(
            f"{len(leaked)} of {len(test)} test prompts are also trained on, the first at {leaked[0]}; "
            "take them out of one of the files"
        )


def _counted(rows: RowsOfOneKind) -> tuple[dict[str, int], Counter[str], int]:
    """Return the number of rows by label and by model, and how many rows say something of their own."""
    prompts = map(normalised, rows.prompts)
    if isinstance(rows, PairRows):
        gain = rows.gain
        labels = {"strong better": gain > 0, "equal": gain == 0, "weak better": gain < 0}
        models, keys = Counter[str](), set[object](prompts)
    elif isinstance(rows, QualityRows):
        is_low = rows.scores < float(rows.scores.min() + rows.scores.max()) / 2.0
        labels = {"score below half of the range": is_low, "score above": ~is_low}
        models, keys = Counter(rows.models), set(zip(prompts, rows.models, strict=True))
    else:
        won = rows.outcome
        labels = {"model_a won": won == 1.0, "tie": won == 0.5, "model_b won": won == 0.0}
        models, named = Counter([*rows.model_a, *rows.model_b]), zip(rows.model_a, rows.model_b, strict=True)
        keys = set(zip(prompts, map(frozenset, named), strict=True))
    return {label: int(chosen.sum()) for label, chosen in labels.items()}, models, len(keys)
