"""Checks of labelled rows before anything is fitted: what would make the result worthless, and what to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.rows.types import MixedRows, PairRows, PreferenceRows, QualityRows, TrainingRows

__all__ = ["RowsReport", "check_pair_rows", "check_rows", "normalised", "refuse_leakage"]

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
    if isinstance(rows, MixedRows):
        return _merged(rows)
    distinct = len({normalised(prompt) for prompt in rows.prompts})
    models: Counter[str] = Counter()
    if isinstance(rows, PairRows):
        labels = _pair_labels(rows)
        repeated = len(rows) - distinct
    elif isinstance(rows, QualityRows):
        models.update(rows.models)
        labels = {"score below half of the range": int((rows.scores < _middle(rows)).sum())}
        labels["score above"] = len(rows) - labels["score below half of the range"]
        keys = zip(map(normalised, rows.prompts), rows.models, strict=True)
        repeated = len(rows) - len(set(keys))
    else:
        models.update(rows.model_a)
        models.update(rows.model_b)
        labels = {
            "model_a won": int((rows.outcome == 1.0).sum()),
            "tie": int((rows.outcome == 0.5).sum()),
            "model_b won": int((rows.outcome == 0.0).sum()),
        }
        repeated = len(rows) - len(set(_battle_keys(rows)))
    warnings = []
    if repeated:
        warnings.append(f"{repeated} rows repeat another row's prompt; copies are kept on one side of every split")
    rare = sorted(model for model, count in models.items() if count < RARE)
    if rare:
        warnings.append(f"{len(rare)} models have fewer than {RARE} rows: {', '.join(rare[:8])}")
    return RowsReport(len(rows), distinct, labels, dict(models), tuple(warnings))


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


def _merged(rows: MixedRows) -> RowsReport:
    parts = [check_rows(part) for part in rows.parts]
    labels: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for part in parts:
        labels.update(part.labels)
        models.update(part.models)
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings)
    distinct = len({normalised(prompt) for prompt in rows.prompts})
    return RowsReport(len(rows), distinct, dict(labels), dict(models), tuple(warnings))


def _pair_labels(rows: PairRows) -> dict[str, int]:
    gain = rows.gain
    return {
        "strong better": int((gain > 0).sum()),
        "equal": int((gain == 0).sum()),
        "weak better": int((gain < 0).sum()),
    }


def _middle(rows: QualityRows) -> float:
    return float(rows.scores.min() + rows.scores.max()) / 2.0


def _battle_keys(rows: PreferenceRows) -> list[tuple[str, frozenset[str]]]:
    return [
        (normalised(prompt), frozenset((first, second)))
        for prompt, first, second in zip(rows.prompts, rows.model_a, rows.model_b, strict=True)
    ]
