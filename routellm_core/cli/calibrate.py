"""``routellm calibrate``: from a share, a budget or a quality to a threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routellm_core.cli._console import output, progress_bar
from routellm_core.cli._options import (
    CacheFile,
    Column,
    Config,
    NoCache,
    OutputTokens,
    StrongModel,
    StrongPrice,
    WeakModel,
    WeakPrice,
    configuration,
)
from routellm_core.errors import ConfigError

_NEEDS_PROMPTS = {
    "cost": "--max-cost needs --prompts: a threshold's cost depends on the prompts that it sends to the strong model",
    "quality": "--min-quality needs --prompts: rows with the quality of both models, in columns 'strong' and 'weak'",
}


def calibrate(
    routers: Annotated[list[str] | None, typer.Option(help="Routers: --routers mf bert.")] = None,
    strong_model_pct: Annotated[float | None, typer.Option(help="Target: share of strong calls, 0 to 1.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Target: dollars per 1,000 requests, at most.")] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Target: fraction of the strong model's quality, at least (labelled rows).")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Your own traffic: a file, a folder, hf:owner/data-set, or - (see docs/data.md).")
    ] = None,
    column: Column = None,
    first_turn: Annotated[bool, typer.Option("--first-turn", help="Route conversations on their first turn.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Keep the calibration here, for `calibration:` in the config.")
    ] = None,
    strong_price: StrongPrice = None,
    weak_price: WeakPrice = None,
    output_tokens: OutputTokens = 300,
    evaluation_size: Annotated[
        float | None,
        typer.Option(help="Further prompts that intervals speak of; inf for the long run.", show_default="as many"),
    ] = None,
    level: Annotated[float, typer.Option(help="Probability that an interval covers.")] = 0.99,
    curve: Annotated[bool, typer.Option(help="Print the share curve.")] = True,
    thresholds: Annotated[
        str | None, typer.Option(help="Published scores, one column per router: a file or a Hub data set.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts scored at a time.")] = 512,
    cache: CacheFile = None,
    no_cache: NoCache = False,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    config: Config = None,
) -> None:
    """Find the threshold for a share of strong calls, a budget or a quality; offline for the routers that ship."""
    from routellm_core._publish import check_writable_file
    from routellm_core.calibration import PromptSource, Target, TokenPrices
    from routellm_core.calibration import calibrate as run_calibration
    from routellm_core.cli._calibration_run import print_run, print_without_prompts
    from routellm_core.routers.registry import load_router
    from routellm_core.rows.sources import RowSource
    from routellm_core.score_cache import ScoreCache

    targets = (("share", strong_model_pct), ("cost", max_cost), ("quality", min_quality))
    given = [Target(kind, value) for kind, value in targets if value is not None]  # type: ignore[arg-type]
    if len(given) != 1:
        raise typer.BadParameter("give one target: --strong-model-pct, --max-cost or --min-quality")
    settings = configuration(config, strong_model=strong_model, weak_model=weak_model)
    names = routers or [settings.router]
    if save is not None and (prompts is None or len(names) != 1):
        raise ConfigError("--save keeps the calibration of one router on --prompts; give both")
    if prompts is None:
        if given[0].kind != "share":
            raise ConfigError(_NEEDS_PROMPTS[given[0].kind])
        for name in names:
            print_without_prompts(settings, name, given[0].value, thresholds)
        return
    models = settings.models
    rows = RowSource.parse(prompts)
    if len(names) > 1 and not rows.is_rereadable:
        raise ConfigError(f"{rows.name} can be read only once; give one router, or a file")
    source = PromptSource(rows, column, first_turn, (models.strong.model, models.weak.model))
    prices = TokenPrices.of(
        models.strong, models.weak, strong_price=strong_price, weak_price=weak_price, output_tokens=output_tokens
    )
    if save is not None:
        check_writable_file(save)
    total = source.count()
    for name in names:
        router = load_router(name, settings.router_options(name))
        with progress_bar(f"Scoring with {name}", total) as report:
            run = run_calibration(
                router,
                source,
                given[0],
                prices=prices,
                evaluation_size=evaluation_size,
                level=level,
                batch_size=batch_size,
                cache=None if no_cache else ScoreCache(cache),
                on_progress=report,
            )
        print_run(run, curve=curve)
        if save is not None:
            run.save(save)
            output.print(f"saved to {save}", markup=False, soft_wrap=True)
