"""On real prompts: the share achieved on a held-out half is within the printed interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routellm_core import load_router
from routellm_core.calibration import PromptQuality, calibrate_quality, calibrate_share
from routellm_core.errors import CalibrationError

SPLITS = 100


@pytest.fixture(scope="module")
def gsm8k(shared: Path) -> tuple[np.ndarray, PromptQuality]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow; install routellm-core[eval]")
    table = parquet.read_table(shared / "data" / "routellm_benchmarks" / "gsm8k.parquet")
    strong, weak = (
        np.array(table.column(model).to_pylist(), dtype=float)
        for model in ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    )
    return load_router("mf").score(table.column("prompt").to_pylist()), PromptQuality(strong, weak)


def halves(n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(split).permutation(n)
    return order[: n // 2], order[n // 2 :]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_share_holds_on_a_held_out_half(gsm8k: tuple[np.ndarray, PromptQuality], share: float) -> None:
    scores, _ = gsm8k
    held = 0
    for split in range(SPLITS):
        mine, other = halves(len(scores), split)
        result = calibrate_share(scores[mine], share, evaluation_size=len(other))
        held += float((scores[other] >= result.threshold.value).mean()) in result.share
    assert held >= 93


def test_the_lower_end_of_quality_holds_on_a_held_out_half(gsm8k: tuple[np.ndarray, PromptQuality]) -> None:
    scores, quality = gsm8k
    held = answered = 0
    for split in range(SPLITS):
        mine, other = halves(len(scores), split)
        labels = PromptQuality(quality.strong[mine], quality.weak[mine])
        try:
            result = calibrate_quality(scores[mine], labels, 0.9, evaluation_size=len(other), resamples=1)
        except CalibrationError:
            continue
        routed = np.where(scores[other] >= result.threshold.value, quality.strong[other], quality.weak[other])
        answered += 1
        assert result.quality is not None
        held += float(routed.mean() / quality.strong[other].mean()) >= result.quality.low
    assert answered >= 90
    assert held / answered >= 0.93
