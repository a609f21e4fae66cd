from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from routellm_core import Controller, available_routers, load_router, register_router
from routellm_core.errors import ConfigError, UnknownRouterError
from routellm_core.routers import registry
from routellm_core.testing import FakeBackend, FixedScoreRouter


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


def test_the_five_routers_are_known() -> None:
    assert {"random", "mf", "sw_ranking", "bert", "causal_llm"} <= set(available_routers())


@pytest.mark.parametrize("target", [FixedScoreRouter, "routellm_core.testing.fakes:FixedScoreRouter"])
def test_a_registered_router_works_in_the_controller(target: Any) -> None:
    register_router("fixed", target)
    controller = Controller(["fixed"], "big", "small", {"fixed": {"score": 0.9}}, backend=FakeBackend())
    assert controller.route("x", "fixed", 0.5) == "big"


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("mf", FixedScoreRouter, "exists already"),
        ("", FixedScoreRouter, "must be letters"),
        ("a b", FixedScoreRouter, "must be letters"),
        ("x", "no_colon", "package.module:Class"),
        ("x", dict, "not a subclass"),
    ],
)
def test_a_bad_registration_is_refused(name: str, target: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        register_router(name, target)


def test_replacing_is_explicit() -> None:
    register_router("mf", FixedScoreRouter, replace=True)
    assert isinstance(load_router("mf"), FixedScoreRouter)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("routellm_core.testing.fakes:Nothing", "no 'Nothing'"),
        ("routellm_core.testing.fakes:FakeBackend", "not a subclass"),
    ],
)
def test_a_target_that_is_no_router_is_named(target: str, said: str) -> None:
    register_router("odd", target)
    with pytest.raises(ConfigError, match=said):
        load_router("odd")


def test_unknown_names_and_options_offer_the_nearest() -> None:
    with pytest.raises(UnknownRouterError, match="Did you mean 'sw_ranking'"):
        load_router("sw_rankin")
    with pytest.raises(ConfigError, match="Did you mean 'checkpoint_path'"):
        load_router("mf", {"checkpoint": "x"})
