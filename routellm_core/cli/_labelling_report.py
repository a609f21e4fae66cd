"""What ``routellm data label`` shows: the estimate before it starts, and the summary at its end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from routellm_core.asking.calls import Outcome
from routellm_core.asking.labels import LabelOutcome
from routellm_core.asking.prompts import CallEstimate, LabelModels
from routellm_core.pricing import price_of
from routellm_core.training.checks import MIN_ROWS


def estimated_dollars(estimates: Sequence[CallEstimate]) -> float | None:
    """Return the sum, or None where a model's price is not known."""
    known = [estimate.dollars for estimate in estimates if estimate.dollars is not None]
    return sum(known) if len(known) == len(estimates) else None


def print_estimate(estimates: Sequence[CallEstimate], models: LabelModels, console: Console) -> None:
    """Print a table of calls, tokens and dollars, and what to know before it starts."""
    table = Table("", "model", box=None, pad_edge=False)
    for title in ("calls", "tokens sent", "tokens answered", "dollars"):
        table.add_column(title, justify="right")
    for row in estimates:
        dollars = "unknown" if row.dollars is None else f"{row.dollars:.4f}"
        table.add_row(
            row.role, row.model, f"{row.calls:,}", f"{row.input_tokens:,.0f}", f"{row.output_tokens:,.0f}", dollars
        )
    console.print(table)
    total = estimated_dollars(estimates)
    if total is not None:
        console.print(f"estimated: ${total:.4f}, retries left out", soft_wrap=True)
    for row in estimates:
        if row.dollars is None:
            console.print(
                f"note: the price of the {row.role} model {row.model!r} is not known, so what it costs is not counted; "
                f"give --{row.role}-price",
                soft_wrap=True,
            )
    if models.judge.model in (models.strong.model, models.weak.model):
        console.print("note: the judge compares its own answers, and judges prefer their own", soft_wrap=True)


def print_unfinished(outcome: Outcome, what: str, console: Console) -> None:
    """Print which of ``what`` are not finished and why; nothing where all are."""
    if outcome.failures:
        place, message = next(iter(outcome.failures.items()))
        console.print(f"{len(outcome.failures):,} {what} failed, the first ({place}) with: {message}", soft_wrap=True)
    if outcome.left:
        console.print(f"{outcome.left:,} {what} were not finished: {outcome.stopped}", soft_wrap=True)
    if not outcome.is_complete:
        console.print("Run the command again to go on.")


def print_outcome(outcome: LabelOutcome, models: LabelModels, file: Path, console: Console) -> None:
    """Print wins, ties and losses, what was spent, and what to run next."""
    won = outcome.winners
    labelled = sum(won.values())
    console.print(
        f"labels: {labelled:,} ({outcome.done:,} new, {outcome.reused:,} from before): "
        f"strong better {won['strong']:,}, tie {won['tie']:,}, weak better {won['weak']:,}",
        soft_wrap=True,
    )
    if outcome.disagreements:
        console.print(
            f"{outcome.disagreements:,} of the ties are prompts where the judge's verdict changed with the order",
            soft_wrap=True,
        )
    tokens = "; ".join(
        f"{role} {sent:,.0f} tokens sent, {got:,.0f} answered" for role, (sent, got) in outcome.tokens.items()
    )
    console.print(f"spent: {_spent(outcome, models)}{f' ({tokens})' if tokens else ''}", soft_wrap=True)
    if not outcome.is_complete:
        return
    if labelled < MIN_ROWS:
        console.print(f"training needs at least {MIN_ROWS} labels; 200 to 2,000 are usual", soft_wrap=True)
        return
    words = ["routellm", "train", "mf", "--from", "default", "--data", str(file), "--output", "my-router"]
    words += ["--strong-model", models.strong.model, "--weak-model", models.weak.model]
    console.print(f"next: {shlex.join(words)}", soft_wrap=True)


def _spent(outcome: LabelOutcome, models: LabelModels) -> str:
    prices = {role: price_of(models.by_role[role]) for role in outcome.tokens}
    known = sum(price.dollars(*outcome.tokens[role]) for role, price in prices.items() if price is not None)
    unknown = [role for role, price in prices.items() if price is None]
    return f"${known:.4f}" + (f", and an unknown price for {', '.join(unknown)}" if unknown else "")
