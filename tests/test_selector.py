from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from routellm_core import ModelPair, ModelSelector, Router, load_router
from routellm_core.errors import (
    ConfigError,
    EmbeddingError,
    InvalidThresholdError,
    RoutingError,
    ScoringError,
    UnsupportedPromptError,
)
from routellm_core.testing import FixedScoreRouter
from routellm_core.types import FloatArray

PAIR = ModelPair(strong="big", weak="small")
BY_LENGTH = FixedScoreRouter(score=lambda prompt: min(len(prompt) / 100, 1.0))
HARD, EASY = "x" * 90, "x" * 10


class BrokenRouter(Router):
    """Fails or answers with something that is no score."""

    name: ClassVar[str] = "broken"

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    def score(self, prompts: Sequence[str]) -> FloatArray:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome  # type: ignore[no-any-return]


def selector(**options: Any) -> ModelSelector:
    return ModelSelector(BY_LENGTH, PAIR, **{"threshold": 0.5, **options})


def test_select_takes_a_prompt_or_messages() -> None:
    for conversation in (HARD, [{"role": "system", "content": "s"}, {"role": "user", "content": HARD}]):
        decision = selector().select(conversation)
        assert (decision.tier, decision.model, decision.score, decision.threshold) == ("strong", "big", 0.9, 0.5)


def test_a_batch_is_scored_in_one_call_and_equals_single() -> None:
    router = FixedScoreRouter(score=lambda prompt: len(prompt) / 100)
    batch = [HARD, [{"role": "user", "content": EASY}], [{"role": "user", "content": []}], HARD]
    decisions = ModelSelector(router, PAIR, threshold=0.5).select_batch(batch)
    assert router.batches == [[HARD, EASY, HARD]]
    assert [decision.tier for decision in decisions] == ["strong", "weak", "strong", "strong"]
    assert [decision.tier for decision in map(selector().select, batch)] == [decision.tier for decision in decisions]


def test_a_threshold_per_call_wins_and_none_at_all_is_an_error() -> None:
    assert selector().select(HARD, threshold=0.95).tier == "weak"
    with pytest.raises(RoutingError, match="no threshold"):
        ModelSelector(BY_LENGTH, PAIR).select(HARD)
    with pytest.raises(InvalidThresholdError):
        selector().select(HARD, threshold=2)


def test_without_user_text_the_default_tier_is_taken() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
    decision = selector().select(image)
    assert (decision.tier, decision.score) == ("strong", None)
    assert "no user text" in decision.reason
    assert selector(no_prompt_tier="weak").select(image).tier == "weak"


def test_extract_replaces_what_is_routed_on() -> None:
    by_question = selector(extract=lambda messages: str(messages[0]["question"]))
    assert by_question.select([{"role": "user", "content": HARD, "question": EASY}]).tier == "weak"
    with pytest.raises(UnsupportedPromptError, match="must return a string or None"):
        selector(extract=lambda messages: 3).select(HARD)


def test_force_skips_scoring_and_needs_no_threshold() -> None:
    decision = ModelSelector(BrokenRouter(RuntimeError()), PAIR).select("x", force="weak")
    assert (decision.tier, decision.score) == ("weak", None)
    with pytest.raises(ConfigError, match="force='medium'"):
        selector().select("x", force="medium")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outcome",
    [
        EmbeddingError("service down"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        np.array([np.nan]),
        np.array([1.5]),
        np.array([0.1, 0.2]),
    ],
)
def test_the_policy_decides_when_scoring_fails(outcome: Any) -> None:
    async def both(policy: Any) -> list[str]:
        built = ModelSelector(BrokenRouter(outcome), PAIR, threshold=0.5, on_scoring_error=policy)
        decisions = [built.select("x"), await built.aselect("x")]
        assert all("scoring failed" in decision.reason and decision.score is None for decision in decisions)
        return [decision.tier for decision in decisions]

    assert asyncio.run(both("strong")) == ["strong", "strong"]
    assert asyncio.run(both("weak")) == ["weak", "weak"]
    raising = ModelSelector(BrokenRouter(outcome), PAIR, threshold=0.5, on_scoring_error="raise")
    with pytest.raises(ScoringError):
        raising.select("x")
    with pytest.raises(ScoringError):
        asyncio.run(raising.aselect("x"))


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_scoring_error='maybe' must be one of 'strong', 'weak', 'raise'"):
        selector(on_scoring_error="maybe")


