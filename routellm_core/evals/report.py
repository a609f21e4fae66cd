"""An evaluation as JSON, CSV and Markdown, with all that is needed to make the same table again."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.evals.plots import plot_cost_quality, plot_reliability
from routellm_core.evals.router_results import RouterResult
from routellm_core.evals.runner import Evaluation
from routellm_core.evals.tables import markdown

__all__ = ["as_dict", "plain", "write_report", "write_tables"]


def write_report(evaluation: Evaluation, folder: Path, *, with_plots: bool = True) -> list[Path]:
    """Write everything about an evaluation into ``folder``.

    Returns:
        the files: ``<benchmark>.json`` (all of it), ``.md`` (tables), ``_thresholds.csv``, ``_metrics.csv``,
        ``_groups.csv``, and the plots ``<benchmark>.png/.svg`` and ``<benchmark>_reliability.png/.svg``.

    Raises:
        MissingExtraError: plots without matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / evaluation.benchmark.name
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".json", ".md")]
    files[0].write_text(json.dumps(as_dict(evaluation), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files[1].write_text(markdown(evaluation), encoding="utf-8")
    files += write_tables(evaluation, folder)
    if with_plots:
        files += plot_cost_quality(evaluation, stem)
        files += plot_reliability(evaluation, stem.with_name(f"{stem.name}_reliability"))
    return files


def write_tables(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the CSV files alone: thresholds, metrics and groups."""
    files = []
    for suffix, rows in (
        ("thresholds", _threshold_records(evaluation)),
        ("metrics", _metric_records(evaluation)),
        ("groups", _group_records(evaluation)),
    ):
        files.append(folder / f"{evaluation.benchmark.name}_{suffix}.csv")
        _write_csv(files[-1], list(rows))
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
        "settings": asdict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "baselines": asdict(evaluation.baselines),
        "costs": _cost_record(evaluation),
        "routers": [_router_record(router) for router in evaluation.routers],
        "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
    }
    cleaned: dict[str, Any] = plain(record)
    return cleaned


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
    return {
        "name": router.name,
        "fingerprint": router.fingerprint,
        "description": dict(router.description),
        "rows": [{**asdict(row), "strong_share": row.strong_share} for row in router.rows],
        "dollars_per_1000_prompts": router.dollars,
        "metrics": {name: asdict(estimate) for name, estimate in router.metrics.items()},
        "first_crossings": dict(router.first_crossings),
        "dollars_at": router.dollars_at and dict(router.dollars_at),
        "curve": {
            "shares": router.curve.shares,
            "quality": router.curve.quality,
            "low": router.low,
            "high": router.high,
        },
        "reliability": asdict(router.reliability),
        "groups": [asdict(group) for group in router.groups],
        "scores": router.scores,
    }


def _threshold_records(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for router in evaluation.routers:
        for number, row in enumerate(router.rows):
            dollars = router.dollars[number] if router.dollars else None
            record = {**asdict(row), "strong_share": row.strong_share, "dollars_per_1000_prompts": dollars}
            yield {"router": router.name, **record}


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


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(plain(row) for row in rows)
