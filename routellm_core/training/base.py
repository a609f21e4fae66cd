"""What training a router means: rows in, a checkpoint folder out, with what it does on rows that it has not seen.

``routellm train NAME`` and a third party's code find a router's trainer by its name. Adding one is a class with the
attributes of :class:`Trainer` and a line in ``_BUILT_IN``, a call of :func:`register_trainer`, or an entry point of
the group ``routellm_core.trainers``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np

from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.metrics.held_out import TRAINED, HeldOut, compare_held_out, interval_text
from routellm_core.rows.labelled import PairRows, TrainingRows
from routellm_core.training.checks import RowsReport, check_rows

__all__ = [
    "Provenance",
    "TrainedRouter",
    "Trainer",
    "TrainingRequest",
    "available_trainers",
    "load_trainer",
    "measured",
    "recorded_facts",
    "register_trainer",
]

ENTRY_POINT_GROUP: Final = "routellm_core.trainers"
_BUILT_IN: Final = {
    "mf": "routellm_core.training.trainers:MfTrainer",
    "sw_ranking": "routellm_core.training.trainers:SwTrainer",
    "bert": "routellm_core.training.trainers:BertTrainer",
    "causal_llm": "routellm_core.training.trainers:CausalLLMTrainer",
}
_registered: dict[str, str | type[Trainer]] = {}


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
        facts: what is recorded beside the weights; ``held_out`` is as from ``compare_held_out``.
        held_out: scores of held-out rows.
    """

    folder: Path
    report: RowsReport
    facts: Mapping[str, Any]
    held_out: HeldOut


@dataclass(frozen=True, eq=False)
class TrainingRequest:
    """What every training is given.

    Attributes:
        rows: labelled rows.
        output: the folder.
        strong_model, weak_model: names of the pair.
        test: rows to measure on; None measures on a part of ``rows``.
        seed: of everything random.
        provenance: what the card says of the data.
    """

    rows: TrainingRows
    output: Path
    strong_model: str = "strong"
    weak_model: str = "weak"
    test: TrainingRows | None = None
    seed: int = 0
    provenance: Provenance | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the fields by name, as the training functions take them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Trainer(Protocol):
    """How a router is trained.

    Attributes:
        summary: the command's help, one sentence.
        Options: a frozen dataclass; each field is an option of the command. Of its metadata, ``"help"`` explains it,
            ``"names"`` are names other than the field's, ``"shown"`` is a default in words, ``"min"`` the least value.
    """

    summary: ClassVar[str]
    Options: ClassVar[type]

    def train(
        self, request: TrainingRequest, options: Any, *, on_progress: Callable[[Any], None] | None = None
    ) -> TrainedRouter:
        """Train, measure on rows that were held out, and write the checkpoint with its card.

        Raises:
            ConfigError: the rows cannot train a router, or only one that is constant or ranks in reverse.
        """
        ...


@cache
def _entry_point_targets() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _targets() -> dict[str, str | type[Trainer]]:
    return {**_entry_point_targets(), **_BUILT_IN, **_registered}


def available_trainers() -> list[str]:
    """Return the names of routers that can be trained, sorted."""
    return sorted(_targets())


def register_trainer(name: str, target: str | type[Trainer], *, replace: bool = False) -> None:
    """Make ``routellm train NAME`` known for a router.

    Args:
        name: the router's name, as in ``register_router``.
        target: the class, or ``"package.module:Class"`` to import it on first use.
        replace: allow ``name`` to be taken already.

    Raises:
        ConfigError: the name is taken, or the target is not of this form.
    """
    if not replace and name in _targets():
        raise ConfigError(f"a trainer named {name!r} exists already; pass replace=True to take its place")
    if isinstance(target, str) and target.count(":") != 1:
        raise ConfigError(f"trainer target {target!r} must be a class or a string 'package.module:Class'")
    _registered[name] = target


def load_trainer(name: str) -> Trainer:
    """Return the trainer of a router, importing its module if need be.

    Raises:
        ConfigError: no such name.
        MissingExtraError: its module needs a package that is not installed.
    """
    targets = _targets()
    if name not in targets:
        raise ConfigError(
            f"no trainer for a router named {name!r}; there are {', '.join(available_trainers())}."
            f"{did_you_mean(name, targets)}"
        )
    target = targets[name]
    if isinstance(target, str):
        module, _, attribute = target.partition(":")
        target = getattr(import_module(module), attribute)
    return target()


def measured(held_out: HeldOut, *, refuse: bool = True) -> dict[str, Any]:
    """Return what ``compare_held_out`` says, unless the trained router is of no use.

    Args:
        held_out: rows that it was fitted without.
        refuse: whether a router that is worse than chance is an error.

    Raises:
        ConfigError: it gives every prompt the same score, or ranks prompts in reverse beyond doubt.
    """
    figures = compare_held_out(held_out)
    if not refuse:
        return figures
    if float(np.ptp(held_out.scores[TRAINED])) < 1e-9:
        raise ConfigError(
            f"the trained router gives all {figures['rows']} held-out prompts the same score, so it cannot route; "
            "nothing was written. More rows, or rows on which the models differ, are needed"
        )
    found = figures["apgr"][TRAINED]
    if found["high"] is not None and found["high"] < 0.5:
        raise ConfigError(
            "the trained router ranks prompts that it has not seen worse than chance (APGR "
            f"{found['value']:.3f}, 95 % interval {interval_text(found)}; 0.5 is chance); nothing was written. Are the "
            "labels or the two models swapped? Else the rows are too few or too unlike each other to learn from"
        )
    return figures


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
