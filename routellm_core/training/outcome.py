"""What every training returns and records: where rows came from, and the facts of a card."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.metrics.held_out import HeldOut
from routellm_core.rows.labelled import PairRows
from routellm_core.training.checks import RowsReport, check_rows

__all__ = ["Provenance", "TrainedRouter", "recorded_facts"]


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
