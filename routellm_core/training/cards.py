"""Model cards: what a checkpoint was trained on, how, and how well it does, beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routellm_core.metrics.held_out import interval_text

__all__ = ["models_card_text", "rows_card_text"]

_MEASURED: Final = "Other pairs have too few rows, or models that the rows do not tell apart in quality."


def rows_card_text(title: str, opening: str, facts: Mapping[str, Any], *, reference_traffic: str) -> str:
    """Return the card of a router that was trained on a user's own rows, as Markdown.

    Args:
        title: the heading.
        opening: what the router is, in a sentence or two.
        facts: as from ``base.recorded_facts``, with ``held_out``.
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


def models_card_text(title: str, pair: tuple[str, str], embedder: str, facts: Mapping[str, Any], traffic: str) -> str:
    """Return the card of a checkpoint with a vector per model, as Markdown.

    Args:
        title: the heading.
        pair: scored unless the router is told otherwise.
        embedder: its name.
        facts: as from ``base.recorded_facts``, with ``models``, ``pairs`` and ``held_out``.
        traffic: what the quantiles were taken over.
    """
    opening = (
        f"A vector for each of {len(facts['models'])} models on the embedder `{embedder}`; any two can be routed "
        "between (`strong_model` and `weak_model` of the router), by default "
        f"{pair[0]} (strong) and {pair[1]} (weak). The score is the estimated probability that the strong model "
        "strictly beats the weak one; how often models tie is taken to be the same for all pairs."
    )
    lines = [rows_card_text(title, opening, facts, reference_traffic=traffic), "## Models", ""]
    lines += ["| model | rows | prompts |", "|---|---|---|"]
    lines += [f"| {model} | {counts['rows']} | {counts['prompts']} |" for model, counts in facts["models"].items()]
    if facts["pairs"]:
        lines += ["", "## Pairs", "", f"{facts['held_out']['how']}. {_MEASURED}", ""]
        lines += ["| strong | weak | rows | APGR | 95 % interval |", "|---|---|---|---|---|"]
        for row in facts["pairs"]:
            figure = f"{_number(row['apgr'])} | {interval_text(row['apgr'])}"
            lines.append(f"| {row['strong']} | {row['weak']} | {row['rows']} | {figure} |")
    return "\n".join(lines) + "\n"


def _held_out_lines(held_out: Mapping[str, Any]) -> list[str]:
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
        ahead = f"{_number(lead, '+')} | {interval_text(lead, sign='+')}" if lead else " | "
        lines.append(f"| {name} | {_number(row)} | {interval_text(row)} | {ahead} |")
    return [*lines, "", *held_out["verdicts"]]


def _number(row: Mapping[str, Any], sign: str = "") -> str:
    return "–" if row["value"] is None else f"{row['value']:{sign}.3f}"
