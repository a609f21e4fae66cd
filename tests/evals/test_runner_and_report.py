from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError, MissingExtraError
from routellm_core.evals import Benchmark, Evaluation, EvaluationSettings, ScoreCache, run_evaluation
from routellm_core.evals.costs import cost_table
from routellm_core.evals.report import as_dict, markdown, markdown_table, plain, write_report
from routellm_core.routers import load_router
from routellm_core.testing import FixedScoreRouter

QUICK = EvaluationSettings(resamples=50)


def length_score(prompt: str) -> float:
    return len(prompt) / (len(prompt) + 300)


@pytest.fixture(scope="module")
def evaluation(published: Callable[[str], Benchmark]) -> Evaluation:
    benchmark = published("mt-bench")
    routers = {"length": FixedScoreRouter(score=length_score), "random": load_router("random")}
    return run_evaluation(benchmark, routers, settings=QUICK, costs=cost_table(benchmark))


def test_everything_is_reported(evaluation: Evaluation, tmp_path: Path) -> None:
    files = write_report(evaluation, tmp_path / "new" / "folder")
    names = {path.name for path in files}
    plots = {f"mt-bench{kind}{suffix}" for kind in ("", "_reliability") for suffix in (".png", ".svg")}
    assert names == plots | {
        "mt-bench.json",
        "mt-bench.md",
        "mt-bench_prompts.jsonl",
        "mt-bench_thresholds.csv",
        "mt-bench_metrics.csv",
        "mt-bench_groups.csv",
    }
    assert all(path.stat().st_size > 0 for path in files)


def test_json_holds_what_a_table_needs_to_be_made_again(evaluation: Evaluation) -> None:
    record = json.loads(json.dumps(as_dict(evaluation), allow_nan=False))
    assert record["settings"]["seed"] == 0
    assert record["versions"]["numpy"] == np.__version__
    assert [router["fingerprint"] for router in record["routers"]] == ["fixed", "random:order:0"]
    assert len(record["routers"][1]["scores"]) == 10
    assert record["benchmark"]["prompts"] == 72
    assert record["costs"]["strong_dollars_per_1000_prompts"] > record["costs"]["weak_dollars_per_1000_prompts"]


def test_csv_thresholds(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path, with_plots=False)
    with (tmp_path / "mt-bench_thresholds.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["router"] == "length"]
    assert len(rows) == 11
    assert float(rows[0]["strong_share"]) == 1.0
    assert float(rows[0]["dollars_per_1000_prompts"]) > float(rows[-1]["dollars_per_1000_prompts"]) > 0


def test_markdown_has_baselines_and_intervals(evaluation: Evaluation) -> None:
    text = markdown(evaluation)
    assert "chance (exact)" in text
    assert "oracle" in text
    assert "best single model: gpt-4-1106-preview" in text
    assert "0.556 [" in text  # the golden APGR of the length router
    assert "| writing |" in text
    assert "`random:order:0`" in text


def test_plots_are_pictures_with_text(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path)
    assert (tmp_path / "mt-bench.png").read_bytes().startswith(b"\x89PNG")
    drawing = ElementTree.parse(tmp_path / "mt-bench.svg")
    words = " ".join(element.text or "" for element in drawing.iter() if element.tag.endswith("text"))
    for expected in ("oracle", "chance (exact)", "length (APGR 0.556)", "strong", "calls to the strong model (%)"):
        assert expected in words
    first = (tmp_path / "mt-bench.svg").read_bytes()
    write_report(evaluation, tmp_path)
    assert (tmp_path / "mt-bench.svg").read_bytes() == first


def test_plots_without_matplotlib_name_the_extra(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"routellm-core\[eval\]"):
        write_report(evaluation, tmp_path)


def test_comparisons_are_paired(evaluation: Evaluation) -> None:
    pair = evaluation.comparisons[0]
    values = [router.metrics["apgr"].value for router in evaluation.routers]
    assert (pair.first, pair.second, pair.metric) == ("length", "random", "apgr")
    assert pair.difference == pytest.approx(values[0] - values[1])


def test_groups_and_dollars(make_benchmark: Callable[..., Benchmark]) -> None:
    benchmark = make_benchmark([1, 1, 1, 0], [0, 1, 0, 0], ["a", "a", "b", "b"])
    router = FixedScoreRouter(score=lambda prompt: len(prompt) / 10)
    result = run_evaluation(benchmark, {"fixed": router}, settings=QUICK).routers[0]
    first, second = result.groups
    # The median of 0.1 to 0.4 sends the prompts of group b to strong.
    assert (first.name, first.strong_share, first.routed) == ("a", 0.0, 0.5)
    assert (second.name, second.strong_share, second.routed) == ("b", 1.0, 0.5)
    assert result.dollars is None
    assert result.dollars_at is None


def test_a_group_without_a_gap_has_no_apgr(make_benchmark: Callable[..., Benchmark]) -> None:
    benchmark = make_benchmark([1, 1, 1], [1, 1, 0], ["a", "a", "b"])
    router = FixedScoreRouter(score=lambda prompt: len(prompt) / 10)
    evaluation = run_evaluation(benchmark, {"fixed": router}, settings=QUICK)
    assert math.isnan(evaluation.routers[0].groups[0].apgr)
    json.dumps(as_dict(evaluation), allow_nan=False)


def test_scores_are_cached_except_random_ones(
    make_benchmark: Callable[..., Benchmark], tmp_path: Path, length_router: Any
) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite3")
    benchmark = make_benchmark([1, 1], [0, 1])
    progress: list[tuple[str, int, int]] = []
    for _ in range(2):
        run_evaluation(
            benchmark,
            {"length": length_router, "random": load_router("random")},
            settings=QUICK,
            cache=cache,
            on_progress=lambda *event: progress.append(event),
        )
    assert length_router.scored == 2
    assert cache.counts() == {"length:1": 2}
    assert ("length", 2, 2) in progress
    run_evaluation(benchmark, {"length": length_router}, settings=QUICK, cache=cache, overwrite_cache=["length"])
    assert length_router.scored == 4


def test_bad_requests(make_benchmark: Callable[..., Benchmark], length_router: Any) -> None:
    benchmark = make_benchmark([1], [0])
    with pytest.raises(ConfigError, match="at least one router"):
        run_evaluation(benchmark, {})
    with pytest.raises(ConfigError, match="names mf"):
        run_evaluation(benchmark, {"length": length_router}, overwrite_cache=["mf"])


@pytest.mark.parametrize(
    "wrong", [{"num_results": 0}, {"random_iters": 0}, {"resamples": 0}, {"level": 1.0}, {"at_share": 1.5}]
)
def test_bad_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EvaluationSettings(**wrong)


def test_plain_values_and_tables() -> None:
    assert plain({"a": np.float64("nan"), "b": np.arange(2), "c": (Path("x"), True)}) == {
        "a": None,
        "b": [0, 1],
        "c": ["x", True],
    }
    assert markdown_table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"
