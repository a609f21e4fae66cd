"""``routellm route``: where prompts would go, why, and what that saves."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.text import Text

from routellm_core.cli._console import errors, output, progress_bar
from routellm_core.cli._options import Column, Config, RouterName, StrongModel, Threshold, WeakModel, configuration
from routellm_core.config import ModelsSettings
from routellm_core.rows.prompts import Conversation, conversation_text, read_conversations
from routellm_core.rows.sources import RowSource
from routellm_core.types import RoutingDecision, Tier

_TIER_STYLES: dict[Tier, str] = {"strong": "bold magenta", "weak": "green"}


def route(
    prompts: Annotated[list[str] | None, typer.Argument(help="Prompts; none reads --file or standard input.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Prompts: a file, a folder or hf:owner/data-set; docs/data.md.")
    ] = None,
    column: Column = None,
    router: RouterName = None,
    threshold: Threshold = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    output_tokens: Annotated[int, typer.Option(min=0, help="Tokens per answer, for the cost estimate.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts scored at a time.")] = 256,
) -> None:
    """Show where prompts would be routed, without calling a model."""
    settings = configuration(
        config, router=router, threshold=threshold, strong_model=strong_model, weak_model=weak_model
    )
    conversations, total = _input(prompts, file, column)
    from routellm_core.config import build_controller

    selector = build_controller(settings).selector()
    tally = _Tally(settings.models, output_tokens)
    index = 0
    if not as_json:
        output.print(_header(), soft_wrap=True)
    hidden = total is not None and total <= batch_size
    with progress_bar(f"Scoring with {settings.router}", total, hidden=hidden) as advance:
        while batch := list(itertools.islice(conversations, batch_size)):
            for conversation, decision in zip(batch, selector.select_batch(batch), strict=True):
                text = conversation_text(conversation)
                tally.add(text, decision)
                _print_row(index, text, decision, as_json=as_json)
                index += 1
            advance(len(batch))
    if not index:
        raise typer.BadParameter("no prompts: give some as arguments, with --file, or on standard input")
    (errors if as_json else output).print(tally.summary(), soft_wrap=True)


def _input(
    prompts: Sequence[str] | None, file: str | None, column: str | None
) -> tuple[Iterator[Conversation], int | None]:
    if prompts and file:
        raise typer.BadParameter("give prompts as arguments or with --file, not both")
    if prompts:
        return iter(prompts), len(prompts)
    if file and RowSource.parse(file).is_rereadable:
        # A first pass finds a broken row before any work is done, and the total for the progress bar.
        return read_conversations(file, column=column), sum(1 for _ in read_conversations(file, column=column))
    if file:
        return read_conversations(file, column=column), None
    if sys.stdin.isatty():
        raise typer.BadParameter("no prompts: give some as arguments, with --file, or on standard input")
    return read_conversations(None, column=column), None


def _header() -> Text:
    return Text(f"{'index':>6}  {'score':>5}  {'thr.':>5}  {'tier':<6}  {'model':<28}  reason; prompt", style="bold")


def _print_row(index: int, text: str, decision: RoutingDecision, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"index": index, **decision.as_dict()}) + "\n")
        return
    score = "–" if decision.score is None else f"{decision.score:.3f}"
    limit = "–" if decision.threshold is None else f"{decision.threshold:.3f}"
    snippet = " ".join(text.split())
    snippet = snippet if len(snippet) <= 60 else f"{snippet[:59]}…"
    row = Text(f"{index:>6}  {score:>5}  {limit:>5}  ")
    row.append(f"{decision.tier:<6}", style=_TIER_STYLES[decision.tier])
    row.append(f"  {decision.model:<28}  {decision.reason}; ")
    row.append(snippet.encode("utf-8", "replace").decode(), style="dim")
    output.print(row, soft_wrap=True)


class _Tally:
    """Counts decisions and estimates dollars, in constant memory."""

    def __init__(self, models: ModelsSettings, output_tokens: int) -> None:
        from routellm_core.pricing import price_of

        self._models, self._output_tokens = models, output_tokens
        self._prices = [price_of(model) for model in (models.strong, models.weak)]
        self._routed = [0, 0]  # prompts, strong and weak
        self._dollars = [0.0, 0.0, 0.0]  # as routed, all strong, all weak

    def add(self, text: str, decision: RoutingDecision) -> None:
        from routellm_core.pricing import estimate_tokens

        place = 0 if decision.tier == "strong" else 1
        self._routed[place] += 1
        sent = round(estimate_tokens(text))
        costs = [price.dollars(sent, self._output_tokens) if price else 0.0 for price in self._prices]
        self._dollars = [total + cost for total, cost in zip(self._dollars, [costs[place], *costs], strict=True)]

    def summary(self) -> str:
        strong, weak = self._routed
        return (
            f"\n{strong + weak} prompts: {strong} strong ({strong / (strong + weak):.1%}), {weak} weak.  {self._cost()}"
        )

    def _cost(self) -> str:
        names = [self._models.strong.model, self._models.weak.model]
        unknown = [name for name, price in zip(names, self._prices, strict=True) if price is None]
        if unknown:
            return (
                f"No price is known for {' and '.join(unknown)}; set input_cost_per_token and "
                "output_cost_per_token in the model's settings for a cost estimate."
            )
        routed, all_strong, all_weak = self._dollars
        saved = 1 - routed / all_strong if all_strong else 0.0
        return (
            f"Estimated cost ${routed:.4f}: saves {saved:.1%} of all-strong ${all_strong:.4f}; "
            f"all-weak ${all_weak:.4f} ({' and '.join(names)}, {self._output_tokens} tokens an answer)."
        )
