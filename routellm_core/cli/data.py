"""``routellm data``: fetch and check the benchmark files, find contaminated prompts, label your own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routellm_core._options import validated
from routellm_core.backends.base import ModelSettings
from routellm_core.cli._console import errors, note, output, progress_bar, progress_bars, run_until_stopped
from routellm_core.cli._options import (
    Attempts,
    Column,
    Concurrency,
    Config,
    DataDir,
    MaxFailures,
    Rate,
    StrongModel,
    StrongPrice,
    Timeout,
    WeakModel,
    WeakPrice,
    configuration,
)
from routellm_core.errors import ConfigError

if TYPE_CHECKING:
    from routellm_core.asking.prompts import CallEstimate

data_app = typer.Typer(
    no_args_is_help=True, help="Fetch the benchmark files; check training prompts against them; label your own prompts."
)


@data_app.command()
def download(
    data_dir: Annotated[Path | None, typer.Option(help="Where to.", show_default="user data folder")] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror of the repository's root.")] = None,
) -> None:
    """Fetch RouteLLM's benchmark files at a pinned commit, verify them, and continue where a run stopped."""
    from routellm_core.evals.data import BASE_URL, manifest
    from routellm_core.evals.data import download as fetch

    with progress_bar("fetching", len(manifest())) as report:
        folder = fetch(data_dir, base_url=base_url or BASE_URL, on_progress=lambda _file: report(1))
    output.print(f"{len(manifest())} files verified in {folder}", soft_wrap=True)


@data_app.command()
def verify(data_dir: DataDir = None) -> None:
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
    train: Annotated[str, typer.Option(help="Training prompts: a file, a folder or hf:owner/data-set.")],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")],
    output_file: Annotated[Path, typer.Option("--output", "-o", help="The list, as JSON lines.")],
    column: Column = None,
    embedder: Annotated[str, typer.Option(help="static, minilm, litellm/<model> ..., or none.")] = "none",
    similarity: Annotated[float, typer.Option(help="Least cosine similarity; depends on the embedder.")] = 0.95,
    ngram: Annotated[int, typer.Option(help="Words per n-gram.")] = 8,
    ngram_share: Annotated[float, typer.Option(help="Least share of a prompt's n-grams.")] = 0.5,
    data_dir: DataDir = None,
) -> None:
    """Find training prompts that are near evaluation prompts: equal, sharing n-grams, or near in meaning."""
    from collections import Counter

    from routellm_core._publish import check_writable_file
    from routellm_core.embeddings import load_embedder
    from routellm_core.evals.contamination import evaluation_prompts, find_contamination, write_matches
    from routellm_core.evals.data import resolve_data_dir
    from routellm_core.prompts import routing_prompt
    from routellm_core.rows.prompts import read_conversations

    check_writable_file(output_file)
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


