"""How concurrent prompts become calls of the router: together where they compute, side by side where they wait."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from routellm_core.errors import BackendError, ScoringError
from routellm_core.routers.base import Router
from routellm_core.scoring import AsyncScorer
from routellm_core.types import FloatArray

PATIENCE = 0.005


class RecordingRouter(Router):
    """Scores a prompt by its length; ``work`` runs within each call."""

    name: ClassVar[str] = "recording"

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        self.batches: list[list[str]] = []
        self.has_begun = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._work = work

    def score(self, prompts: Sequence[str]) -> FloatArray:
        with self._lock:
            self.batches.append(list(prompts))
            self.has_begun.set()
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._work()
        finally:
            with self._lock:
                self._at_once -= 1
        return np.array([len(prompt) / 10 for prompt in prompts])


def take_a_while() -> None:
    time.sleep(4 * PATIENCE)


async def arriving(scorer: AsyncScorer, prompts: Sequence[str], *, apart: float) -> list[float]:
    tasks = []
    for prompt in prompts:
        tasks.append(asyncio.create_task(scorer.score(prompt)))
        await asyncio.sleep(apart)
    return await asyncio.gather(*tasks)


async def test_prompts_that_arrive_together_are_one_call_and_get_their_own_scores() -> None:
    router = RecordingRouter()
    scorer = AsyncScorer(router)
    scores = await asyncio.gather(*(scorer.score("x" * length) for length in range(1, 6)))
    assert scores == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [len(batch) for batch in router.batches] == [5]


async def test_no_call_is_larger_than_the_limit() -> None:
    router = RecordingRouter()
    scorer = AsyncScorer(router, max_batch=3)
    await asyncio.gather(*(scorer.score("x") for _ in range(8)))
    assert max(len(batch) for batch in router.batches) == 3
    assert sum(len(batch) for batch in router.batches) == 8


async def test_prompts_queue_behind_a_call_and_go_together() -> None:
    may_end = threading.Event()
    router = RecordingRouter(lambda: may_end.wait(timeout=30))
    scorer = AsyncScorer(router, patience=60)
    first = asyncio.create_task(scorer.score("a"))
    await asyncio.to_thread(router.has_begun.wait, 30)
    others = [asyncio.create_task(scorer.score(prompt)) for prompt in ("b", "c", "d")]
    await asyncio.sleep(0.02)
    assert router.batches == [["a"]]  # within its patience nothing starts beside it
    may_end.set()
    await asyncio.gather(first, *others)
    assert router.batches == [["a"], ["b", "c", "d"]]


async def test_calls_that_wait_for_a_service_overlap() -> None:
    together = threading.Barrier(6)
    work: list[Callable[[], object]] = [take_a_while]
    router = RecordingRouter(lambda: work[0]())
    scorer = AsyncScorer(router, patience=PATIENCE)
    await scorer.score("x")  # from this call it learns that they wait
    work[0] = lambda: together.wait(timeout=30)  # returns only once six calls are under way
    await arriving(scorer, ["x"] * 6, apart=2 * PATIENCE)
    assert router.most_at_once == 6


async def test_a_call_that_hangs_holds_nobody_up() -> None:
    may_end = threading.Event()
    router = RecordingRouter(lambda: may_end.wait(timeout=30) if len(router.batches) == 1 else None)
    scorer = AsyncScorer(router, patience=PATIENCE)
    hanging = asyncio.create_task(scorer.score("a"))
    await asyncio.to_thread(router.has_begun.wait, 30)
    assert await asyncio.wait_for(scorer.score("bb"), timeout=30) == 0.2
    assert not hanging.done()
    may_end.set()
    assert await hanging == 0.1


async def test_calls_that_compute_do_not_crowd_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "thread_time", time.perf_counter)  # as if each call computed all the time
    router = RecordingRouter(take_a_while)
    scorer = AsyncScorer(router, patience=PATIENCE)
    await arriving(scorer, ["x"] * 12, apart=PATIENCE / 2)
    assert router.most_at_once <= 2
    assert len(router.batches) < 12  # so that what queued up went together


class RefusingRouter(Router):
    """Refuses each batch that holds a refused prompt, as an embedding service does; ``nan`` gets no number."""

    name: ClassVar[str] = "refusing"

    def __init__(self, refused: Sequence[str] = (), error: Exception | None = None) -> None:
        self.calls: list[int] = []
        self._refused = refused
        self._error = error

    def score(self, prompts: Sequence[str]) -> FloatArray:
        self.calls.append(len(prompts))
        if self._error is not None:
            raise self._error
        if refused := [prompt for prompt in prompts if prompt in self._refused]:
            raise ScoringError(f"{refused[0]} is refused")
        return np.array([np.nan if prompt == "nan" else 0.25 for prompt in prompts])


async def outcomes(router: Router, prompts: Sequence[str]) -> list[Any]:
    scorer = AsyncScorer(router)
    return await asyncio.gather(*(scorer.score(prompt) for prompt in prompts), return_exceptions=True)


@pytest.mark.parametrize("bad", ["poison", "nan"])
@pytest.mark.parametrize("place", range(8))
async def test_a_prompt_that_cannot_be_scored_costs_no_other_its_score(bad: str, place: int) -> None:
    prompts = [bad if row == place else f"p{row}" for row in range(8)]
    results = await outcomes(RefusingRouter(["poison"]), prompts)
    assert isinstance(results.pop(place), ScoringError)
    assert results == [0.25] * 7


async def test_several_of_them_neither() -> None:
    prompts = [f"p{row}" for row in range(64)]
    refused = prompts[3:30:5] + prompts[50:52]
    results = await outcomes(RefusingRouter(refused), prompts)
    assert [isinstance(result, ScoringError) for result in results] == [prompt in refused for prompt in prompts]


async def test_a_batch_too_large_for_the_memory_is_scored_in_parts() -> None:
    class Small(RefusingRouter):
        def score(self, prompts: Sequence[str]) -> FloatArray:
            if len(prompts) > 3:
                raise MemoryError
            return super().score(prompts)

    assert await outcomes(Small(), [f"p{row}" for row in range(20)]) == [0.25] * 20


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ScoringError("no"), 17),
        (BackendError("down", model="e", status_code=503, retryable=True), 3),
        (BackendError("too slow", model="e", status_code=504, retryable=True), 1),
        (TimeoutError(), 1),
    ],
)
async def test_where_nothing_can_be_scored_the_calls_end_soon(error: Exception, calls: int) -> None:
    router = RefusingRouter(error=error)
    results = await outcomes(router, ["p"] * 128)
    assert all(isinstance(result, type(error)) for result in results)
    assert len(router.calls) == calls


async def test_the_next_call_works() -> None:
    scorer = AsyncScorer(RefusingRouter(["a"]))
    with pytest.raises(ScoringError, match="a is refused"):
        await scorer.score("a")
    assert await scorer.score("c") == 0.25


def test_scoring_goes_on_in_a_forked_process() -> None:
    code = """
import asyncio, os, sys
from routellm_core import ModelPair, ModelSelector
from routellm_core.testing import FixedScoreRouter
selector = ModelSelector(FixedScoreRouter(score=lambda _: 0.9), ModelPair("big", "small"), threshold=0.5)
assert asyncio.run(selector.aselect("parent")).tier == "strong"
child = os.fork()
if child == 0:
    decision = asyncio.run(asyncio.wait_for(selector.aselect("child"), 20))
    os._exit(0 if decision.score == 0.9 else 1)
_, status = os.waitpid(child, 0)
assert asyncio.run(selector.aselect("parent again")).tier == "strong"
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
