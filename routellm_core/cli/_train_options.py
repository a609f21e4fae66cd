"""Options of ``routellm train`` that several routers share, each declared once; the command as a card records it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from routellm_core.training.finetuning.options import FinetuningOptions

__all__ = ["Rows", "Tuning", "with_grouped_options"]

_DEFAULTS = FinetuningOptions()


@dataclass(frozen=True)
class Rows:
    """What every training takes."""

    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            help="Labelled rows: a file, a folder or hf:owner/name:split (docs/data.md), weighed as in "
            "weight=0.5:FILE. May be given several times.",
        ),
    ]
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")]
    strong_model: Annotated[str, typer.Option("--strong-model", help="Name of the strong model.")] = "strong"
    weak_model: Annotated[str, typer.Option("--weak-model", help="Name of the weak model.")] = "weak"
    test: Annotated[
        list[str] | None,
        typer.Option(
            "--test",
            help="Rows to measure on.",
            show_default="cross-validation; a tenth of --data for bert, causal_llm",
        ),
    ] = None
    column: Annotated[str | None, typer.Option("--column", help="The prompt's column.")] = None
    licence: Annotated[list[str] | None, typer.Option("--licence", help="Licence of the rows, for the card.")] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seeds splits, batches and new weights.")] = 0


@dataclass(frozen=True)
class Tuning:
    """What every training of a transformer takes; ``FinetuningOptions`` has the meanings."""

    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Take the base's configuration, not its weights.")
    ] = _DEFAULTS.from_scratch
    epochs: Annotated[int, typer.Option("--epochs", help="Most passes over the rows.")] = _DEFAULTS.epochs
    patience: Annotated[
        int, typer.Option("--patience", help="Stop after so many epochs without a better held-out loss.")
    ] = _DEFAULTS.patience
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest.")] = _DEFAULTS.learning_rate
    token_budget: Annotated[int, typer.Option("--token-budget", help="Tokens of a batch, padding included.")] = (
        _DEFAULTS.token_budget
    )
    accumulation: Annotated[int, typer.Option("--accumulation", help="Batches of one step of the optimizer.")] = (
        _DEFAULTS.accumulation
    )
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Prompts are cut after so many.", show_default="bert 512, causal_llm 1024"),
    ] = _DEFAULTS.max_tokens
    precision: Annotated[str, typer.Option("--precision", help="auto, float32, bfloat16 or float16.")] = (
        _DEFAULTS.precision
    )
    class_balance: Annotated[
        bool, typer.Option("--class-balance", help="Weigh labels alike; scores are no longer probabilities.")
    ] = _DEFAULTS.class_balance
    save_steps: Annotated[
        int,
        typer.Option("--save-steps", help="Save the state after so many steps, beside each epoch's end; 0: then only."),
    ] = _DEFAULTS.save_steps
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps ...")] = _DEFAULTS.device
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an interrupted training in --output, instead of going on.")
    ] = False


def with_grouped_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, in which each parameter that is a dataclass of options becomes its fields.

    A parameter named ``command`` is not an option: it gets the command line as a card records it.
    """
    hints = get_type_hints(function, include_extras=True)
    names = [name for name in inspect.signature(function).parameters if name != "command"]
    groups = {name: hints[name] for name in names if is_dataclass(hints[name])}

    def run(context: typer.Context, **values: Any) -> None:
        built = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**built, **values, command=_recorded(context))

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _fields_of(groups[name])
        elif name != "command":
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _fields_of(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


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
