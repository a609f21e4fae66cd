"""``routellm evaluate``: routers on benchmarks; ``routellm evaluate generate``: new models on benchmarks."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from routellm_core.cli._console import errors, note, output, progress_bars, run_until_stopped
from routellm_core.cli._options import (
    AnswersDir,
    Attempts,
    CacheFile,
    Column,
    Concurrency,
    Config,
    DataDir,
    MaxFailures,
    NoCache,
    OutputTokens,
    Rate,
    SeveralValuesGroup,
    StrongModel,
    StrongPrice,
    Timeout,
    WeakModel,
    WeakPrice,
)
from routellm_core.errors import ConfigError

if TYPE_CHECKING:
    from routellm_core.evals.benchmarks import Benchmark
    from routellm_core.evals.runner import Evaluation

evaluate_app = typer.Typer(
    cls=SeveralValuesGroup,
    invoke_without_command=True,
    help="Evaluate routers on MMLU, GSM8K, MT-Bench or your own prompts: tables, intervals, plots.",
)


@evaluate_app.callback()
def evaluate(
    context: typer.Context,
    routers: Annotated[list[str] | None, typer.Option(help="Routers: --routers random mf.")] = None,
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Own labelled rows: a file, a folder or hf:owner/data-set; docs/data.md.")
    ] = None,
    column: Column = None,
    output_tokens: OutputTokens = 300,
    output_folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with a row for each prompt.")] = False,
    worst: Annotated[
        int | None, typer.Option(min=1, help="Print so many prompts that each router sent the wrong way.")
    ] = None,
    overwrite_cache: Annotated[list[str] | None, typer.Option(help="Score these anew.")] = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    config: Config = None,
    num_results: Annotated[int, typer.Option(help="Steps from all strong to all weak.")] = 10,
    random_iters: Annotated[int, typer.Option(help="Repetitions of the random router.")] = 10,
    data_dir: DataDir = None,
    answers_dir: AnswersDir = None,
    cache: CacheFile = None,
    no_cache: NoCache = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Leave the plots out.")] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seeds the resamples.")] = 0,
    at_share: Annotated[float, typer.Option(help="Share of strong calls for PGR and for each prompt's row.")] = 0.5,
    strong_price: StrongPrice = None,
    weak_price: WeakPrice = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Check instead which changes move a prompt; --data needs no labels.")
    ] = False,
    _parallel: Annotated[int | None, typer.Option("--parallel", hidden=True, help="RouteLLM's; unused.")] = None,
) -> None:
    """Evaluate routers on MMLU, GSM8K, MT-Bench or your own prompts: tables, intervals, plots."""
    if context.invoked_subcommand is not None:
        return
    from routellm_core._publish import check_writable_folder
    from routellm_core.config import load_config
    from routellm_core.evals.costs import cost_table
    from routellm_core.evals.report import write_report
    from routellm_core.evals.router_results import EvaluationSettings
    from routellm_core.evals.runner import run_evaluation
    from routellm_core.pricing import parse_price
    from routellm_core.routers import load_router
    from routellm_core.score_cache import ScoreCache

    settings = EvaluationSettings(
        num_results=num_results, random_iters=random_iters, resamples=resamples, seed=seed, at_share=at_share
    )
    prices = [None if text is None else parse_price(text) for text in (strong_price, weak_price)]
    options = load_config(config).router_options
    load = partial(
        _benchmark,
        benchmark,
        data,
        column=column,
        output_tokens=output_tokens,
        strong_model=strong_model,
        weak_model=weak_model,
        data_dir=data_dir,
        answers_dir=answers_dir,
    )
    if robustness:
        from routellm_core.evals.robustness import check_robustness, evenly, robustness_table
        from routellm_core.prompts import routing_prompt
        from routellm_core.rows.prompts import read_conversations

        if data is not None and benchmark is None:
            given = read_conversations(data, column=column)
            texts = (one if isinstance(one, str) else routing_prompt(one) for one in given)
            prompts = [text for text in texts if text is not None]
        else:
            prompts = list(load().prompts)
        named = dict.fromkeys(routers or ["random"])
        found = {name: check_robustness(load_router(name, options(name)), evenly(prompts)) for name in named}
        output.print(robustness_table(found), markup=False, highlight=False)
        return
    check_writable_folder(output_folder)
    loaded = load()
    costs = cost_table(loaded, strong_price=prices[0], weak_price=prices[1])
    with progress_bars("scoring") as report:
        evaluation = run_evaluation(
            loaded,
            {name: load_router(name, options(name)) for name in dict.fromkeys(routers or ["random"])},
            settings=settings,
            cache=None if no_cache else ScoreCache(cache),
            overwrite_cache=overwrite_cache or (),
            costs=costs,
            on_progress=report,
        )
    can_plot = find_spec("matplotlib") is not None
    if not no_plots and not can_plot:  # the tables are what was asked for; they are not lost for want of a picture
        note("no plots: they need matplotlib, pip install 'routellm-core[eval]'")
    files = write_report(evaluation, output_folder, with_plots=can_plot and not no_plots)
    _print(evaluation, as_json=as_json, worst=worst)
    for path in files:
        (errors if as_json else output).print(f"wrote {path}", soft_wrap=True)


def _benchmark(
    name: str | None,
    data: str | None,
    *,
    column: str | None,
    output_tokens: float,
    strong_model: str | None,
    weak_model: str | None,
    data_dir: Path | None,
    answers_dir: Path | None,
) -> Benchmark:
    """Load the benchmark or the own file that was asked for."""
    from routellm_core.evals.benchmarks import available_benchmarks, load_benchmark, load_tabular
    from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR
    from routellm_core.evals.data import resolve_data_dir
    from routellm_core.types import ModelPair

    if data is not None and name is None:
        return load_tabular(
            data,
            pair=ModelPair(strong_model or "strong", weak_model or "weak"),
            column=column,
            output_tokens=output_tokens,
        )
    if name is None or data is not None:
        allowed = ", ".join(available_benchmarks())
        raise ConfigError(f"give either --benchmark ({allowed}) or --data with a file of your own prompts")
    pair = ModelPair(strong_model or PUBLISHED_PAIR.strong, weak_model or PUBLISHED_PAIR.weak)
    return load_benchmark(name, data_dir=resolve_data_dir(data_dir), pair=pair, answers_dir=answers_dir)


def _print(evaluation: Evaluation, *, as_json: bool, worst: int | None) -> None:
    """Print every router's rows and the tables, or all of it as JSON; then the prompts that went the wrong way."""
    from routellm_core.evals.report import as_dict, markdown
    from routellm_core.evals.runner import prompt_rows, worst_rows

    rows = prompt_rows(evaluation)
    if as_json:
        kept = rows if worst is None else worst_rows(rows, worst)
        sys.stdout.write(json.dumps({**as_dict(evaluation), "rows": kept}) + "\n")
        return
    for text in evaluation.notes:
        note(text)
    for router in evaluation.routers:
        output.print(f"{router.name} on {evaluation.benchmark.title}")
        for row in router.rows:
            output.print(
                f"  threshold {row.threshold:.5f}: quality {row.quality:.3f}, strong calls {row.strong_calls}"
                f"/{row.calls} ({row.strong_share:.2%})"
            )
    output.print()
    output.print(markdown(evaluation), soft_wrap=True)
    if worst is not None:
        _print_worst(worst_rows(rows, worst), evaluation.settings.at_share)


