"""``routellm evaluate``: routers on benchmarks; ``routellm evaluate generate``: new models on benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_core.cli._console import errors, output
from routellm_core.cli._options import Config, StrongModel, WeakModel
from routellm_core.cli._several_values import SeveralValuesGroup
from routellm_core.errors import ConfigError

__all__ = ["evaluate_app"]

evaluate_app = typer.Typer(
    cls=SeveralValuesGroup,
    invoke_without_command=True,
    help="Evaluate routers on MMLU, GSM8K, MT-Bench or your own prompts: tables, intervals, plots.",
)

Benchmark = Annotated[str | None, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the benchmark files.", envvar="ROUTELLM_DATA_DIR", show_envvar=True),
]
AnswersDir = Annotated[Path | None, typer.Option("--answers-dir", help="Folder of answers of other models.")]


@evaluate_app.callback()
def evaluate(
    context: typer.Context,
    routers: Annotated[list[str] | None, typer.Option("--routers", help="Routers: --routers random mf.")] = None,
    benchmark: Benchmark = None,
    data: Annotated[Path | None, typer.Option(help="Own prompts: prompt, strong, weak (.jsonl .csv .parquet).")] = None,
    output_folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(),
    overwrite_cache: Annotated[list[str] | None, typer.Option("--overwrite-cache", help="Score these anew.")] = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    config: Config = None,
    num_results: Annotated[int, typer.Option(help="Steps from all strong to all weak.")] = 10,
    random_iters: Annotated[int, typer.Option(help="Repetitions of the random router.")] = 10,
    data_dir: DataDir = None,
    answers_dir: AnswersDir = None,
    cache: Annotated[Path | None, typer.Option(help="File of the score cache.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write stored scores.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Leave the plots out.")] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seeds the resamples.")] = 0,
    at_share: Annotated[float, typer.Option(help="Share of strong calls for PGR.")] = 0.5,
    strong_price: Annotated[str | None, typer.Option(help="Dollars per million input,output tokens: 10,30.")] = None,
    weak_price: Annotated[str | None, typer.Option(help="The same for the weak model.")] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Check instead which changes move a prompt; --data needs no labels.")
    ] = False,
) -> None:
    """Evaluate routers on MMLU, GSM8K, MT-Bench or your own prompts: tables, intervals, plots."""
    if context.invoked_subcommand is not None:
        return
    from routellm_core.evals.evaluate import EvaluationRequest, print_summary
    from routellm_core.evals.evaluate import evaluate as run
    from routellm_core.evals.router_results import EvaluationSettings

    request = EvaluationRequest(
        routers=tuple(routers or ["random"]),
        benchmark=benchmark,
        data=data,
        output=output_folder,
        overwrite_cache=tuple(overwrite_cache or ()),
        strong_model=strong_model,
        weak_model=weak_model,
        config=config,
        data_dir=data_dir,
        answers_dir=answers_dir,
        cache=cache,
        use_cache=not no_cache,
        strong_price=strong_price,
        weak_price=weak_price,
        plots=not no_plots,
        settings=EvaluationSettings(
            num_results=num_results, random_iters=random_iters, resamples=resamples, seed=seed, at_share=at_share
        ),
    )
    if robustness:
        from routellm_core.evals.robustness import check_request, robustness_table

        output.print(robustness_table(check_request(request)), markup=False, highlight=False)
        return
    evaluation, files = run(request, console=errors)
    print_summary(evaluation, files, console=output)


@evaluate_app.command()
def generate(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="mmlu, gsm8k or mt-bench.")],
    model: Annotated[str, typer.Option("--model", help="The model, by litellm's name.")],
    answers_dir: Annotated[Path, typer.Option("--answers-dir", help="Where answers are kept.")] = Path("answers"),
    judge: Annotated[str | None, typer.Option("--judge-model", help="Judges MT-Bench.")] = None,
    api_base: Annotated[str | None, typer.Option(help="The model's base URL.")] = None,
    judge_api_base: Annotated[str | None, typer.Option(help="The judge's base URL.")] = None,
    answer_key: Annotated[Path | None, typer.Option(help="MMLU's right answers (hendrycks/test, cais/mmlu).")] = None,
    shots: Annotated[int, typer.Option(min=0, help="Worked examples shown for GSM8K; RouteLLM shows 8.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per answer.")] = None,
    omit_temperature: Annotated[bool, typer.Option("--omit-temperature", help="For models with a fixed one.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 16,
    requests_per_minute: Annotated[float | None, typer.Option(min=0.01, help="Calls started per minute.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Tries per call.")] = 5,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions, for a try-out.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer a benchmark with a new model and grade the answers. Run it again to continue where it stopped."""
    from routellm_core.backends.base import ModelSettings
    from routellm_core.evals.benchmarks.registry import canonical_name
    from routellm_core.evals.data import resolve_data_dir
    from routellm_core.evals.generate import CallLimits
    from routellm_core.evals.questions import load_questions

    name = canonical_name(benchmark)
    if name == "mt-bench" and judge is None:
        raise ConfigError("mt-bench is graded by a judge; give --judge-model (the published judge is gpt-4)")
    folder = resolve_data_dir(data_dir)
    questions = load_questions(name, data_dir=folder, answer_key=answer_key, shots=shots)[:limit]
    failures = asyncio.run(
        _answer_and_grade(
            questions,
            benchmark=name,
            model=ModelSettings(model=model, api_base=api_base),
            judge=ModelSettings(model=judge, api_base=judge_api_base) if judge else None,
            folder=answers_dir,
            limits=CallLimits(concurrency=concurrency, requests_per_minute=requests_per_minute, attempts=attempts),
            send_temperature=not omit_temperature,
            parameters={"max_tokens": max_tokens} if max_tokens else {},
        )
    )
    if failures:
        first = next(iter(failures.items()))
        errors.print(f"{len(failures)} questions failed, the first ({first[0]}) with: {first[1]}", markup=False)
        errors.print("Run the command again to try them once more.")
        raise typer.Exit(1)


async def _answer_and_grade(
    questions: Sequence[Any], *, benchmark: str, model: Any, judge: Any, parameters: Any, **options: Any
) -> dict[str, str]:
    """Answer, grade, print what was done, and return the failures by question."""
    from routellm_core.backends.litellm import LiteLLMBackend
    from routellm_core.evals.generate import generate_answers
    from routellm_core.evals.grades import grade_answers, mean_grade

    backend = LiteLLMBackend()
    with _progress_bar("answering") as report:
        answered = await generate_answers(
            questions,
            benchmark=benchmark,
            model=model,
            backend=backend,
            parameters=parameters,
            on_progress=report,
            **options,
        )
    output.print(f"answers: {answered.done} new, {answered.reused} from before, {len(answered.failures)} failed")
    with _progress_bar("grading") as report:
        graded = await grade_answers(
            questions,
            benchmark=benchmark,
            model=model.model,
            judge=judge,
            backend=backend,
            on_progress=report,
            **options,
        )
    count, mean = mean_grade(options["folder"], benchmark=benchmark, model=model.model)
    output.print(f"graded: {count}, mean quality {mean:.4f}; kept in {options['folder']}", soft_wrap=True)
    return {**answered.failures, **graded.failures}


class _progress_bar:  # noqa: N801 (used like a function)
    """A progress bar as ``report(done, total)``."""

    def __init__(self, label: str) -> None:
        from rich.progress import Progress

        self._progress = Progress(console=errors, transient=True)
        self._task = self._progress.add_task(label, total=None)

    def __enter__(self) -> Any:
        self._progress.start()
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
