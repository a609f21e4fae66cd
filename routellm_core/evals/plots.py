"""Figures that can go into a paper: readable at column width, in PNG and SVG, and safe for colour-blind readers."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from routellm_core._optional import import_extra
from routellm_core._publish import publish_file
from routellm_core.evals.runner import Evaluation

_COLUMN_WIDTH_INCHES = 3.35
_DOTS_PER_INCH = 300
# Okabe and Ito's palette, without its yellow (too light for lines) and with black kept for the oracle.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY = "#6F6F6F"
_STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.hashsalt": "routellm",  # equal figures give equal files
    "svg.fonttype": "none",  # text stays text, so that a journal can set it in its own font
}


def plot_cost_quality(evaluation: Evaluation, path: Path) -> list[Path]:
    """Draw quality against the share of strong calls: routers with bands, chance, both models and the oracle.

    Bands are pointwise intervals of the gap recovered; that around chance covers random routers on these prompts.
    ``path`` is the file without suffix; the PNG and the SVG file are returned.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with _styled():
        figure, axes = _new_figure(evaluation, height=3.15)
        _draw_baselines(axes, evaluation)
        for position, router in enumerate(evaluation.routers):
            colour, marker = _COLOURS[position % len(_COLOURS)], _MARKERS[position % len(_MARKERS)]
            shares = router.curve.shares * 100
            if len(router.scores) == 1:  # a random router's band would only repeat that of chance
                axes.fill_between(shares, router.low, router.high, color=colour, alpha=0.16, linewidth=0)
            points = sorted(router.rows, key=lambda row: row.strong_calls)
            axes.plot(
                [row.strong_share * 100 for row in points],
                [row.quality for row in points],
                color=colour,
                marker=marker,
                markersize=2.8,
                linewidth=1.2,
                label=f"{router.name} (APGR {router.metrics['apgr'].value:.3f})",
                zorder=3,
            )
        axes.set_xlim(-2, 102)
        axes.set_xlabel("calls to the strong model (%)")
        axes.set_ylabel(evaluation.benchmark.quality_label)
        return _save(figure, axes, path)


def _draw_baselines(axes: Any, evaluation: Evaluation) -> None:
    benchmark, baselines = evaluation.benchmark, evaluation.baselines
    shares = baselines.shares * 100
    axes.fill_between(shares, baselines.random_low, baselines.random_high, color=_GREY, alpha=0.25, linewidth=0)
    axes.plot(shares, baselines.random, color=_GREY, linestyle="--", linewidth=1.0, label="chance (exact)")
    axes.plot(shares, baselines.oracle, color="black", linestyle=":", linewidth=1.2, label="oracle")
    for tier, quality in (("strong", benchmark.strong_mean), ("weak", benchmark.weak_mean)):
        axes.axhline(quality, color=_GREY, linewidth=0.5, zorder=0)
        axes.annotate(
            tier,
            xy=(1.0, quality),
            xycoords=axes.get_yaxis_transform(),
            xytext=(2, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            color=_GREY,
            annotation_clip=False,
        )


def plot_reliability(evaluation: Evaluation, path: Path) -> list[Path]:
    """Draw how often the strong model wins against the score, with the share of prompts as the size of the points.

    Arguments, result and errors are :func:`plot_cost_quality`'s.
    """
    with _styled():
        figure, axes = _new_figure(evaluation, height=3.3)
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=0.8, label="calibrated")
        for position, router in enumerate(evaluation.routers):
            points = router.reliability
            colour = _COLOURS[position % len(_COLOURS)]
            label = f"{router.name} (ECE {points.expected_calibration_error:.3f})"
            axes.plot(points.bin_score, points.bin_win_rate, color=colour, linewidth=1.0, label=label)
            size = 4 + 60 * points.bin_size / points.bin_size.sum()
            axes.scatter(points.bin_score, points.bin_win_rate, s=size, color=colour, zorder=3, linewidth=0)
        axes.axhline(float(evaluation.benchmark.strong_wins.mean()), color=_GREY, linewidth=0.5, zorder=0)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("score: predicted P(strong beats weak)")
        axes.set_ylabel("observed share of strong wins")
        return _save(figure, axes, path)


def _styled() -> AbstractContextManager[None]:
    matplotlib = import_extra("matplotlib", extra="eval", purpose="Plotting")
    return cast(AbstractContextManager[None], matplotlib.rc_context(_STYLE))


def _new_figure(evaluation: Evaluation, *, height: float) -> tuple[Any, Any]:
    # A bare Figure draws with Agg and leaves pyplot's global state, and any display, alone.
    module = import_extra("matplotlib.figure", extra="eval", purpose="Plotting")
    figure = module.Figure(figsize=(_COLUMN_WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    benchmark = evaluation.benchmark
    strong, weak = (model.rpartition("/")[2] for model in (benchmark.pair.strong, benchmark.pair.weak))
    axes.set_title(f"{benchmark.title}, n = {len(benchmark):,}\n{strong} / {weak}", fontsize=7)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> list[Path]:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, handlelength=1.8)
    files = []
    for kind, options in (("png", {"dpi": _DOTS_PER_INCH}), ("svg", {"metadata": {"Date": None}})):
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, **options)
        files.append(path.with_name(f"{path.name}.{kind}"))
        publish_file(files[-1], picture.getvalue())
    return files
