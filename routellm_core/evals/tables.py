"""An evaluation as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from routellm_core.evals.router_results import Estimate
from routellm_core.evals.runner import Evaluation

__all__ = ["fraction", "markdown", "markdown_table", "percent"]


def markdown(evaluation: Evaluation) -> str:
    """Return the tables as Markdown: routers and baselines, comparisons, subjects, and how they were made."""
    benchmark = evaluation.benchmark
    parts = [
        f"# {benchmark.title}",
        f"{len(benchmark):,} prompts ({benchmark.prompts_before_decontamination:,} before decontamination). "
        f"Strong: {benchmark.pair.strong}, {benchmark.strong_mean:.3f}. Weak: {benchmark.pair.weak}, "
        f"{benchmark.weak_mean:.3f}. Quality: {benchmark.quality_label}. Brackets: "
        f"{evaluation.settings.level:.0%} intervals, prompts resampled {evaluation.settings.resamples} times; for "
        "chance, over random routers on these prompts.",
        _metric_table(evaluation),
        "CPT and APGR as RouteLLM computes them; APGR (paper) is the mean of PGR over ten cost points. Lower CPT is "
        "better, higher APGR and PGR are.",
        _comparison_table(evaluation),
        _cost_section(evaluation),
        _group_table(evaluation),
        _provenance(evaluation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def percent(estimate: Estimate) -> str:
    """Format a share with its interval."""
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value * 100:.2f} [{estimate.interval.low * 100:.1f}, {estimate.interval.high * 100:.1f}]"


def fraction(estimate: Estimate) -> str:
    """Format an average with its interval."""
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.3f} [{estimate.interval.low:.3f}, {estimate.interval.high:.3f}]"


def _metric_table(evaluation: Evaluation) -> str:
    share = f"PGR at {evaluation.settings.at_share:.0%} strong"
    header = ["router", "CPT(20%)", "CPT(50%)", "CPT(80%)", "APGR", "APGR (paper)", share, "ECE"]
    ordered = sorted(evaluation.routers, key=lambda router: -_sortable(router.metrics["apgr"].value))
    rows = [
        [
            router.name,
            *(percent(router.metrics[name]) for name in ("cpt20", "cpt50", "cpt80")),
            *(fraction(router.metrics[name]) for name in ("apgr", "apgr_paper", "pgr")),
            f"{router.reliability.expected_calibration_error:.3f}",
        ]
        for router in ordered
    ]
    baselines = evaluation.baselines
    chance = baselines.random_apgr
    rows.append(["*chance (exact)*", "20", "50", "80", f"0.500 [{chance.low:.3f}, {chance.high:.3f}]", "0.500", "", ""])
    rows.append(["*oracle*", "", "", "", f"{baselines.oracle_apgr:.3f}", "", "", ""])
    best = f"*best single model: {baselines.best_single}*, quality {baselines.best_single_quality:.3f}"
    return markdown_table(header, rows) + f"\n\n{best}"


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _comparison_table(evaluation: Evaluation) -> str:
    if not evaluation.comparisons:
        return ""
    rows = [
        [
            f"{pair.first} − {pair.second}",
            pair.metric,
            f"{pair.difference:+.3f}",
            f"[{pair.interval.low:+.3f}, {pair.interval.high:+.3f}]",
            "no" if 0.0 in pair.interval else "yes",
        ]
        for pair in evaluation.comparisons
    ]
    header = ["difference", "metric", "value", "paired interval", "excludes 0"]
    return "## Routers compared on the same prompts\n\n" + markdown_table(header, rows)


def _cost_section(evaluation: Evaluation) -> str:
    costs = evaluation.costs
    if costs is None:
        return ""
    rows = [
        [router.name, *(f"{router.dollars_at[name]:.4f}" for name in ("cpt20", "cpt50", "cpt80"))]
        for router in evaluation.routers
        if router.dollars_at
    ]
    return (
        "## Dollars per 1,000 prompts\n\n"
        f"All strong: {costs.strong_dollars:.4f} ({costs.strong_price.source}). "
        f"All weak: {costs.weak_dollars:.4f} ({costs.weak_price.source}). Tokens: {costs.note}. "
        "To recover 20, 50 and 80 % of the gap:\n\n" + markdown_table(["router", "20%", "50%", "80%"], rows)
    )


def _group_table(evaluation: Evaluation) -> str:
    if len(set(evaluation.benchmark.groups)) < 2:
        return ""
    header = ["subject", "prompts", "weak", "strong"]
    for router in evaluation.routers:
        header += [f"{router.name}: at half", f"{router.name}: strong share"]
    rows = []
    for position, group in enumerate(evaluation.routers[0].groups):
        row = [group.name, str(group.prompts), f"{group.weak:.2f}", f"{group.strong:.2f}"]
        for router in evaluation.routers:
            there = router.groups[position]
            row += [f"{there.routed:.2f}", f"{there.strong_share:.0%}"]
        rows.append(row)
    note = "Quality when half of the benchmark's prompts go to strong, and how many of the subject's then do.\n\n"
    return "## By subject\n\n" + note + markdown_table(header, rows)


def _provenance(evaluation: Evaluation) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(evaluation.settings).items())
    versions = ", ".join(f"{name} {value}" for name, value in evaluation.versions.items())
    routers = [[router.name, f"`{router.fingerprint}`"] for router in evaluation.routers]
    return (
        f"## How this was made\n\nData: {evaluation.benchmark.source}.\n\nSettings: {settings}.\n\n"
        f"Versions: {versions}.\n\n" + markdown_table(["router", "fingerprint"], routers)
    )
