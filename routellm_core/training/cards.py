"""Model cards: what a checkpoint was trained on, how, and how well it does, beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routellm_core.training.matrix_factorization import CheckpointFacts

__all__ = ["card_text", "rows_card_text", "write_card"]


def write_card(folder: Path, facts: CheckpointFacts) -> None:
    """Write ``README.md`` into a checkpoint folder.

    Benchmark figures measured later are kept: a ``benchmarks.json`` in the folder becomes a table of the card.
    """
    file = folder / "benchmarks.json"
    benchmarks = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    (folder / "README.md").write_text(card_text(folder.name, facts, benchmarks), encoding="utf-8")


def card_text(title: str, facts: CheckpointFacts, benchmarks: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    training = facts.training
    lines = [
        f"# {title}",
        "",
        f"A matrix-factorisation router on the embedder `{facts.embedder}`. The score orders prompts by how much a "
        f"strong model is worth on them; the scored pair is named {facts.strong_model} against {facts.weak_model}, but "
        "the weights carry no knowledge of a particular pair. That half of ordinary traffic reaches 0.116 is a "
        "convention, so the score is a probability of a strict win only after calibration on one's own outcomes. "
        "Weights: Apache-2.0.",
        "",
        "## Training",
        "",
        f"- Command: `{training.get('command', 'not recorded')}`",
        f"- Labels: {training.get('labels', 'not recorded')}",
        f"- Random seed: {training.get('random_seed') or 'none is needed, the fit is exact'}",
        f"- Licences of the rows: {', '.join(training.get('licences', [])) or 'not recorded'}",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in training.get('versions', {}).items())}",
        f"- Reference traffic of the quantiles: {facts.reference_traffic}; half of it scores at least "
        f"{training.get('median_score_on_reference_traffic', 'an unrecorded value')}",
        "",
        "| source | rows |",
        "|---|---|",
        *(f"| {source} | {rows} |" for source, rows in training.get("rows_by_source", {}).items()),
    ]
    if benchmarks:
        lines += ["", "## Benchmarks", "", str(benchmarks.get("note", "")), ""]
        lines += ["| test | APGR | 95 % interval | prompt length alone |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {row['apgr']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['length']:.3f} |"
            for name, row in benchmarks.get("apgr", {}).items()
        ]
    return "\n".join(lines) + "\n"


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
