from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routellm_core import ModelPair, ModelSelector, RouteLLMConfig, load_router
from routellm_core.adapters import (
    build_selector,
    check_option_names,
    check_shared_selector,
    resolve_router,
    selection_options,
)
from routellm_core.calibration import Calibration
from routellm_core.errors import ConfigError, RoutingError, UnknownRouterError
from routellm_core.testing import FixedScoreRouter

PAIR = ModelPair(strong="big", weak="small")
SELECTOR = ModelSelector(FixedScoreRouter(), PAIR, threshold=0.5)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (None, {}),
        ("auto", {}),
        ("strong", {"force": "strong"}),
        ("big", {"force": "strong"}),
        ("weak", {"force": "weak"}),
        ("small", {"force": "weak"}),
        ("router-fixed-0.3", {"threshold": 0.3}),
    ],
)
def test_a_call_s_model_becomes_options_of_select(model: str | None, options: dict[str, Any]) -> None:
    assert selection_options(model, SELECTOR, PAIR) == options


def test_a_default_threshold_is_for_calls_without_a_wish() -> None:
    assert selection_options(None, SELECTOR, PAIR, threshold=0.2) == {"threshold": 0.2}
    assert selection_options("weak", SELECTOR, PAIR, threshold=0.2) == {"force": "weak"}


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("gpt-9", RoutingError, "none of the models here"),
        (3, RoutingError, "none of"),
        ("router-mf-0.3", UnknownRouterError, "'mf'"),
    ],
)
def test_another_model_is_refused(model: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        selection_options(model, SELECTOR, PAIR)


def test_the_configuration_fills_the_gaps(tmp_path: Path) -> None:
    router = load_router("random")
    assert build_selector(router, PAIR, RouteLLMConfig(threshold=0.3)).threshold == 0.3
    assert build_selector(router, PAIR, RouteLLMConfig(), threshold=0.2, sticky=None).threshold == 0.2
    file = tmp_path / "calibration.json"
    Calibration.of(router, [index / 1000 for index in range(1000)], data="a ramp").save(file)
    configured = build_selector(router, PAIR, RouteLLMConfig(calibration=str(file), threshold="25%"))
    assert configured.threshold == pytest.approx(0.75, abs=0.01)


def test_names_objects_and_mistakes() -> None:
    assert resolve_router(SELECTOR.router, RouteLLMConfig()) is SELECTOR.router
    assert resolve_router("random", RouteLLMConfig(routers={"random": {"seed": 9}})).fingerprint == "random:order:9"
    with pytest.raises(ConfigError, match="got int"):
        resolve_router(3, RouteLLMConfig())
    with pytest.raises(ConfigError, match="Did you mean 'threshold'"):
        check_option_names({"treshold": 1}, ["threshold"], subject="X")
    check_shared_selector(SELECTOR, {"strong": "x"}, own_options=["router"])
    with pytest.raises(ConfigError, match="brings its own router"):
        check_shared_selector(SELECTOR, {"router": "mf"}, own_options=["router"])
    with pytest.raises(ConfigError, match="got str"):
        check_shared_selector("mf", {}, own_options=[])
