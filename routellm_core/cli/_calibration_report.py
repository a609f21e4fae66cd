"""How a calibration is printed: the one line that scripts read, then the figures for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from routellm_core.calibration import CalibratedThreshold, CurvePoint, Estimate, Target
from routellm_core.cli._console import say

__all__ = ["headline", "print_curve", "print_result", "rounding_note"]

DIGITS = 5


def headline(target: Target, router: str, threshold: float) -> str:
    """Return the line that RouteLLM prints, for a share as there."""
    asked = {
        "share": f"{round(target.value * 100, 10)}% strong model calls",
        "cost": f"at most ${target.value:.2f} per 1,000 requests",
        "quality": f"at least {round(target.value * 100, 10)}% of the strong model's quality",
    }[target.kind]
    return f"For {asked} for {router}, threshold = {threshold:.{DIGITS}f}"


def rounding_note(threshold: float, share: float, share_when_rounded: float) -> str | None:
    """Return a note when the rounded threshold of the headline routes another share, else None."""
    if abs(share - share_when_rounded) < 0.001:
        return None
    return (
        f"scores are dense here: rounded to {DIGITS} decimals the threshold makes {share_when_rounded:.1%} strong "
        f"calls, in full ({threshold!r}) it makes {share:.1%}"
    )


def print_result(result: CalibratedThreshold, console: Console) -> None:
    """Print every figure of a calibration with its interval, and its warnings."""
    further = f"the next {result.evaluation_size:,}" if result.evaluation_size else "the long run"
    table = Table("", "calibrated", f"{result.level:.0%} interval", "of", box=None, pad_edge=False)
    table.add_row(
        "threshold", f"{result.threshold.value:.{DIGITS}f}", _between(result.threshold, ".5f"), "another sample"
    )
    table.add_row("strong calls", f"{result.share.value:.1%}", _between(result.share, ".1%"), further)
    if result.cost is not None:
        table.add_row("$ per 1,000 requests", f"{result.cost.value:#.4g}", _between(result.cost, "#.4g"), further)
    if result.quality is not None:
        table.add_row(
            "quality of the strong model's", f"{result.quality.value:.1%}", _between(result.quality, ".1%"), further
        )
    console.print(table)
    if result.padding is not None:
        console.print(result.padding, soft_wrap=True, highlight=False)
    for warning in result.warnings:
        say("yellow", "note:", warning, console=console)


def print_curve(points: Sequence[CurvePoint], console: Console) -> None:
    """Print what each share takes and gives."""
    if not points:
        return
    table = Table("strong calls", "threshold", title="Share curve", title_justify="left", box=None, pad_edge=False)
    if points[0].cost is not None:
        table.add_column("$ per 1,000")
    if points[0].quality is not None:
        table.add_column("quality of strong's")
    for point in points:
        figures = [f"{point.share.value:.1%}", f"{point.threshold:.{DIGITS}f}"]
        if point.cost is not None:
            figures.append(f"{point.cost.value:#.4g}")
        if point.quality is not None:
            figures.append(f"{point.quality.value:.1%} ({_between(point.quality, '.1%')})")
        table.add_row(*figures)
    console.print(table)


def _between(estimate: Estimate, form: str) -> str:
    return f"{estimate.low:{form}} – {estimate.high:{form}}"
