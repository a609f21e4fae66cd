"""``routellm route``: where prompts would go, why, and what that saves."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from routellm_core.cli._console import errors, output
from routellm_core.cli._options import Config, RouterName, StrongModel, Threshold, WeakModel, configuration
from routellm_core.config import ModelsSettings
from routellm_core.rows.prompts import Conversation, conversation_text, read_conversations
from routellm_core.rows.sources import RowSource
from routellm_core.types import RoutingDecision, Tier

__all__ = ["route"]

_TIER_STYLES: dict[Tier, str] = {"strong": "bold magenta", "weak": "green"}


def route(
    prompts: Annotated[list[str] | None, typer.Argument(help="Prompts; none reads --file or standard input.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Prompts: a file, a folder or hf:owner/data-set; docs/data.md.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The prompt's column.")] = None,
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
    with _progress(disable=total is not None and total <= batch_size) as progress:
        task = progress.add_task(f"Scoring with {settings.router}", total=total)
        while batch := list(itertools.islice(conversations, batch_size)):
            for conversation, decision in zip(batch, selector.select_batch(batch), strict=True):
                text = conversation_text(conversation)
                tally.add(text, decision)
                _print_row(index, text, decision, as_json=as_json)
                index += 1
            progress.update(task, advance=len(batch))
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


def _progress(*, disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=disable)


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


@dataclass
class _Tally:
    """Counts decisions and estimates dollars, in constant memory."""

    models: ModelsSettings
    output_tokens: int
    counts: Counter[Tier] = field(default_factory=Counter)
    input_tokens: Counter[Tier] = field(default_factory=Counter)

    def add(self, text: str, decision: RoutingDecision) -> None:
        from routellm_core.pricing import estimate_tokens

        self.counts[decision.tier] += 1
        self.input_tokens[decision.tier] += round(estimate_tokens(text))

    def summary(self) -> Text:
        total = self.counts.total()
        strong = self.counts["strong"]
        text = Text()
        text.append(f"\n{total} prompts: {strong} strong ({strong / total:.1%}), {total - strong} weak.  ")
        return text.append(self._cost(total))

    def _cost(self, total: int) -> str:
        from routellm_core.pricing import price_of

        settings = {"strong": self.models.strong, "weak": self.models.weak}
        prices = {tier: price_of(model) for tier, model in settings.items()}
        strong, weak = prices["strong"], prices["weak"]
        if strong is None or weak is None:
            unknown = [settings[tier].model for tier, price in prices.items() if price is None]
            return (
                f"No price is known for {' and '.join(unknown)}; set input_cost_per_token and "
                "output_cost_per_token in the model's settings for a cost estimate."
            )
        inputs, outputs = self.input_tokens.total(), total * self.output_tokens
        routed = strong.dollars(self.input_tokens["strong"], self.counts["strong"] * self.output_tokens)
        routed += weak.dollars(self.input_tokens["weak"], self.counts["weak"] * self.output_tokens)
        all_strong, all_weak = strong.dollars(inputs, outputs), weak.dollars(inputs, outputs)
        saved = 1 - routed / all_strong if all_strong else 0.0
        return (
            f"Estimated cost ${routed:.4f}: saves {saved:.1%} of all-strong ${all_strong:.4f}; "
            f"all-weak ${all_weak:.4f} "
            f"({settings['strong'].model} and {settings['weak'].model}, {self.output_tokens} tokens an answer)."
        )
