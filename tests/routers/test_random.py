from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.routers.random import RandomRouter
from routellm_core.testing.contract import RouterContract


class TestByOrder(RouterContract):
    depends_on_order = True

    def make_router(self) -> RandomRouter:
        return RandomRouter(seed=7)


class TestByPrompt(RouterContract):
    def make_router(self) -> RandomRouter:
        return RandomRouter(seed=7, by="prompt")


def test_the_stream_is_python_s_own() -> None:
    stream = Random(0)
    np.testing.assert_array_equal(RandomRouter(seed=0).score(["a"] * 5), [stream.uniform(0, 1) for _ in range(5)])


def test_scores_by_prompt_are_uniform_and_change_with_the_seed() -> None:
    prompts = [f"prompt {number}" for number in range(4000)]
    scores = RandomRouter(seed=1, by="prompt").score(prompts)
    assert abs(scores.mean() - 0.5) < 0.02
    assert abs(np.quantile(scores, 0.9) - 0.9) < 0.02
    assert abs(np.corrcoef(scores, RandomRouter(seed=2, by="prompt").score(prompts))[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("options", "said"), [({"by": "chance"}, "'order' or 'prompt'"), ({"by": "prompt", "seed": None}, "needs a seed")]
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RandomRouter(**options)


def test_only_the_stream_is_stochastic() -> None:
    assert RandomRouter().is_stochastic
    assert not RandomRouter(by="prompt").is_stochastic
