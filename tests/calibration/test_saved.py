from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.calibration import Calibration, PromptCosts, calibrate_cost, calibrate_share, threshold_for_share
from routellm_core.errors import CalibrationError, OutputError
from routellm_core.routers.random import RandomRouter
from routellm_core.testing import FixedScoreRouter

SCORES = np.random.default_rng(0).beta(2, 5, size=500)


def calibration(**options: Any) -> Calibration:
    return Calibration.of(RandomRouter(seed=1), SCORES, data="mine.jsonl (500 prompts)", **options)


@pytest.mark.parametrize(
    "result",
    [
        None,
        calibrate_share(SCORES, 0.3, evaluation_size=math.inf),
        calibrate_cost(SCORES, PromptCosts(np.full(500, 0.01), np.full(500, 0.001)), 5.0, resamples=5),
    ],
)
def test_what_is_saved_is_loaded(tmp_path: Path, result: Any) -> None:
    saved = calibration(result=result)
    saved.save(tmp_path / "new folder" / "c.json")
    assert Calibration.load(tmp_path / "new folder" / "c.json") == saved
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["c.json"]


def test_the_file_names_router_checkpoint_data_and_date(tmp_path: Path) -> None:
    calibration(result=calibrate_share(SCORES, 0.5)).save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["format"] == "routellm-calibration/1"
    assert (content["router"], content["fingerprint"]) == ("random", RandomRouter(seed=1).fingerprint)
    assert content["data"] == "mine.jsonl (500 prompts)"
    assert content["sample_size"] == 500
    assert content["created"].endswith("+00:00")
    assert len(content["quantiles"]) == 1001
    assert content["result"]["share"].keys() == {"value", "low", "high"}


def test_its_quantiles_give_the_threshold_that_was_calibrated() -> None:
    direct = calibrate_share(SCORES, 0.5).threshold.value
    assert threshold_for_share(calibration().quantiles, 0.5) == pytest.approx(direct, abs=1e-3)


def test_another_checkpoint_and_another_router_are_refused() -> None:
    calibration().check(RandomRouter(seed=1))
    with pytest.raises(
        CalibrationError, match=r"another checkpoint of the router 'random'.*random:order:1.*random:order:2"
    ):
        calibration().check(RandomRouter(seed=2))
    with pytest.raises(CalibrationError, match="for the router 'random', not for 'fixed'"):
        calibration().check(FixedScoreRouter())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other/2"}, "not a calibration file"),
        ({"router": 3}, "router: .*valid string"),
        ({"quantiles": [0.5, 0.4]}, "ascending numbers"),
        ({"quantiles": ["x"]}, "quantiles.0"),
        ({"result": {"threshold": 1}}, "result"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "c.json"
    calibration().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CalibrationError, match=said):
        Calibration.load(path)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nowhere.json' does not exist"):
        Calibration.load(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("not JSON")
    with pytest.raises(CalibrationError, match="not readable as JSON"):
        Calibration.load(tmp_path / "text.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CalibrationError, match="not a calibration file"):
        Calibration.load(tmp_path / "list.json")
    with pytest.raises(OutputError, match="could not be written"):
        calibration().save(tmp_path / "text.json" / "c.json")
