"""Scoring many prompts: in bounded batches for files and evaluations, in micro-batches for concurrent requests."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from routellm_core.routers.base import Router, checked_scores
from routellm_core.types import FloatArray

__all__ = ["AsyncScorer", "score_in_batches"]


def score_in_batches(router: Router, prompts: Iterable[str], *, batch_size: int = 256) -> Iterator[FloatArray]:
    """Score any number of prompts in constant memory.

    Args:
        router: the router.
        prompts: any iterable, also an endless one; at most ``batch_size`` are held at a time.
        batch_size: prompts per call of the router.

    Yields:
        scores of the next batch, shape (≤ batch_size,), float64.

    Raises:
        ScoringError: from :func:`checked_scores`.
    """
    iterator = iter(prompts)
    while batch := list(itertools.islice(iterator, batch_size)):
        yield checked_scores(router, batch)


class AsyncScorer:
    """Scores prompts of concurrent tasks together, in worker threads, without blocking the event loop.

    While all workers are busy, arriving prompts queue up; a worker that becomes free takes the whole queue (up to
    ``max_batch``) as one batch. Nothing waits on purpose: at low load a prompt is scored at once and alone, under
    load the batches grow by themselves. That suits an HTTP embedder, a GPU and a table look-up alike.

    Args:
        router: the router.
        max_batch: prompts per call of the router.
        workers: calls of the router at a time.
    """

    def __init__(self, router: Router, *, max_batch: int = 128, workers: int = 4) -> None:
        self._router = router
        self._max_batch = max_batch
        self._workers = workers
        # Threads start on first use; one queue per event loop, since futures belong to their loop.
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=f"routellm-{router.name}")
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    async def score(self, prompt: str) -> float:
        """Return one prompt's score in [0, 1].

        Raises:
            ScoringError: from :func:`checked_scores`; it reaches every prompt of the failed batch.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues.setdefault(loop, _Queue())
        future: asyncio.Future[float] = loop.create_future()
        queue.waiting.append((prompt, future))
        self._dispatch(loop, queue)
        return await future

    def _dispatch(self, loop: asyncio.AbstractEventLoop, queue: _Queue) -> None:
        while queue.waiting and queue.busy < self._workers:
            count = min(len(queue.waiting), self._max_batch)
            batch = [queue.waiting.popleft() for _ in range(count)]
            batch = [(prompt, future) for prompt, future in batch if not future.done()]  # a cancelled caller left
            if not batch:
                continue
            queue.busy += 1
            task = loop.run_in_executor(self._executor, checked_scores, self._router, [prompt for prompt, _ in batch])
            task.add_done_callback(lambda done, batch=batch: self._deliver(loop, queue, batch, done))  # type: ignore[misc]

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: _Queue,
        batch: Sequence[tuple[str, asyncio.Future[float]]],
        done: asyncio.Future[Any],
    ) -> None:
        queue.busy -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        scores = np.empty(0) if error else done.result()
        for row, (_, future) in enumerate(batch):
            if future.done():
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(float(scores[row]))
        self._dispatch(loop, queue)


class _Queue:
    """One event loop's waiting prompts, and how many batches are under way for it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, asyncio.Future[float]]] = deque()
        self.busy = 0
