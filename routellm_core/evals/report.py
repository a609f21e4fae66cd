"""An evaluation as Markdown, JSON and CSV, with all that is needed to make the same tables again."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from routellm_core._publish import check_writable_folder, publish_file
from routellm_core.evals.plots import plot_cost_quality, plot_reliability
from routellm_core.evals.router_results import Estimate, RouterResult
from routellm_core.evals.runner import Evaluation, prompt_rows


def write_report(evaluation: Evaluation, folder: Path, *, with_plots: bool = True) -> list[Path]:
    """Write everything about an evaluation into ``folder`` and return the files, by the benchmark's name.

    They are ``.json`` (all of it), ``.md`` (tables), ``_prompts.jsonl`` (see :func:`prompt_rows`), ``_thresholds.csv``,
    ``_metrics.csv``, ``_groups.csv``, and the plots ``.png/.svg`` and ``_reliability.png/.svg``.

    Raises:
        ConfigError: nothing can be written there.
        OutputError: a file could not be written.
        MissingExtraError: plots without matplotlib.
    """
    check_writable_folder(folder)
    stem = folder / evaluation.benchmark.name
    content = {
        ".json": json.dumps(as_dict(evaluation), indent=1, ensure_ascii=False) + "\n",
        ".md": markdown(evaluation),
        "_prompts.jsonl": "".join(json.dumps(row) + "\n" for row in prompt_rows(evaluation)),
    }
    for suffix, text in content.items():
        publish_file(stem.with_name(f"{stem.name}{suffix}"), text)
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in content] + write_tables(evaluation, folder)
    if with_plots:
        files += plot_cost_quality(evaluation, stem)
        files += plot_reliability(evaluation, stem.with_name(f"{stem.name}_reliability"))
    return files


def write_tables(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the CSV files alone: thresholds, metrics and groups."""
    files = []
    tables = {"thresholds": _threshold_records, "metrics": _metric_records, "groups": _group_records}
    for suffix, records in tables.items():
        rows = list(records(evaluation))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
        writer.writeheader()
        writer.writerows(plain(row) for row in rows)
        files.append(folder / f"{evaluation.benchmark.name}_{suffix}.csv")
        publish_file(files[-1], text.getvalue())
    return files


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as JSON-ready values (NaN becomes None); prompts are left out, scores are kept."""
    benchmark = evaluation.benchmark
    record = {
        "benchmark": {
            "name": benchmark.name,
            "source": benchmark.source,
            "strong_model": benchmark.pair.strong,
            "weak_model": benchmark.pair.weak,
            "prompts": len(benchmark),
            "prompts_before_decontamination": benchmark.prompts_before_decontamination,
            "strong_quality": benchmark.strong_mean,
            "weak_quality": benchmark.weak_mean,
            "quality_label": benchmark.quality_label,
        },
        "notes": list(evaluation.notes),
        "settings": asdict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "baselines": asdict(evaluation.baselines),
        "costs": _cost_record(evaluation),
        "routers": [_router_record(router) for router in evaluation.routers],
        "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
    }
    return cast(dict[str, Any], plain(record))


def plain(value: Any) -> Any:
    """Turn arrays, numpy numbers, NaN and unknown objects inside ``value`` into JSON-ready values."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _cost_record(evaluation: Evaluation) -> dict[str, Any] | None:
    costs = evaluation.costs
    if costs is None:
        return None
    return {
        "strong_price": costs.strong_price.source,
        "weak_price": costs.weak_price.source,
        "tokens": costs.note,
        "strong_dollars_per_1000_prompts": costs.strong_dollars,
        "weak_dollars_per_1000_prompts": costs.weak_dollars,
    }


def _router_record(router: RouterResult) -> dict[str, Any]:
    record = asdict(router)
    curve = {**record.pop("curve"), "low": record.pop("low"), "high": record.pop("high")}
    del record["dollars"]
    return {**record, "rows": _row_records(router), "dollars_per_1000_prompts": router.dollars, "curve": curve}


def _row_records(router: RouterResult) -> list[dict[str, Any]]:
    return [{**asdict(row), "strong_share": row.strong_share} for row in router.rows]


def _threshold_records(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for router in evaluation.routers:
        dollars: Sequence[float | None] = router.dollars or [None] * len(router.rows)
        for row, paid in zip(_row_records(router), dollars, strict=True):
            yield {"router": router.name, **row, "dollars_per_1000_prompts": paid}


def _metric_records(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for router in evaluation.routers:
        for name, estimate in router.metrics.items():
            ends = {"low": estimate.interval.low, "high": estimate.interval.high, "level": estimate.interval.level}
            yield {"router": router.name, "metric": name, "value": estimate.value, **ends}
        for name, share in router.first_crossings.items():
            yield {"router": router.name, "metric": f"{name}_first_crossing", "value": share}
        yield {"router": router.name, "metric": "ece", "value": router.reliability.expected_calibration_error}
        yield {"router": router.name, "metric": "brier", "value": router.reliability.brier_score}


def _group_records(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for router in evaluation.routers:
        for group in router.groups:
            yield {"router": router.name, **asdict(group)}


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
        *(f"**Note:** {text}" for text in evaluation.notes),
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
    if evaluation.has_gap:
        chance = f"0.500 [{baselines.random_apgr.low:.3f}, {baselines.random_apgr.high:.3f}]"
        rows.append(["*chance (exact)*", "20", "50", "80", chance, "0.500", "", ""])
        rows.append(["*oracle*", "", "", "", f"{baselines.oracle_apgr:.3f}", "", "", ""])
    best = f"*best single model: {baselines.best_single}*, quality {baselines.best_single_quality:.3f}"
    return markdown_table(header, rows) + f"\n\n{best}"


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _comparison_table(evaluation: Evaluation) -> str:
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
    if not rows or not evaluation.has_gap:
        return ""
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
