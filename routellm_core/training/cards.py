"""Model cards: what a checkpoint was trained on, how, and how well it does, beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["rows_card_text"]


def rows_card_text(title: str, opening: str, facts: Mapping[str, Any], *, reference_traffic: str) -> str:
    """Return the card of a router that was trained on a user's own rows, as Markdown.

    Args:
        title: the heading.
        opening: what the router is, in a sentence or two.
        facts: as from ``outcome.recorded_facts``, with ``held_out``.
        reference_traffic: what the quantiles were taken over.
    """
    stated = ", ".join(facts["licences"]) or "not stated by the data; settle them before passing the weights on"
    lines = [
        f"# {title}",
        "",
        opening,
        "",
        "## Training",
        "",
        f"- Command: `{facts['command']}`",
        f"- Started from: {facts.get('start') or 'nothing'}",
        f"- Data: {', '.join(facts['data']) or 'not recorded'}; {facts['rows']} rows of the pair, "
        f"{facts['prompts']} distinct prompts",
        f"- Labels: {', '.join(f'{count} {label}' for label, count in facts['labels'].items())}",
        f"- Licences of the rows: {stated}",
        f"- Random seed: {facts['random_seed']}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}",
        f"- Reference traffic of the quantiles: {reference_traffic}",
        *(f"- Note: {warning}" for warning in facts["warnings"]),
    ]
    return "\n".join(lines + _held_out_lines(facts["held_out"])) + "\n"


def _held_out_lines(held_out: Mapping[str, Any]) -> list[str]:
    if not held_out:
        return []
    lines = [
        "",
        "## Held out",
        "",
        f"{held_out['how']}, {held_out['rows']} rows. A random router has an APGR of 0.5.",
        "",
    ]
    lines += ["| router | APGR | 95 % interval | this router's lead | 95 % interval |", "|---|---|---|---|---|"]
    for name, row in held_out["apgr"].items():
        lead = held_out["lead"].get(name)
        ahead = f"{lead['value']:+.3f} | {lead['low']:+.3f} to {lead['high']:+.3f}" if lead else " | "
        lines.append(f"| {name} | {row['value']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {ahead} |")
    return [*lines, "", *held_out["verdicts"]]
