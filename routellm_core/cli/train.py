"""``routellm train``: routers from your own labelled prompts, one command for every router that has a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from routellm_core.cli._console import errors, output
from routellm_core.cli._train_options import Rows, command_of


class _Trainers(TyperGroup):
    """Commands made of the registry when they are asked for, so that no other command imports a trainer."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        from routellm_core.training.base import available_trainers

        return available_trainers()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from routellm_core.training.base import load_trainer

        if cmd_name not in self.list_commands(ctx):
            return None
        trainer = load_trainer(cmd_name)

        def run(rows: Rows, options: Any, command: str) -> None:
            with _progress() as report:
                trained = trainer.train(_request(rows, command), options, on_progress=report)
            _print_report(trained)

        single = typer.Typer(add_completion=False)
        single.command(name=cmd_name, help=trainer.summary)(command_of(trainer.Options, run))
        return typer.main.get_command(single)


train_app = typer.Typer(
    cls=_Trainers, no_args_is_help=True, help="Train routers on your own labelled prompts, or adapt a shipped one."
)
train_app.callback()(lambda: None)


def _request(options: Rows, command: str) -> Any:
    """What every trainer takes, with the rows read."""
    from routellm_core.rows.labelled import load_rows
    from routellm_core.rows.sources import RowSource
    from routellm_core.training.base import Provenance, TrainingRequest

    pair = options.strong_model, options.weak_model
    return TrainingRequest(
        rows=load_rows(options.data, column=options.column, pair=pair),
        output=Path(options.output),
        strong_model=options.strong_model,
        weak_model=options.weak_model,
        test=load_rows(options.test, column=options.column, pair=pair) if options.test else None,
        seed=options.seed,
        provenance=Provenance(
            command=command,
            data=tuple(RowSource.parse(source).label for source in options.data),
            licences=tuple(options.licence or ()),
        ),
    )


@contextmanager
def _progress() -> Iterator[Callable[[Any], None]]:
    """A bar over all steps, and a line for each epoch, on standard error."""
    from rich.progress import Progress

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("training", total=None)

        def report(progress: Any) -> None:
            loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
            description = f"epoch {progress.epoch}/{progress.epochs}{loss}"
            bar.update(task, description=description, completed=progress.step, total=progress.steps)
            if progress.held_out_loss is not None:
                errors.print(f"epoch {progress.epoch}: held-out loss {progress.held_out_loss:.4f}")
            elif progress.loss is None:
                errors.print(
                    f"going on with the interrupted training after step {progress.step} of {progress.steps} "
                    "(--restart begins anew)",
                    soft_wrap=True,
                )

        yield report


def _print_report(trained: Any) -> None:
    facts = trained.facts
    labels = ", ".join(f"{count} {label}" for label, count in facts["labels"].items())
    output.print(f"{facts['rows']} rows, {facts['prompts']} distinct prompts: {labels}")
    for warning in facts["warnings"]:
        errors.print(f"note: {warning}", markup=False, soft_wrap=True)
    measured = facts["held_out"]
    _print_apgr(["router"], [([name], row) for name, row in measured["apgr"].items()])
    output.print(f"{measured['how']}, {measured['rows']} rows", soft_wrap=True)
    if pairs := facts.get("pairs"):  # of a checkpoint over many models
        rows = [([pair["strong"], pair["weak"], str(pair["rows"])], pair["apgr"]) for pair in pairs]
        _print_apgr(["strong", "weak", "rows"], rows, title="Other pairs")
    for verdict in measured["verdicts"]:
        output.print(verdict.removeprefix("- "), markup=False, soft_wrap=True)
    output.print(f"checkpoint: {trained.folder} (load it with checkpoint_path)", markup=False, soft_wrap=True)


def _print_apgr(header: list[str], rows: list[tuple[list[str], dict[str, Any]]], *, title: str | None = None) -> None:
    from rich.table import Table

    from routellm_core.metrics.held_out import interval_text

    table = Table(*header, "APGR", "95 % interval", box=None, pad_edge=False, title=title)
    for names, apgr in rows:
        table.add_row(*names, "–" if apgr["value"] is None else f"{apgr['value']:.3f}", interval_text(apgr))
    output.print(table)
