"""Answers a benchmark with a new model, so that any pair of models can be evaluated.

Calls run concurrently under a rate limit; every answer is stored as it arrives, so a run that stops continues where it
stopped. :mod:`routellm_core.evals.grades` grades the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.errors import BackendError
from routellm_core.evals.answers import RecordFile, model_folder
from routellm_core.evals.questions import Question, protocol_of
from routellm_core.providers.retries import async_retrying
from routellm_core.types import ChatMessage

__all__ = ["CallLimits", "Caller", "Outcome", "generate_answers", "run_missing"]

# The same call will fail for every other question too: a wrong key or a wrong model name.
_HOPELESS_STATUSES = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How hard to push a provider.

    Attributes:
        concurrency: calls at a time.
        requests_per_minute: calls started per minute; None for no limit.
        attempts: tries per call.
        wait_initial: seconds before the first retry; each further wait doubles.
        wait_max: longest wait in seconds.
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    attempts: int = 5
    wait_initial: float = 1.0
    wait_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        reused: questions that were done before.
        done: questions done now.
        failures: question id to the error; they are tried again by the next run.
    """

    reused: int
    done: int
    failures: Mapping[str, str]


@dataclass(slots=True)
class Caller:
    """Calls one model under :class:`CallLimits`."""

    backend: ChatBackend
    model: ModelSettings
    limits: CallLimits
    _next_start: float = field(default=0.0, init=False)

    async def ask(self, messages: Sequence[ChatMessage], parameters: Mapping[str, Any]) -> str:
        """Return the text of the answer."""
        retrying = async_retrying(
            attempts=self.limits.attempts, wait_initial=self.limits.wait_initial, wait_max=self.limits.wait_max
        )
        response: Any = await retrying(self._call, {**parameters, "messages": list(messages)})
        return _text_of(response, self.model.model)

    async def _call(self, parameters: Mapping[str, Any]) -> Any:
        if self.limits.requests_per_minute is not None:
            now = asyncio.get_running_loop().time()
            start = max(now, self._next_start)
            self._next_start = start + 60.0 / self.limits.requests_per_minute
            await asyncio.sleep(start - now)
        return await self.backend.acomplete(self.model, parameters)


def _text_of(response: Any, model: str) -> str:
    try:
        text = response.choices[0].message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise BackendError(
            f"model {model!r} answered without choices[0].message.content",
            model=model,
            status_code=502,
            retryable=False,
        ) from error
    return text or ""


async def generate_answers(
    questions: Sequence[Question],
    *,
    benchmark: str,
    model: ModelSettings,
    backend: ChatBackend,
    folder: Path,
    limits: CallLimits | None = None,
    parameters: Mapping[str, Any] | None = None,
    send_temperature: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Answer every question that has no stored answer yet.

    Args:
        questions: from :func:`routellm_core.evals.questions.load_questions`.
        benchmark: the benchmark's name.
        model: the model to ask.
        backend: calls it.
        folder: where answers are kept.
        limits: concurrency, rate and retries.
        parameters: further parameters of each call, such as ``max_tokens``.
        send_temperature: send the question's temperature; some models accept only their default.
        on_progress: called with (done, in all).

    Raises:
        BackendError: the model refuses every call (wrong key, wrong name). Failures of single questions are counted
            in the outcome instead.
    """
    caller = Caller(backend, model, limits or CallLimits())
    path = model_folder(folder, benchmark=benchmark, model=model.model) / "answers.jsonl"

    async def answer(question: Question) -> dict[str, Any]:
        messages: list[ChatMessage] = []
        for asked, answered in question.examples:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        temperature = {"temperature": question.temperature} if send_temperature else {}
        answers: list[str] = []
        for turn in question.turns:
            messages.append({"role": "user", "content": turn})
            answers.append(await caller.ask(messages, {**temperature, **(parameters or {})}))
            messages.append({"role": "assistant", "content": answers[-1]})
        return {"id": question.id, "model": model.model, "answers": answers}

    settings = {**(parameters or {}), "send_temperature": send_temperature}
    return await run_missing(
        questions, answer, path=path, settings=settings, limits=caller.limits, on_progress=on_progress
    )


async def run_missing(
    questions: Sequence[Question],
    work: Callable[[Question], Awaitable[dict[str, Any]]],
    *,
    path: Path,
    settings: Mapping[str, Any],
    limits: CallLimits,
    on_progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Do ``work`` for each question without a current record, ``limits.concurrency`` at a time."""
    stored = RecordFile(path).read()
    protocols = {question.id: protocol_of(question, settings) for question in questions}
    missing = [item for item in questions if stored.get(item.id, {}).get("protocol") != protocols[item.id]]
    reused, done, failures = len(questions) - len(missing), 0, dict[str, str]()
    remaining = iter(missing)

    async def worker() -> None:
        nonlocal done
        for question in remaining:
            try:
                record = await work(question)
            except BackendError as error:
                if error.status_code in _HOPELESS_STATUSES:
                    raise
                failures[question.id] = str(error)
                continue
            RecordFile(path).append(record, protocol=protocols[question.id])
            done += 1
            if on_progress is not None:
                on_progress(reused + done, len(questions))

    if on_progress is not None:
        on_progress(reused, len(questions))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limits.concurrency, len(missing))):
                group.create_task(worker())
    except* BackendError as errors:
        raise errors.exceptions[0] from None
    return Outcome(reused, done, failures)
