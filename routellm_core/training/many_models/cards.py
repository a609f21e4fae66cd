"""The card of a checkpoint with a vector per model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routellm_core.training.cards import rows_card_text

__all__ = ["models_card_text"]

_MEASURED: Final = "Other pairs have too few rows, or models that the rows do not tell apart in quality."


def models_card_text(title: str, pair: tuple[str, str], embedder: str, facts: Mapping[str, Any], traffic: str) -> str:
    """Return the card as Markdown.

    Args:
        title: the heading.
        pair: scored unless the router is told otherwise.
        embedder: its name.
        facts: as from ``outcome.recorded_facts``, with ``models``, ``pairs`` and ``held_out``.
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
            apgr = row["apgr"]
            interval = f"{apgr['low']:.3f} to {apgr['high']:.3f}"
            lines.append(f"| {row['strong']} | {row['weak']} | {row['rows']} | {apgr['value']:.3f} | {interval} |")
    return "\n".join(lines) + "\n"
