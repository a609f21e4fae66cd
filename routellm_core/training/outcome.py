"""What every training returns and records: where rows came from, held-out scores, and the facts of a card."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.training.checks import RowsReport, check_rows
from routellm_core.training.rows import PairRows

__all__ = ["LENGTH", "SHIPPED", "TRAINED", "HeldOut", "Provenance", "TrainedRouter", "length_scores", "recorded_facts"]

Floats = npt.NDArray[np.float64]
TRAINED: Final = "trained"
SHIPPED: Final = "shipped"
LENGTH: Final = "prompt length"


@dataclass(frozen=True)
class Provenance:
    """What the card says of where the rows came from.

    Attributes:
        command: the command that repeats the training.
        data: names of the files.
        licences: of the rows, beside what the rows state themselves.
    """

    command: str = "not recorded"
    data: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a router was fitted without, and how it and others score them.

    Attributes:
        how: how they were held out, in words.
        scores: name of a router to its scores, shape (n,); the trained one comes first.
        expected_gain: shape (n,), above zero where the trained router expects the strong model to be better.
        strong, weak: shape (n,), quality of both models.
        models: their names.
    """

    how: str
    scores: Mapping[str, Floats]
    expected_gain: Floats
    strong: Floats
    weak: Floats
    models: tuple[str, str]


@dataclass(frozen=True, eq=False)
class TrainedRouter:
    """A training's outcome.

    Attributes:
        folder: the checkpoint, for ``checkpoint_path``.
        report: the checks of the rows.
        facts: what is recorded beside the weights.
        held_out: scores of held-out rows.
    """

    folder: Path
    report: RowsReport
    facts: Mapping[str, Any]
    held_out: HeldOut


def length_scores(prompts: Sequence[str]) -> Floats:
    """Return the length-only router's scores, shape (n,): rising with the number of characters, below 1."""
    lengths = np.log1p(np.array([len(prompt) for prompt in prompts], dtype=np.float64))
    return np.asarray(lengths / (1.0 + lengths))


def recorded_facts(
    rows: PairRows, provenance: Provenance | None, warnings: Sequence[str], *, seed: int
) -> dict[str, Any]:
    """Return what a card and a checkpoint record of the rows, JSON-ready."""
    origin = Provenance() if provenance is None else provenance
    report = check_rows(rows)
    return {
        "command": origin.command,
        "data": list(origin.data),
        "rows": len(rows),
        "prompts": report.prompts,
        "labels": dict(report.labels),
        "licences": sorted({*rows.licences, *origin.licences}),
        "random_seed": seed,
        "warnings": list(warnings),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "routellm-core": version("routellm-core"),
        },
    }
