"""``routellm train``: routers from your own labelled prompts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_core.cli._console import errors, output

__all__ = ["train_app"]

train_app = typer.Typer(
    no_args_is_help=True, help="Train routers on your own labelled prompts, or adapt a shipped one."
)

Data = Annotated[
    list[Path],
    typer.Option("--data", "-d", help="Labelled rows (.jsonl .csv .parquet); may be given several times."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")]
Strong = Annotated[str, typer.Option("--strong-model", help="Name of the strong model.")]
Weak = Annotated[str, typer.Option("--weak-model", help="Name of the weak model.")]
Column = Annotated[str | None, typer.Option(help="The prompt's column.")]
Licence = Annotated[list[str] | None, typer.Option("--licence", help="Licence of the rows, for the card.")]


@train_app.command()
def mf(
    data: Data,
    output_folder: Output,
    strong_model: Strong = "strong",
    weak_model: Weak = "weak",
    start: Annotated[
        str | None, typer.Option("--from", help="Adapt this router: default, minilm, or a folder.  [default: none]")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Without --from.  [default: static]")] = None,
    test: Annotated[
        list[Path] | None, typer.Option("--test", help="Rows to measure on.  [default: cross-validation]")
    ] = None,
    column: Column = None,
    licence: Licence = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the folds.")] = 0,
) -> None:
    """Train mf for your pair of models: rows with prompt, strong, weak; or prompt, model, score; or battles."""
    from routellm_core.evals.held_out import compare_held_out
    from routellm_core.training.outcome import Provenance
    from routellm_core.training.rows import load_rows
    from routellm_core.training.train_mf import train_matrix_factorization

    rows = load_rows(data, column=column)
    trained = train_matrix_factorization(
        rows,
        output=output_folder,
        strong_model=strong_model,
        weak_model=weak_model,
        start=start,
        embedder=embedder,
        test=load_rows(test, column=column) if test else None,
        seed=seed,
        provenance=Provenance(
            command=_command(
                "mf",
                {
                    "--data": data,
                    "--from": start,
                    "--embedder": embedder,
                    "--test": test,
                    "--strong-model": strong_model,
                    "--weak-model": weak_model,
                    "--seed": seed,
                    "--output": [output_folder],
                },
            ),
            data=tuple(file.name for file in data),
            licences=tuple(licence or ()),
        ),
        compare=compare_held_out,
    )
    _print_report(trained)


@train_app.command(name="sw_ranking")
def sw_ranking(
    data: Data,
    output_folder: Output,
    strong_model: Strong = "strong",
    weak_model: Weak = "weak",
    embedder: Annotated[str, typer.Option(help="Embeds the battles' prompts.")] = "static",
    num_tiers: Annotated[int, typer.Option(min=1, help="Tiers that the models are split into.")] = 10,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or int8.  [default: by size]")] = None,
    test: Annotated[
        list[Path] | None, typer.Option("--test", help="Rows to measure on.  [default: cross-validation]")
    ] = None,
    column: Column = None,
    licence: Licence = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the folds.")] = 0,
) -> None:
    """Build an sw_ranking index from battles, or from strong and weak results on prompts."""
    from routellm_core.evals.held_out import compare_held_out
    from routellm_core.training.outcome import Provenance
    from routellm_core.training.rows import load_rows
    from routellm_core.training.train_sw import train_similarity_index

    options = {
        "--data": data,
        "--embedder": embedder,
        "--num-tiers": num_tiers,
        "--dtype": dtype,
        "--test": test,
        "--strong-model": strong_model,
        "--weak-model": weak_model,
        "--seed": seed,
        "--output": [output_folder],
    }
    trained = train_similarity_index(
        load_rows(data, column=column),
        output=output_folder,
        strong_model=strong_model,
        weak_model=weak_model,
        embedder=embedder,
        num_tiers=num_tiers,
        dtype=dtype,
        test=load_rows(test, column=column) if test else None,
        seed=seed,
        provenance=Provenance(
            command=_command("sw_ranking", options),
            data=tuple(file.name for file in data),
            licences=tuple(licence or ()),
        ),
        compare=compare_held_out,
    )
    _print_report(trained)


@train_app.command()
def bert(
    data: Data,
    output_folder: Output,
    model: Annotated[
        str, typer.Option(help="Encoder to start from: a folder or a Hub id.")
    ] = "FacebookAI/xlm-roberta-base",
    strong_model: Strong = "strong",
    weak_model: Weak = "weak",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Take its configuration, not its weights.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-5,
    max_tokens: Annotated[int, typer.Option(min=8, help="Prompts are cut after so many.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps ...")] = "auto",
    test: Annotated[list[Path] | None, typer.Option("--test", help="Rows to measure on.  [default: a tenth]")] = None,
    column: Column = None,
    licence: Licence = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds split, batches and weights.")] = 0,
) -> None:
    """Fine-tune an encoder with three labels: strong wins, tie, weak wins."""
    from routellm_core.evals.held_out import compare_held_out
    from routellm_core.training.outcome import Provenance
    from routellm_core.training.rows import load_rows
    from routellm_core.training.train_bert import BertOptions, train_bert

    recorded = {
        "--data": data,
        "--model": [Path(model)] if Path(model).is_dir() else model,
        "--test": test,
        "--strong-model": strong_model,
        "--weak-model": weak_model,
        "--epochs": epochs,
        "--learning-rate": learning_rate,
        "--max-tokens": max_tokens,
        "--seed": seed,
        "--output": [output_folder],
    }
    trained = train_bert(
        load_rows(data, column=column),
        output=output_folder,
        strong_model=strong_model,
        weak_model=weak_model,
        model=model,
        options=BertOptions(
            from_scratch=from_scratch,
            epochs=epochs,
            learning_rate=learning_rate,
            max_tokens=max_tokens,
            device=device,
        ),
        test=load_rows(test, column=column) if test else None,
        seed=seed,
        provenance=Provenance(
            command=_command("bert", recorded) + (" --from-scratch" if from_scratch else ""),
            data=tuple(file.name for file in data),
            licences=tuple(licence or ()),
        ),
        compare=compare_held_out,
        on_epoch=lambda epoch, loss: errors.print(f"epoch {epoch}: held-out loss {loss:.4f}"),
    )
    _print_report(trained)


def _command(router: str, options: dict[str, Any]) -> str:
    """The command line as a card records it: files by name, because a card travels and a machine's paths do not."""
    words = ["routellm", "train", router]
    for option, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                words += [option, item.name if isinstance(item, Path) else str(item)]
    return shlex.join(words)


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
    for verdict in measured["verdicts"]:
        output.print(verdict.removeprefix("- "), markup=False, soft_wrap=True)
    output.print(f"checkpoint: {trained.folder} (load it with checkpoint_path)", markup=False, soft_wrap=True)