@data_app.command()
def label(
    prompts: Annotated[
        str,
        typer.Option(
            "--prompts", "-p", help="Your prompts: a file, a folder, hf:owner/data-set, or - (stdin); docs/data.md."
        ),
    ],
    output_file: Annotated[Path, typer.Option("--output", "-o", help="Labelled rows, as JSON lines; a rerun adds.")],
    judge_model: Annotated[str, typer.Option(help="Compares the answers; by litellm's name.")],
    judge_api_base: Annotated[str | None, typer.Option(help="The judge's base URL.")] = None,
    judge_api_key: Annotated[
        str | None, typer.Option(help="The judge's key.", envvar="ROUTELLM_JUDGE_API_KEY", show_envvar=True)
    ] = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    api_base: Annotated[str | None, typer.Option(help="Base URL of the strong and the weak model.")] = None,
    config: Config = None,
    column: Column = None,
    reference_column: Annotated[str | None, typer.Option(help="Column of right answers, shown to the judge.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    omit_temperature: Annotated[
        bool, typer.Option("--omit-temperature", help="For judges with a fixed one; else 0.")
    ] = False,
    concurrency: Concurrency = 8,
    requests_per_minute: Rate = None,
    attempts: Attempts = 5,
    timeout: Timeout = 600.0,
    max_failures: MaxFailures = 10,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Dollars, at most.")] = None,
    strong_price: StrongPrice = None,
    weak_price: WeakPrice = None,
    judge_price: Annotated[str | None, typer.Option(help="The same for the judge.")] = None,
    answer_tokens: Annotated[float, typer.Option(min=1, help="Tokens per answer, for the estimate.")] = 300,
    judge_tokens: Annotated[float, typer.Option(min=1, help="Tokens per judgement, for the estimate.")] = 200,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
) -> None:
    """Ask both models and a judge about your own prompts; the rows are what `routellm train` takes.

    The cost is shown before it starts. Run it again to continue where it stopped, and to try again what failed.
    """
    from routellm_core._publish import check_writable_file
    from routellm_core.asking.calls import CallLimits
    from routellm_core.asking.labels import LabelRun
    from routellm_core.asking.prompts import LabelModels, LabelParameters, estimate_calls, read_label_prompts
    from routellm_core.backends.chat import LiteLLMBackend
    from routellm_core.cli._labelling_report import print_estimate, print_outcome, print_unfinished

    settings = configuration(config, strong_model=strong_model, weak_model=weak_model, api_base=api_base).models
    judge = {"model": judge_model, "api_base": judge_api_base, "api_key": judge_api_key}
    models = LabelModels(
        strong=_priced(settings.strong, strong_price),
        weak=_priced(settings.weak, weak_price),
        judge=_priced(validated(ModelSettings, judge, subject="judge"), judge_price),
    )
    check_writable_file(output_file)
    found = read_label_prompts(prompts, column=column, reference_column=reference_column, limit=limit)
    for count, what in ((found.repeated, "repeat another row"), (found.without_text, "have no user text")):
        if count:
            note(f"{count:,} rows {what} and are passed over")
    parameters = LabelParameters(
        answers={} if max_tokens is None else {"max_tokens": max_tokens},
        judge={} if omit_temperature else {"temperature": 0.0},
    )
    limits = CallLimits(
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        attempts=attempts,
        call_seconds=timeout,
        failures_in_a_row=max_failures,
        max_cost=max_cost,
    )
    run = LabelRun(models, LiteLLMBackend(), output_file, parameters, limits)
    if missing := run.missing(found.prompts):
        usual = answer_tokens if max_tokens is None else min(answer_tokens, max_tokens)
        estimates = estimate_calls(missing, models, answer_tokens=usual, judge_tokens=judge_tokens)
        errors.print(f"{len(missing):,} of {len(found.prompts):,} prompts have no label yet", soft_wrap=True)
        print_estimate(estimates, models, errors)
        _check_budget(estimates, max_cost)
        _confirm(yes, prompts)
    with progress_bars("") as report:
        outcome = run_until_stopped(
            run.label(found.prompts, on_progress=partial(report, "labelling")), kept_in=output_file
        )
    print_outcome(outcome, models, output_file, output)
    print_unfinished(outcome, "prompts", errors)
    if not outcome.is_complete:
        raise typer.Exit(1)


def _priced(model: ModelSettings, price: str | None) -> ModelSettings:
    from routellm_core.pricing import parse_price

    if price is None:
        return model
    dollars = parse_price(price)
    return model.model_copy(
        update={
            "input_cost_per_token": dollars.input_cost_per_token,
            "output_cost_per_token": dollars.output_cost_per_token,
        }
    )


def _check_budget(estimates: Sequence[CallEstimate], max_cost: float | None) -> None:
    from routellm_core.cli._labelling_report import estimated_dollars

    if max_cost is None:
        return
    total = estimated_dollars(estimates)
    if total is None:
        raise ConfigError("--max-cost cannot be kept while a price is not known; give the price, or leave it out")
    if total > max_cost:
        raise ConfigError(
            f"labelling is estimated at ${total:.4f}, more than --max-cost {max_cost:g}; raise it, or label fewer "
            "prompts with --limit"
        )


def _confirm(yes: bool, prompts: str) -> None:
    if yes:
        return
    if prompts == "-":
        raise ConfigError("prompts from standard input leave no way to ask; add --yes to start")
    typer.confirm("Start?", abort=True, err=True)
