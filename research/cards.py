"""Model cards of the shipped ``mf`` routers, with the benchmark figures that ``research.report`` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from routellm_core.training.matrix_factorization import CheckpointFacts

__all__ = ["card_text", "write_card"]


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
