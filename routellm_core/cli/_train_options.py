"""Options of ``routellm train`` from dataclasses, and the command as a card records it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What every training takes."""

    data: list[str] = field(
        metadata={
            "names": ("--data", "-d"),
            "help": "Labelled rows: a file, a folder or hf:owner/name:split (docs/data.md), weighed as in "
            "weight=0.5:FILE. May be given several times.",
        }
    )
    output: Path = field(metadata={"names": ("--output", "-o"), "help": "Folder of the checkpoint."})
    strong_model: str = field(default="strong", metadata={"help": "Name of the strong model."})
    weak_model: str = field(default="weak", metadata={"help": "Name of the weak model."})
    test: list[str] | None = field(
        default=None,
        metadata={"help": "Rows to measure on.", "shown": "cross-validation; a tenth of --data for bert, causal_llm"},
    )
    column: str | None = field(default=None, metadata={"help": "The prompt's column."})
    licence: list[str] | None = field(default=None, metadata={"help": "Licence of the rows, for the card."})
    seed: int = field(default=0, metadata={"help": "Seeds splits, batches and new weights.", "min": 0})


def command_of(options: type, run: Callable[[Rows, Any, str], None]) -> Callable[..., None]:
    """Return a command for typer that takes ``Rows`` and the fields of a dataclass of options.

    Args:
        options: the dataclass; see ``Trainer.Options``.
        run: is given both, and the command line as a card records it.
    """

    def command(context: typer.Context, **values: Any) -> None:
        rows = Rows(**{option.name: values.pop(option.name) for option in fields(Rows)})
        run(rows, options(**values), _recorded(context))

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [parameter for group in (Rows, options) for parameter in _parameters(group)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group)
    found = []
    for option in fields(group):
        facts = option.metadata
        names = facts.get("names") or (f"--{option.name.replace('_', '-')}",)
        declared = typer.Option(
            *names, help=facts.get("help"), show_default=facts.get("shown", True), min=facts.get("min")
        )
        default = inspect.Parameter.empty if option.default is MISSING else option.default
        annotation: Any = Annotated.__class_getitem__((hints[option.name], declared))  # type: ignore[attr-defined]
        found.append(
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return found


def _recorded(context: typer.Context) -> str:
    """Return what was given, and the seed; files by name, because a card travels and a machine's paths do not."""
    words = ["routellm", "train", str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        source = context.get_parameter_source(name)
        if name in ("restart", "help") or (name != "seed" and (source is None or source.name == "DEFAULT")):
            continue
        option = max(parameter.opts, key=len)
        if isinstance(value, bool):
            words += [option] if value else []
            continue
        for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            words += [option, item.name if isinstance(item, Path) else _without_folders(str(item))]
    return shlex.join(words)


def _without_folders(value: str) -> str:
    from routellm_core.rows.sources import RowSource

    if value.startswith("weight="):
        return RowSource.parse(value).label
    return Path(value).name if Path(value).exists() else value