def test_a_sticky_conversation_goes_up_and_stays() -> None:
    first = [{"role": "user", "content": EASY}]
    hard = [*first, {"role": "assistant", "content": "a"}, {"role": "user", "content": HARD}]
    easy_again = [*hard, {"role": "assistant", "content": "a"}, {"role": "user", "content": "x" * 30}]
    sticky = selector()
    assert [sticky.select(messages, session="c").tier for messages in (first, hard, easy_again)] == [
        "weak",
        "strong",
        "strong",
    ]
    assert "stays on the strong model" in sticky.select(easy_again, session="c").reason
    assert sticky.select(EASY, session="another").tier == "weak"
    assert sticky.select(HARD, session="s").tier == "strong"
    assert sticky.select("unrelated text", session="s").tier == "strong"
    assert selector(sticky=None).select(easy_again, session="c").tier == "weak"


def test_a_failed_scoring_is_not_remembered() -> None:
    router = BrokenRouter(EmbeddingError("down"))
    sticky = ModelSelector(router, PAIR, threshold=0.5, sticky="conversation")
    assert sticky.select("q", session="s").tier == "strong"
    router._outcome = np.array([0.1])
    assert sticky.select("q", session="s").tier == "weak"


async def test_async_scoring_does_not_block_the_event_loop() -> None:
    release = threading.Event()

    def slow(prompt: str) -> float:
        assert release.wait(timeout=10)
        return 0.9

    task = asyncio.ensure_future(ModelSelector(FixedScoreRouter(score=slow), PAIR, threshold=0.5).aselect("q"))
    await asyncio.sleep(0.05)  # only a free loop gets here while the score is awaited
    assert not task.done()
    release.set()
    assert (await task).tier == "strong"


async def test_concurrent_requests_share_batches() -> None:
    release = threading.Event()

    def slow(prompt: str) -> float:
        assert release.wait(timeout=10)
        return len(prompt) / 100

    router = FixedScoreRouter(score=slow)
    built = ModelSelector(router, PAIR, threshold=0.5)
    tasks = [asyncio.ensure_future(built.aselect("x" * length)) for length in range(1, 65)]
    await asyncio.sleep(0.05)
    release.set()
    decisions = await asyncio.gather(*tasks)
    assert [decision.score for decision in decisions] == [length / 100 for length in range(1, 65)]
    assert len(router.batches) <= 6, "requests that waited together were not scored together"


async def test_a_cancelled_request_harms_no_other() -> None:
    release = threading.Event()
    built = ModelSelector(FixedScoreRouter(score=lambda _: float(release.wait(10))), PAIR, threshold=0.5)
    tasks = [asyncio.ensure_future(built.aselect("q")) for _ in range(12)]
    await asyncio.sleep(0.02)
    for task in tasks[::2]:
        task.cancel()
    release.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert all(outcome.tier == "strong" for outcome in outcomes[1::2])  # type: ignore[union-attr]


def test_one_selector_serves_several_event_loops() -> None:
    built = selector()
    assert [asyncio.run(built.aselect(HARD)).tier for _ in range(3)] == ["strong"] * 3


def test_each_decision_is_logged_without_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="routellm_core"):
        selector().select("my secret " + HARD)
    (record,) = caplog.records
    assert (record.tier, record.router, record.threshold) == ("strong", "fixed", 0.5)  # type: ignore[attr-defined]
    assert "secret" not in str(vars(record))


def test_a_deep_copy_shares_the_selector() -> None:
    built = selector()
    assert copy.deepcopy({"held": built})["held"] is built


def test_one_text_is_no_batch() -> None:
    with pytest.raises(UnsupportedPromptError, match=r"give a list of conversations, \[text\]"):
        selector().select_batch("hi")
    with pytest.raises(UnsupportedPromptError, match="must be a list"):
        selector().select_batch([{"role": "user", "content": "one conversation, not several"}])  # type: ignore[list-item]


def test_one_bad_prompt_does_not_send_a_batch_to_the_strong_model() -> None:
    router = FixedScoreRouter(score=lambda prompt: float("nan") if prompt == "bad" else 0.1)
    built = ModelSelector(router, PAIR, threshold=0.5)
    batch = ["a", "b", "bad", "c", "d", "e", "f", "g"]
    expected = ["strong" if prompt == "bad" else "weak" for prompt in batch]
    assert [decision.tier for decision in built.select_batch(batch)] == expected

    async def together() -> list[str]:
        return [decision.tier for decision in await asyncio.gather(*map(built.aselect, batch))]

    assert asyncio.run(together()) == expected


def test_a_selector_can_be_pickled_and_copied() -> None:
    built = ModelSelector(load_router("random", {"seed": 7}), PAIR, threshold=0.5, sticky="conversation")
    assert built.select("q", force="strong").tier == "strong"
    asyncio.run(built.aselect("q"))  # its threads have started
    arrived = pickle.loads(pickle.dumps(built))
    assert (arrived.pair, arrived.threshold, arrived.router.fingerprint) == (PAIR, 0.5, built.router.fingerprint)
    assert arrived.select("q").tier in ("strong", "weak")
    assert asyncio.run(arrived.aselect("q")).router == "random"
    assert copy.copy(built) is built
