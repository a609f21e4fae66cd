"""A program's examples, measured with both models: by hand, without any framework."""

from __future__ import annotations

from pathlib import Path

import pytest

from routellm_core import ModelPair
from routellm_core.calibration import MeasuredExample, Measurement
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.rows.labelled import load_rows
from routellm_core.testing import FixedScoreRouter

PAIR = ModelPair("big", "small")
ROUTER = FixedScoreRouter(score=lambda text: 0.9 if "hard" in text else 0.1)
PROMPTS = ["hard one", "easy one", "hard two", "easy two"]


def measured(**options: object) -> Measurement:
    qualities = {"strong_quality": [1, 1, 1, 1], "weak_quality": [0, 1, 0, 1]}
    return Measurement.of(ROUTER, PAIR, PROMPTS, **{**qualities, **options})  # type: ignore[arg-type]


def test_qualities_thresholds_and_the_curve() -> None:
    found = measured(strong_dollars=[0.4] * 4, weak_dollars=[0.1] * 4)
    assert found.rows[0] == MeasuredExample("hard one", 0.9, 1, 0, 0.4, 0.1)
    assert (found.strong_quality, found.weak_quality, found.oracle_quality) == (1.0, 0.5, 1.0)
    assert (found.quality_at(0.5), found.quality_at(0.95), found.quality_at(0.0)) == (1.0, 0.5, 1.0)
    assert 0.1 < found.best() <= 0.9
    assert [point.share.value for point in found.curve()] == [0.0, 0.5, 1.0]
    assert found.calibrate(strong_share=0.5).cost.value == pytest.approx(250.0)  # type: ignore[union-attr]
    assert found.calibration(found.calibrate(strong_share=0.5)).result is not None


def test_unknown_costs_and_bad_input_are_refused(tmp_path: Path) -> None:
    found = measured()
    assert found.costs is None
    with pytest.raises(CalibrationError, match="what the runs cost is not known"):
        found.calibrate(max_cost=1.0)
    with pytest.raises(ConfigError, match="no examples"):
        Measurement.of(ROUTER, PAIR, [], strong_quality=[], weak_quality=[])
    with pytest.raises(ValueError, match="zip"):
        measured(weak_quality=[1])
    found.save_rows(tmp_path / "rows.jsonl")
    assert len(load_rows([tmp_path / "rows.jsonl"])) == 4
