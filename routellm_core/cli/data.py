"""``routellm data``: fetch and check the benchmark files, find contaminated prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routellm_core.cli._console import errors, output

__all__ = ["data_app"]

data_app = typer.Typer(no_args_is_help=True, help="Fetch the benchmark files; check training prompts against them.")


@data_app.command()
def download(
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where to.  [default: user data folder]")] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror of the repository's root.")] = None,
) -> None:
    """Fetch RouteLLM's benchmark files at a pinned commit, verify them, and continue where a run stopped."""
    from rich.progress import Progress

    from routellm_core.evals.data import BASE_URL, DataFile, manifest
    from routellm_core.evals.data import download as fetch

    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("fetching", total=sum(file.size for file in manifest()))

        def report(file: DataFile) -> None:
            progress.update(task, advance=file.size)

        folder = fetch(data_dir, base_url=base_url or BASE_URL, on_progress=report)
    output.print(f"{len(manifest())} files verified in {folder}", soft_wrap=True)


@data_app.command()
def verify(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder to check.", envvar="ROUTELLM_DATA_DIR")
    ] = None,
) -> None:
    """Compare the benchmark files with their checksums."""
    from routellm_core.evals.data import manifest, resolve_data_dir
    from routellm_core.evals.data import verify as check

    folder = resolve_data_dir(data_dir)
    problems = check(folder)
    for path, problem in problems.items():
        output.print(f"{path}: {problem}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    output.print(f"{len(manifest())} files verified in {folder}", soft_wrap=True)


@data_app.command()
def contamination(
    train: Annotated[Path, typer.Option("--train", help="Training prompts: .txt, .jsonl or .csv.")],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")],
    output_file: Annotated[Path, typer.Option("--output", "-o", help="The list, as JSON lines.")],
    column: Annotated[str | None, typer.Option(help="The prompt's column in --train.")] = None,
    embedder: Annotated[str, typer.Option(help="static, minilm, litellm/<model> ..., or none.")] = "none",
    similarity: Annotated[float, typer.Option(help="Least cosine similarity; depends on the embedder.")] = 0.95,
    ngram: Annotated[int, typer.Option(help="Words per n-gram.")] = 8,
    ngram_share: Annotated[float, typer.Option(help="Least share of a prompt's n-grams.")] = 0.5,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Benchmark files.", envvar="ROUTELLM_DATA_DIR")
    ] = None,
) -> None:
    """Find training prompts that are near evaluation prompts: equal, sharing n-grams, or near in meaning."""
    from collections import Counter

    from routellm_core.embeddings import load_embedder
    from routellm_core.evals.contamination import evaluation_prompts, find_contamination, write_matches
    from routellm_core.evals.data import resolve_data_dir
    from routellm_core.prompt_files import read_conversations
    from routellm_core.prompts import routing_prompt

    conversations = list(read_conversations(train, column=column))
    prompts = [item if isinstance(item, str) else routing_prompt(item) or "" for item in conversations]
    matches = find_contamination(
        prompts,
        evaluation_prompts(benchmark, data_dir=resolve_data_dir(data_dir)),
        embedder=None if embedder == "none" else load_embedder(embedder),
        similarity_threshold=similarity,
        ngram=ngram,
        ngram_share=ngram_share,
    )
    write_matches(matches, output_file)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(match.kind for match in matches).items()))
    found = len({match.eval_idx for match in matches})
    output.print(
        f"{found} evaluation prompts are contaminated ({kinds or 'none'}); list in {output_file}", soft_wrap=True
    )
