"""``routellm train``: routers from your own labelled prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_core.cli._console import errors, output
from routellm_core.cli._train_options import Rows, Tuning, with_grouped_options

__all__ = ["train_app"]

train_app = typer.Typer(
    no_args_is_help=True, help="Train routers on your own labelled prompts, or adapt a shipped one."
)


@train_app.command(name="mf")
@with_grouped_options
def mf(
    rows: Rows,
    command: str,
    start: Annotated[
        str | None, typer.Option("--from", help="Adapt this router: default, minilm, or a folder.", show_default="none")
    ] = None,
    embedder: Annotated[str | None, typer.Option("--embedder", help="Without --from.", show_default="static")] = None,
) -> None:
    """Train mf for your pair of models: rows with prompt, strong, weak; or prompt, model, score; or battles."""
    from routellm_core.training.train_mf import train_matrix_factorization

    _print_report(train_matrix_factorization(**_arguments(rows, command), start=start, embedder=embedder))


@train_app.command(name="sw_ranking")
@with_grouped_options
def sw_ranking(
    rows: Rows,
    command: str,
    embedder: Annotated[str, typer.Option("--embedder", help="Embeds the battles' prompts.")] = "static",
    num_tiers: Annotated[int, typer.Option("--num-tiers", min=1, help="Tiers that the models are split into.")] = 10,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32, float16 or int8.", show_default="by size")
    ] = None,
) -> None:
    """Build an sw_ranking index from battles, or from strong and weak results on prompts."""
    from routellm_core.training.train_sw import train_similarity_index

    trained = train_similarity_index(**_arguments(rows, command), embedder=embedder, num_tiers=num_tiers, dtype=dtype)
    _print_report(trained)


@train_app.command(name="bert")
@with_grouped_options
def bert(
    rows: Rows,
    tuning: Tuning,
    command: str,
    base: Annotated[
        str, typer.Option("--base", "--model", help="Encoder to start from: a folder or a Hub id.")
    ] = "FacebookAI/xlm-roberta-base",
) -> None:
    """Fine-tune an encoder with three labels: strong wins, tie, weak wins."""
    from routellm_core.training.train_bert import BertOptions, train_bert

    with _progress() as report:
        trained = train_bert(
            **_arguments(rows, command),
            base=base,
            options=BertOptions(**_options(tuning)),
            on_progress=report,
            restart=tuning.restart,
        )
    _print_report(trained)


@train_app.command(name="causal_llm")
@with_grouped_options
def causal_llm(
    rows: Rows,
    tuning: Tuning,
    command: str,
    base: Annotated[str, typer.Option("--base", help="Causal language model to start from: a folder or a Hub id.")],
    scores: Annotated[
        str, typer.Option("--scores", help="outcome, or quality: the weak answer's grade is the score.")
    ] = "outcome",
    messages: Annotated[
        Path | None,
        typer.Option("--messages", help="Folder with the two message files.", show_default="the base's, or our own"),
    ] = None,
) -> None:
    """Fine-tune a causal language model to score prompts from 1 to 5."""
    from routellm_core.training.train_causal_llm import CausalLLMOptions, train_causal_llm

    with _progress() as report:
        trained = train_causal_llm(
            **_arguments(rows, command),
            base=base,
            options=CausalLLMOptions(**_options(tuning), scores=scores, messages=messages),
            on_progress=report,
            restart=tuning.restart,
        )
    _print_report(trained)


def _arguments(options: Rows, command: str) -> dict[str, Any]:
    """What every training function takes, with the rows read."""
    from routellm_core.metrics.held_out import compare_held_out
    from routellm_core.rows.labelled import load_rows
    from routellm_core.rows.sources import RowSource
    from routellm_core.training.outcome import Provenance

    pair = options.strong_model, options.weak_model
    return {
        "rows": load_rows(options.data, column=options.column, pair=pair),
        "output": options.output,
        "strong_model": options.strong_model,
        "weak_model": options.weak_model,
        "test": load_rows(options.test, column=options.column, pair=pair) if options.test else None,
        "seed": options.seed,
        "provenance": Provenance(
            command=command,
            data=tuple(RowSource.parse(source).label for source in options.data),
            licences=tuple(options.licence or ()),
        ),
        "compare": compare_held_out,
    }


def _options(tuning: Tuning) -> dict[str, Any]:
    return {name: value for name, value in asdict(tuning).items() if name != "restart"}


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
    from rich.table import Table

    facts = trained.facts
    labels = ", ".join(f"{count} {label}" for label, count in facts["labels"].items())
    output.print(f"{facts['rows']} rows, {facts['prompts']} distinct prompts: {labels}")
    for warning in facts["warnings"]:
        errors.print(f"note: {warning}", markup=False, soft_wrap=True)
    measured = facts["held_out"]
    table = Table("router", "APGR", "95 % interval", box=None, pad_edge=False)
    for name, row in measured["apgr"].items():
        table.add_row(name, f"{row['value']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    output.print(table)
    output.print(f"{measured['how']}, {measured['rows']} rows", soft_wrap=True)
    _print_pairs(facts.get("pairs", []))
    for verdict in measured["verdicts"]:
        output.print(verdict.removeprefix("- "), markup=False, soft_wrap=True)
    output.print(f"checkpoint: {trained.folder} (load it with checkpoint_path)", markup=False, soft_wrap=True)


def _print_pairs(pairs: list[dict[str, Any]]) -> None:
    """Print how well the other pairs of a checkpoint over many models are routed."""
    if not pairs:
        return
    from rich.table import Table

    table = Table("strong", "weak", "rows", "APGR", "95 % interval", box=None, pad_edge=False, title="Other pairs")
    for pair in pairs:
        row = pair["apgr"]
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(pair["strong"], pair["weak"], str(pair["rows"]), f"{row['value']:.3f}", interval)
    output.print(table)
