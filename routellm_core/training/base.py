"""What training a router means: rows in, a checkpoint folder with its card out, measured on rows that it has not seen.

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
    "models_card_text",
    "recorded_facts",
    "register_trainer",
    "rows_card_text",
]

ENTRY_POINT_GROUP: Final = "routellm_core.trainers"
_BUILT_IN: Final = {
    "mf": "routellm_core.training.trainers:MfTrainer",
    "sw_ranking": "routellm_core.training.trainers:SwTrainer",
    "bert": "routellm_core.training.trainers:BertTrainer",
    "causal_llm": "routellm_core.training.trainers:CausalLLMTrainer",
}
_MEASURED: Final = "Other pairs have too few rows, or models that the rows do not tell apart in quality."
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


def rows_card_text(title: str, opening: str, facts: Mapping[str, Any], *, reference_traffic: str) -> str:
    """Return the Markdown card of a router; ``facts`` are as from ``base.recorded_facts``, with ``held_out``."""
    stated = ", ".join(facts["licences"]) or "not stated by the data; settle them before passing the weights on"
    lines = [
        f"# {title}",
        "",
        opening,
        "",
        "## Training",
        "",
        f"- Command: `{facts['command']}`",
        f"- Started from: {facts.get('start') or 'nothing'}",
        f"- Data: {', '.join(facts['data']) or 'not recorded'}; {facts['rows']} rows of the pair, "
        f"{facts['prompts']} distinct prompts",
        f"- Labels: {', '.join(f'{count} {label}' for label, count in facts['labels'].items())}",
        f"- Licences of the rows: {stated}",
        f"- Random seed: {facts['random_seed']}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}",
        f"- Reference traffic of the quantiles: {reference_traffic}",
        *(f"- Note: {warning}" for warning in facts["warnings"]),
    ]
    return "\n".join(lines + _held_out_lines(facts["held_out"])) + "\n"


def models_card_text(title: str, pair: tuple[str, str], embedder: str, facts: Mapping[str, Any], traffic: str) -> str:
    """Return the Markdown card of a checkpoint with a vector per model; ``facts`` have ``models`` and ``pairs`` too."""
    opening = (
        f"A vector for each of {len(facts['models'])} models on the embedder `{embedder}`; any two can be routed "
        "between (`strong_model` and `weak_model` of the router), by default "
        f"{pair[0]} (strong) and {pair[1]} (weak). The score is the estimated probability that the strong model "
        "strictly beats the weak one; how often models tie is taken to be the same for all pairs."
    )
    lines = [rows_card_text(title, opening, facts, reference_traffic=traffic), "## Models", ""]
    lines += ["| model | rows | prompts |", "|---|---|---|"]
    lines += [f"| {model} | {counts['rows']} | {counts['prompts']} |" for model, counts in facts["models"].items()]
    if facts["pairs"]:
        lines += ["", "## Pairs", "", f"{facts['held_out']['how']}. {_MEASURED}", ""]
        lines += ["| strong | weak | rows | APGR | 95 % interval |", "|---|---|---|---|---|"]
        for row in facts["pairs"]:
            figure = f"{_number(row['apgr'])} | {interval_text(row['apgr'])}"
            lines.append(f"| {row['strong']} | {row['weak']} | {row['rows']} | {figure} |")
    return "\n".join(lines) + "\n"


def _held_out_lines(held_out: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## Held out",
        "",
        f"{held_out['how']}, {held_out['rows']} rows. A random router has an APGR of 0.5.",
        "",
    ]
    lines += ["| router | APGR | 95 % interval | this router's lead | 95 % interval |", "|---|---|---|---|---|"]
    for name, row in held_out["apgr"].items():
        lead = held_out["lead"].get(name)
        ahead = f"{_number(lead, '+')} | {interval_text(lead, sign='+')}" if lead else " | "
        lines.append(f"| {name} | {_number(row)} | {interval_text(row)} | {ahead} |")
    return [*lines, "", *held_out["verdicts"]]


def _number(row: Mapping[str, Any], sign: str = "") -> str:
    return "–" if row["value"] is None else f"{row['value']:{sign}.3f}"
