from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from routellm_core import Controller, Router, available_routers, load_router, register_router
from routellm_core.errors import ConfigError, UnknownRouterError
from routellm_core.routers import registry
from routellm_core.testing import FakeBackend, FixedScoreRouter
from routellm_core.types import FloatArray


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


class Smallest(Router):
    """The smallest class that is a router."""

    name = "length"

    def score(self, prompts: Sequence[str]) -> FloatArray:
        return np.array([min(1.0, len(prompt) / 100) for prompt in prompts])


def test_the_smallest_class_is_a_router() -> None:
    register_router("length", Smallest)
    assert load_router("length").score(["a" * 50])[0] == 0.5
    with pytest.raises(ConfigError, match="has no option 'half_at'"):
        load_router("length", {"half_at": 3})


def test_a_router_goes_by_the_name_that_it_was_registered_under() -> None:
    register_router("length", Smallest)
    register_router("len2", Smallest)
    controller = Controller(["length", "len2"], "big", "small", backend=FakeBackend())
    for name in ("length", "len2", "len2"):
        controller.completion(model=f"router-{name}-0.5", messages=[{"role": "user", "content": "hi"}])
    assert {name: sum(counts.values()) for name, counts in controller.model_counts.items()} == {"length": 1, "len2": 2}
    assert load_router("len2").fingerprint != load_router("length").fingerprint
    assert Smallest.name == "length"
