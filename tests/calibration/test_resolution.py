"""``threshold="50%"`` and ``strong_share=0.5`` wherever a threshold is accepted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from routellm_core import Controller, ModelPair, ModelSelector, Router, build_controller, load_config
from routellm_core.calibration import Calibration, calibrate_share, resolve_threshold
from routellm_core.decision import StrongShare, format_model_name, parse_model_name, parse_threshold
from routellm_core.errors import CalibrationError, ConfigError, InvalidThresholdError
from routellm_core.routers.random import RandomRouter
from routellm_core.testing import FakeBackend, FixedScoreRouter
from routellm_core.types import FloatArray

PAIR = ModelPair(strong="big", weak="small")
HELLO = [{"role": "user", "content": "Hello!"}]


class LengthRouter(Router):
    """Scores a prompt by its length in hundredths; its reference traffic scores from 0 to 0.4."""

    name: ClassVar[str] = "length"

    def score(self, prompts: Sequence[str]) -> FloatArray:
        return np.array([min(len(prompt) / 100, 1.0) for prompt in prompts])

    @property
    def reference_quantiles(self) -> FloatArray:
        return np.linspace(0, 0.4, 1001)


def on_traffic_from(
    low: float, high: float, *, share: float | None = None, router: Router | None = None
) -> Calibration:
    scores = np.linspace(low, high, 1001)
    result = None if share is None else calibrate_share(scores, share)
    return Calibration.of(router or LengthRouter(), scores, data="test", result=result)


@pytest.mark.parametrize(
    ("text", "share"), [("50%", 0.5), (" 7.25 % ", 0.0725), ("0%", 0.0), ("100%", 1.0), ("1e-3%", 1e-5)]
)
def test_a_percentage_is_a_share(text: str, share: float) -> None:
    assert parse_threshold(text) == StrongShare(share)
    assert parse_threshold(str(StrongShare(share))) == StrongShare(share)


@pytest.mark.parametrize("text", ["101%", "-1%", "half%", "%", "nan%", "inf%"])
def test_other_percentages_are_refused(text: str) -> None:
    with pytest.raises(InvalidThresholdError, match="from 0% to 100%"):
        parse_threshold(text)


def test_a_number_stays_and_a_share_is_looked_up() -> None:
    assert resolve_threshold(0.116, LengthRouter()) == 0.116
    assert resolve_threshold("0.116", LengthRouter()) == 0.116
    assert resolve_threshold("25%", LengthRouter()) == pytest.approx(0.3)
    assert resolve_threshold("25%", LengthRouter(), on_traffic_from(0.4, 0.8)) == pytest.approx(0.7)


def test_a_router_without_quantiles_says_to_calibrate() -> None:
    with pytest.raises(InvalidThresholdError, match=r"routellm calibrate --routers fixed --prompts.*--save"):
        ModelSelector(FixedScoreRouter(), PAIR, threshold="50%")
    with pytest.raises(InvalidThresholdError, match="no reference quantiles"):
        ModelSelector(FixedScoreRouter(), PAIR).select("x", strong_share=0.5)


def test_a_selector_takes_shares_at_every_place() -> None:
    selector = ModelSelector(LengthRouter(), PAIR, threshold="25%")
    assert selector.threshold == pytest.approx(0.3)
    assert ModelSelector(LengthRouter(), PAIR, strong_share=0.25).threshold == selector.threshold
    prompt = "x" * 20  # scores 0.2
    assert selector.select(prompt).tier == "weak"
    assert selector.select(prompt, threshold="75%").tier == "strong"
    assert selector.select(prompt, strong_share=0.75).threshold == pytest.approx(0.1)
    assert asyncio.run(selector.aselect(prompt, strong_share=0.75)).tier == "strong"
    assert [item.tier for item in selector.select_batch([prompt] * 2, threshold="75%")] == ["strong", "strong"]
    with pytest.raises(InvalidThresholdError, match="in two ways"):
        selector.select(prompt, threshold=0.2, strong_share=0.75)


def test_a_calibration_resolves_shares_and_gives_the_default(tmp_path: Path) -> None:
    mine = on_traffic_from(0.4, 0.8, share=0.25)
    mine.save(tmp_path / "c.json")
    for source in (mine, tmp_path / "c.json", str(tmp_path / "c.json")):
        selector = ModelSelector(LengthRouter(), PAIR, calibration=source)
        assert selector.threshold == pytest.approx(0.7, abs=1e-3)
        assert selector.select("x" * 60, threshold="75%").threshold == pytest.approx(0.5)
    assert ModelSelector(LengthRouter(), PAIR, threshold=0.2, calibration=mine).threshold == 0.2


def test_a_controller_takes_shares_at_every_place() -> None:
    controller = Controller(["random"], "big", "small", threshold="100%", backend=FakeBackend())
    assert controller.completion(messages=HELLO).routing.threshold == 0.0
    assert controller.completion(messages=HELLO, strong_share=0.0).routing.threshold == 1.0
    named = controller.completion(model="router-random-25%", messages=HELLO)
    assert named.routing.threshold == pytest.approx(0.75)
    assert controller.route("x", threshold="100%") == "big"
    assert controller.route("x", strong_share=0.0) == "small"
    assert controller.decide("x", strong_share=0.25).threshold == pytest.approx(0.75)
    answered = asyncio.run(controller.acompletion(model="auto", messages=HELLO, threshold="25%"))
    assert answered.routing.threshold == pytest.approx(0.75)
    shared = Controller(["random"], "big", "small", strong_share=0.25, backend=FakeBackend())
    assert shared.decide("x").threshold == pytest.approx(0.75)


def test_model_names_carry_shares() -> None:
    assert parse_model_name("router-my-own-router-12.5%").threshold == StrongShare(0.125)
    assert format_model_name("mf", StrongShare(0.07)) == "router-mf-7%"
    assert parse_model_name(format_model_name("mf", "33.3%")).threshold == StrongShare(0.333)


def test_each_router_of_a_controller_gets_its_own_calibration() -> None:
    router = RandomRouter(seed=0)
    mine, other = on_traffic_from(0.4, 0.8, router=router), on_traffic_from(0.0, 0.1)
    controller = Controller(["random"], "a", "b", calibration=[other, mine], backend=FakeBackend())
    assert controller.decide("x", threshold="25%").threshold == pytest.approx(0.7)
    with pytest.raises(CalibrationError, match="is for length, but the routers loaded here are random"):
        Controller(["random"], "a", "b", calibration=other, backend=FakeBackend())
    wrong_seed = on_traffic_from(0.4, 0.8, router=RandomRouter(seed=7))
    with pytest.raises(CalibrationError, match="another checkpoint"):
        Controller(["random"], "a", "b", calibration=wrong_seed, backend=FakeBackend())


def test_a_configuration_takes_shares_and_calibrations(tmp_path: Path) -> None:
    on_traffic_from(0.4, 0.8, share=0.5, router=RandomRouter(seed=0)).save(tmp_path / "c.json")
    file = tmp_path / "config.yaml"

    def threshold(text: str, **environment: str) -> float | None:
        file.write_text(f"router: random\n{text}")
        config = load_config(file, environment=environment)
        again = type(config).model_validate(config.model_dump())
        assert again == config
        return build_controller(config, backend=FakeBackend()).selector().threshold

    assert threshold("threshold: 25%") == pytest.approx(0.75)
    assert threshold("", ROUTELLM_THRESHOLD="25%") == pytest.approx(0.75)
    assert threshold(f"threshold: 25%\ncalibration: {tmp_path}/c.json") == pytest.approx(0.7)
    assert threshold(f"calibration: [{tmp_path}/c.json]") == pytest.approx(0.6, abs=1e-3)
    assert threshold("threshold: 25%", ROUTELLM_CALIBRATION=f"{tmp_path}/c.json") == pytest.approx(0.7)
    assert threshold("") == 0.116
    with pytest.raises(ConfigError, match="from 0% to 100%"):
        threshold("threshold: 120%")


def test_the_shipped_router_resolves_offline() -> None:
    selector = ModelSelector("mf", PAIR, threshold="50%")
    assert selector.threshold is not None
    assert 0.0 < selector.threshold < 1.0


def test_a_share_that_ties_make_unreachable_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    tied = Calibration.of(LengthRouter(), [0.2] * 60 + [0.7] * 40, data="test")
    with caplog.at_level(logging.WARNING, logger="routellm_core"):
        selector = ModelSelector(LengthRouter(), PAIR, threshold="60%", calibration=tied)
        for _ in range(3):
            selector.select("x", threshold="60%")
    (record,) = caplog.records
    assert "cannot make a share of 60%" in record.getMessage()


def test_many_shares_do_not_grow_the_memory() -> None:
    selector: Any = ModelSelector(LengthRouter(), PAIR)
    for number in range(1000):
        selector.select("x", strong_share=number / 1000)
    assert selector._resolve.cache_info().currsize <= 256
