"""Calibration from rows to a threshold, as a Python user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core import ModelPair, ModelSelector, load_router
from routellm_core.calibration import Calibration, Target, TokenPrices, calibrate
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.pricing import Price
from routellm_core.score_cache import ScoreCache

PAIR = ModelPair("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")


def labelled(count: int = 1500) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    words = ["prove", "sum", "hello", "why", "code", "integral"]
    return [
        {
            "prompt": " ".join(generator.choice(words, 8)) + f" {number}",
            "strong": float(generator.random() < 0.9),
            "weak": float(generator.random() < 0.8),
        }
        for number in range(count)
    ]


def test_a_share_of_a_list() -> None:
    prompts = [row["prompt"] for row in labelled()]
    run = calibrate("mf", prompts, "30%")
    scores = load_router("mf").score(prompts)
    np.testing.assert_allclose(run.traffic.scores, scores, atol=1e-6)
    assert (scores >= run.threshold).mean() == pytest.approx(0.3, abs=0.002)
    assert run.data == "list (1,500 prompts)"
    assert (run.result.cost, run.result.quality, run.prices) == (None, None, None)


def test_the_published_pair_has_dollars() -> None:
    run = calibrate("mf", labelled(), Target("cost", 5.0), pair=PAIR)
    assert run.result.cost is not None
    assert run.result.cost.high <= 5.0
    assert run.prices is not None
    assert "Mixtral-8x7B-Instruct-v0.1': $" in run.prices.describe()
    assert run.traffic.costs is not None
    sent = len(labelled()[0]["prompt"]) / 4
    assert run.traffic.costs.strong[0] == pytest.approx(sent * 1e-5 + 300 * 3e-5)


def test_a_quality_and_what_it_keeps(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(labelled(3000)))
    cache = ScoreCache(tmp_path / "scores.sqlite3")
    done: list[int] = []
    run = calibrate(load_router("mf"), file, Target("quality", 0.93), cache=cache, on_progress=done.append)
    assert sum(done) == 3000
    assert run.result.quality is not None
    assert run.result.quality.low >= 0.93
    assert run.result.unpadded is not None
    assert run.result.unpadded.share.value < run.result.share.value
    assert [point.share.value for point in run.curve()] == sorted(point.share.value for point in run.curve())
    run.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json").result == run.result
    selector = ModelSelector("mf", PAIR, calibration=tmp_path / "c.json")
    assert selector.select("prove it").threshold == pytest.approx(run.threshold)


def test_one_model_a_row_counts_every_prompt_once() -> None:
    rows = [
        {"prompt": row["prompt"], "model": model, "score": score}
        for row in labelled()
        for model, score in ((PAIR.strong, row["strong"]), (PAIR.weak, row["weak"]))
    ]
    both = calibrate("mf", rows, Target("quality", 0.9), pair=PAIR)
    assert both.result == calibrate("mf", labelled(), Target("quality", 0.9), pair=PAIR).result
    rows.append({"prompt": "only one model answered this", "model": PAIR.weak, "score": 1})
    assert len(calibrate("mf", rows, "50%", pair=PAIR).traffic.scores) == 1501
    assert len(calibrate("mf", rows, Target("quality", 0.9), pair=PAIR).traffic.scores) == 1500
    assert len(calibrate("mf", rows, "50%").traffic.scores) == 1501
    with pytest.raises(ConfigError, match="no row compares 'strong' with 'weak'; the data name"):
        calibrate("mf", rows, Target("quality", 0.9))


def test_labels_in_columns_called_after_the_models() -> None:
    rows = [{"prompt": r["prompt"], PAIR.strong: r["strong"], PAIR.weak: r["weak"]} for r in labelled()]
    run = calibrate("mf", rows, Target("quality", 0.9), pair=PAIR)
    assert run.result == calibrate("mf", labelled(), Target("quality", 0.9), pair=PAIR).result


def test_the_first_turn_of_a_conversation() -> None:
    rows = [{"turns": [row["prompt"], "and then?"]} for row in labelled(50)]
    first = calibrate("mf", rows, "50%", first_turn=True)
    np.testing.assert_allclose(first.traffic.scores, load_router("mf").score([r["turns"][0] for r in rows]), atol=1e-6)
    assert len(set(calibrate("mf", rows, "50%").traffic.scores)) == 1


def test_a_price_that_is_given_is_used_or_refused() -> None:
    prices = TokenPrices.of("x", "y", strong_price="10,30", weak_price="1,1", output_tokens=100)
    assert prices == TokenPrices(Price(1e-5, 3e-5), Price(1e-6, 1e-6), 100)
    assert TokenPrices.of("x", "y") is None
    for given in ({"strong_price": "10,30"}, {"weak_price": "10,30"}):
        with pytest.raises(ConfigError, match="no price is known for '[xy]'"):
            TokenPrices.of("x", "y", **given)


@pytest.mark.parametrize(
    ("source", "target", "error", "said"),
    [
        (["a"], Target("cost", 1.0), ConfigError, "a budget needs prices"),
        (["a"], Target("quality", 0.9), ConfigError, "list, row 1: a quality needs labels"),
        ([{"prompt": "a", "strong": "", "weak": ""}], Target("quality", 0.9), ConfigError, "every row's are empty"),
        ([], "50%", ConfigError, "list holds no prompt with text"),
        (["a"], "0.5", CalibrationError, "must be a share such as '50%'"),
    ],
)
def test_what_is_missing_is_said(source: Any, target: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        calibrate("mf", source, target)
