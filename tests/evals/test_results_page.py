from __future__ import annotations

from pathlib import Path

import pytest

from research.published import PUBLISHED
from research.results_page import Variant, main, results_page
from routellm_core.evals import EvaluationSettings, ScoreCache

VARIANTS = (
    Variant("prompt length", None, training_data="nothing at all"),
    Variant("random", "random"),
    Variant("broken", "bert", {"checkpoint_path": "/nowhere"}),
)


def test_published_figures() -> None:
    assert len(PUBLISHED) == 3 * 9
    best = max(PUBLISHED, key=lambda row: row.apgr)
    assert (best.router, best.benchmark, best.cpt50, best.apgr) == ("mf", "mt-bench", 0.134, 0.802)
    assert all(0 < row.cpt50 < row.cpt80 < 1 for row in PUBLISHED)


def test_the_page_is_complete_and_reproducible(data_dir: Path, tmp_path: Path) -> None:
    settings = EvaluationSettings(resamples=20)
    cache = ScoreCache(tmp_path / "scores.sqlite3")
    texts = []
    for name in ("first", "second"):
        page = results_page(
            data_dir=data_dir, output=tmp_path / name, variants=VARIANTS, settings=settings, cache=cache
        )
        texts.append(page.read_text())
    assert texts[0] == texts[1]
    for heading in ("## MT-Bench", "## MMLU", "## GSM8K", "## Not run", "## Made by"):
        assert heading in texts[0]
    assert "nothing at all" in texts[0]
    assert "RouteLLM sw_ranking" in texts[0]
    assert "| broken |" in texts[0]
    links = {part.partition(")")[0] for part in texts[0].split("](")[1:]}
    assert all((tmp_path / "first" / link).exists() for link in links)


def test_command_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data-dir", str(tmp_path / "none"), "--output", str(tmp_path)]) == 2
    assert "routellm data download" in capsys.readouterr().err.replace("\n", " ")
