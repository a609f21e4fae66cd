"""Scoring many prompts: in bounded batches for files and evaluations, in micro-batches for concurrent requests."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from weakref import WeakKeyDictionary

from routellm_core.errors import ScoringError
from routellm_core.routers.base import Router, checked_scores
from routellm_core.types import FloatArray

_COMPUTING_WORKERS = 2  # one more than computes, to prepare its batch meanwhile
_WAITING_SHARE = 0.2  # a call that computes for less of its time waits


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


def scores_or_errors(router: Router, prompts: Sequence[str]) -> list[float | Exception]:
    """Score prompts together, so that what cannot be scored costs no other prompt its score.

    A batch that fails (one text is refused, one score is no number, memory runs out) is scored again in halves, and
    those in theirs. Where nothing at all can be scored, as when an embedding service is down, that ends after a few
    calls.

    Returns:
        each prompt's score in [0, 1], or why it has none.
    """
    results: list[float | Exception] = [ScoringError("not scored")] * len(prompts)
    parts = deque([range(len(prompts))] if prompts else [])
    patience: float = 2 * len(prompts).bit_length() + 1  # failed calls, until one succeeds
    while parts:
        part = parts.popleft()
        try:
            scores = checked_scores(router, [prompts[row] for row in part])
        except Exception as error:
            for row in part:
                results[row] = error
            patience = min(patience, _worth_trying(error)) - 1
            if len(part) > 1 and patience > 0:
                middle = part.start + (len(part) + 1) // 2
                parts += [range(part.start, middle), range(middle, part.stop)]
            elif patience <= 0:
                for row in itertools.chain.from_iterable(parts):
                    results[row] = error
                break
        else:
            patience = 4 * len(prompts)  # more than there can be parts: the router works
            for row, score in zip(part, scores, strict=True):
                results[row] = float(score)
    return results


def _worth_trying(error: BaseException | None) -> float:
    """Return how many calls may fail like this one before nothing more is expected of the router."""
    while error is not None:
        if isinstance(error, TimeoutError) or getattr(error, "status_code", None) == HTTPStatus.GATEWAY_TIMEOUT:
            return 1  # every part would take as long
        if getattr(error, "retryable", False):
            return 3  # the service, rather than a text, seems to be at fault
        error = error.__cause__
    return math.inf


class AsyncScorer:
    """Scores prompts of concurrent tasks together, in worker threads, without blocking the event loop.

    Prompts that arrive together, or while others are being scored, queue up, and a call of the router takes the whole
    queue (up to ``max_batch``): at low load a prompt is scored at once and alone, under load the batches grow by
    themselves. Calls that take longer than ``patience`` overlap. As many as ``workers`` do so where the calls mostly
    wait, for an embedding service; where they compute, two, for more would only take turns, with smaller batches.

    Args:
        router: the router.
        max_batch: prompts per call of the router.
        workers: calls of the router at a time.
        patience: seconds that the queue leaves to the last call before the next one starts beside it.
    """

    def __init__(self, router: Router, *, max_batch: int = 128, workers: int = 16, patience: float = 0.002) -> None:
        self._router = router
        self._max_batch = max_batch
        self._workers = workers
        self._patience = patience
        self._mostly_waits = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        # Threads start on first use; one queue per event loop, since futures belong to their loop.
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix=f"routellm-{self._router.name}")
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    async def score(self, prompt: str) -> float:
        """Return one prompt's score in [0, 1].

        Raises:
            ScoringError: from :func:`checked_scores`, for this prompt; others that were scored with it have theirs.
        """
        if self._process != os.getpid():  # forked: the pool's threads stayed in the parent
            self._start_afresh()
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues.setdefault(loop, _Queue())
        future: asyncio.Future[float] = loop.create_future()
        queue.waiting.append((prompt, future))
        self._dispatch_in(0.0, loop, queue)
        return await future

    def _dispatch_in(self, seconds: float, loop: asyncio.AbstractEventLoop, queue: _Queue) -> None:
        if not queue.is_due:
            queue.is_due = True
            loop.call_later(seconds, self._dispatch, loop, queue)

    def _dispatch(self, loop: asyncio.AbstractEventLoop, queue: _Queue) -> None:
        queue.is_due = False
        workers = self._workers if self._mostly_waits else min(self._workers, _COMPUTING_WORKERS)
        while queue.waiting and queue.busy < workers:
            if queue.busy and (left := queue.last_began + self._patience - loop.time()) > 0:
                self._dispatch_in(left, loop, queue)
                return
            count = min(len(queue.waiting), self._max_batch)
            batch = [queue.waiting.popleft() for _ in range(count)]
            batch = [(prompt, future) for prompt, future in batch if not future.done()]  # a cancelled caller left
            if not batch:
                continue
            queue.busy += 1
            queue.last_began = loop.time()
            task = loop.run_in_executor(self._executor, self._scores, [prompt for prompt, _ in batch])
            task.add_done_callback(lambda done, batch=batch: self._deliver(loop, queue, batch, done))  # type: ignore[misc]

    def _scores(self, prompts: Sequence[str]) -> list[float | Exception]:
        began, computed = time.perf_counter(), time.thread_time()
        results = scores_or_errors(self._router, prompts)
        seconds = time.perf_counter() - began
        if seconds > self._patience:  # a shorter call (from a cache, say) tells nothing of the others
            self._mostly_waits = time.thread_time() - computed < _WAITING_SHARE * seconds
        return results

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: _Queue,
        batch: Sequence[tuple[str, asyncio.Future[float]]],
        done: asyncio.Future[Any],
    ) -> None:
        queue.busy -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        results = [error] * len(batch) if error else done.result()
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._dispatch(loop, queue)


class _Queue:
    """One event loop's waiting prompts, how many batches are under way for it, and when the last of them began."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, asyncio.Future[float]]] = deque()
        self.busy = 0
        self.last_began = 0.0
        self.is_due = False