def _print_worst(rows: list[dict[str, object]], share: float) -> None:
    output.print(f"Prompts sent the wrong way when {share:.0%} go to the strong model, the dearest first")
    for row in rows:
        text = " ".join(str(row["prompt"]).split()).encode("utf-8", "replace").decode()
        output.print(
            f"{row['router']}: {row['decision']} at score {row['score']:.3f}, {row['wrong']} "
            f"(strong {row['strong']:g}, weak {row['weak']:g}; {row['id']}): {text[:160]}",
            soft_wrap=True,
        )
    if not rows:
        output.print("none")


@evaluate_app.command()
def generate(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")],
    model: Annotated[str, typer.Option(help="The model, by litellm's name.")],
    answers_dir: Annotated[Path, typer.Option(help="Where answers are kept.")] = Path("answers"),
    judge: Annotated[str | None, typer.Option("--judge-model", help="Judges MT-Bench.")] = None,
    api_base: Annotated[str | None, typer.Option(help="The model's base URL.")] = None,
    judge_api_base: Annotated[str | None, typer.Option(help="The judge's base URL.")] = None,
    answer_key: Annotated[Path | None, typer.Option(help="MMLU's right answers (hendrycks/test, cais/mmlu).")] = None,
    shots: Annotated[int, typer.Option(min=0, help="Worked examples shown for GSM8K; RouteLLM shows 8.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per answer.")] = None,
    omit_temperature: Annotated[bool, typer.Option("--omit-temperature", help="For models with a fixed one.")] = False,
    concurrency: Concurrency = 16,
    requests_per_minute: Rate = None,
    attempts: Attempts = 5,
    timeout: Timeout = 600.0,
    max_failures: MaxFailures = 10,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions, for a try-out.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer a benchmark with a new model and grade the answers. Run it again to continue where it stopped."""
    from routellm_core._publish import check_writable_folder
    from routellm_core.asking.answers import generate_answers, grade_answers
    from routellm_core.asking.calls import CallLimits
    from routellm_core.asking.grading import mean_grade
    from routellm_core.backends.base import ModelSettings
    from routellm_core.backends.chat import LiteLLMBackend
    from routellm_core.cli._labelling_report import print_unfinished
    from routellm_core.evals.benchmarks.registry import canonical_name
    from routellm_core.evals.data import resolve_data_dir
    from routellm_core.evals.questions import load_questions

    name = canonical_name(benchmark)
    if name == "mt-bench" and judge is None:
        raise ConfigError("mt-bench is graded by a judge; give --judge-model (the published judge is gpt-4)")
    check_writable_folder(answers_dir)
    questions = load_questions(name, data_dir=resolve_data_dir(data_dir), answer_key=answer_key, shots=shots)[:limit]
    common: dict[str, Any] = {
        "benchmark": name,
        "backend": LiteLLMBackend(),
        "folder": answers_dir,
        "limits": CallLimits(
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            attempts=attempts,
            call_seconds=timeout,
            failures_in_a_row=max_failures,
        ),
        "send_temperature": not omit_temperature,
    }
    with progress_bars("") as report:
        answering = generate_answers(
            questions,
            **common,
            model=ModelSettings(model=model, api_base=api_base),
            parameters={"max_tokens": max_tokens} if max_tokens else {},
            on_progress=partial(report, "answering"),
        )
        answered = run_until_stopped(answering, kept_in=answers_dir)
    output.print(f"answers: {answered.done} new, {answered.reused} from before, {len(answered.failures)} failed")
    print_unfinished(answered, "answers", errors)
    if answered.stopped is not None:
        raise typer.Exit(1)
    with progress_bars("") as report:
        grading = grade_answers(
            questions,
            **common,
            model=model,
            judge=ModelSettings(model=judge, api_base=judge_api_base) if judge else None,
            on_progress=partial(report, "grading"),
        )
        graded = run_until_stopped(grading, kept_in=answers_dir)
    count, mean = mean_grade(answers_dir, benchmark=name, model=model)
    output.print(f"graded: {count}, mean quality {mean:.4f}; kept in {answers_dir}", soft_wrap=True)
    print_unfinished(graded, "grades", errors)
    if not (answered.is_complete and graded.is_complete):
        raise typer.Exit(1)
