"""Answers of a new model to a benchmark's questions, and their grades, so that any pair of models can be evaluated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from routellm_core.asking.calls import CallLimits, Calls, Outcome, run_all, unreadable
from routellm_core.asking.grading import LETTERS, choice_letter, final_number, is_same_number, records_of
from routellm_core.asking.judges import parse_rating, rating_messages
from routellm_core.asking.store import RecordFile
from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.errors import ConfigError
from routellm_core.types import ChatMessage


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model.

    Attributes:
        id: the benchmark's prompt id.
        turns: what the user says, turn by turn.
        right: the right letter or number; empty where a judge decides.
        references: reference answers for the judge, one per turn, or none.
        examples: (question, answer) pairs that are shown first, as earlier turns of the conversation.
    """

    id: str
    turns: tuple[str, ...]
    right: str = ""
    references: tuple[str, ...] = ()
    temperature: float = 0.0
    examples: tuple[tuple[str, str], ...] = ()


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
    """Answer every question that has no stored answer yet; each answer is stored as it arrives, under ``folder``.

    ``parameters`` are sent with each call, such as ``max_tokens``; ``send_temperature=False`` is for models that accept
    only their default; ``on_progress`` is called with (questions ended, in all).

    Raises:
        ConfigError: another run is writing to the answers, or they cannot be written.
    """
    limits = limits or CallLimits()
    calls = Calls({"model": model}, backend, limits)
    given = dict(parameters or {})

    async def answer(question: Question) -> dict[str, Any]:
        messages: list[ChatMessage] = []
        for asked, answered in question.examples:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        temperature = {"temperature": question.temperature} if send_temperature else {}
        answers: list[str] = []
        for turn in question.turns:
            messages.append({"role": "user", "content": turn})
            answers.append((await calls.ask("model", messages, {**temperature, **given})).text)
            messages.append({"role": "assistant", "content": answers[-1]})
        return {"id": question.id, "model": model.model, "answers": answers}

    file = records_of(folder, "answers", benchmark=benchmark, model=model.model)
    settings = {**given, "send_temperature": send_temperature}
    return await _run_missing(questions, answer, file, settings, calls=calls, limits=limits, on_progress=on_progress)


async def grade_answers(
    questions: Sequence[Question],
    *,
    benchmark: str,
    model: str,
    folder: Path,
    judge: ModelSettings | None = None,
    backend: ChatBackend | None = None,
    limits: CallLimits | None = None,
    send_temperature: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Grade stored answers and write ``grades.jsonl``, which :func:`load_benchmark` reads.

    Questions without a ``right`` answer go to the judge, turn by turn, at temperature 0 unless ``send_temperature`` is
    off; their quality is the mean rating. ``on_progress`` is called with (questions ended, in all).

    Raises:
        ConfigError: a judge is needed and not given, another run is writing, or nothing can be written.
    """
    stored = records_of(folder, "answers", benchmark=benchmark, model=model).read()
    answers = {identifier: list(record["answers"]) for identifier, record in stored.items()}
    answered = [question for question in questions if question.id in answers]
    grades = [_ruled_grade(question, answers[question.id]) for question in answered if question.right]
    outcome = Outcome(reused=0, done=len(grades), failures={}, left=0, stopped=None)
    if open_questions := [question for question in answered if not question.right]:
        if judge is None or backend is None:
            raise ConfigError("these answers need a judge: pass judge and backend")
        limits = limits or CallLimits()
        calls = Calls({"judge": judge}, backend, limits)
        parameters = {"temperature": 0.0} if send_temperature else {}

        async def rate(question: Question) -> dict[str, Any]:
            return await _judged_grade(question, calls, judge.model, parameters)

        file = records_of(folder, "judgements", benchmark=benchmark, model=model)
        settings = {"judge": judge.model, **parameters}
        # The answers become the question's examples, so that other answers are judged anew.
        asked = [
            replace(item, temperature=0.0, examples=tuple(zip(item.turns, answers[item.id], strict=True)))
            for item in open_questions
        ]
        outcome = await _run_missing(asked, rate, file, settings, calls=calls, limits=limits, on_progress=on_progress)
        grades += _current(asked, file, settings).values()
    records_of(folder, "grades", benchmark=benchmark, model=model).replace_all(grades)
    return outcome


async def _run_missing(
    questions: Sequence[Question],
    work: Callable[[Question], Awaitable[dict[str, Any]]],
    file: RecordFile,
    settings: Mapping[str, Any],
    *,
    calls: Calls,
    limits: CallLimits,
    on_progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Do ``work`` for each question without a current record."""

    async def finish(question: Question) -> None:
        file.append({**await work(question), "protocol": _protocol(question, settings)})

    with file.locked():
        done = _current(questions, file, settings)
        missing = [(question.id, question) for question in questions if question.id not in done]
        return await run_all(missing, finish, calls=calls, limits=limits, reused=len(done), on_progress=on_progress)


def _current(questions: Sequence[Question], file: RecordFile, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records of these very questions, asked with these settings."""
    records = file.read()
    wanted = {question.id: _protocol(question, settings) for question in questions}
    return {key: records[key] for key in wanted if records.get(key, {}).get("protocol") == wanted[key]}


def _protocol(question: Question, settings: Mapping[str, Any]) -> str:
    """Return a digest of everything that an answer depends on besides the model."""
    content = json.dumps([asdict(question), dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _ruled_grade(question: Question, answers: Sequence[str]) -> dict[str, Any]:
    found: str | Decimal | None
    if question.right in LETTERS:
        found = choice_letter(answers[-1])
        is_right = found == question.right
    else:
        found = final_number(answers[-1])
        is_right = is_same_number(found, Decimal(question.right))
    return {"id": question.id, "quality": float(is_right), "found": str(found), "right": question.right}


async def _judged_grade(question: Question, calls: Calls, judge: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Rate each of the answers, which are the question's examples."""
    answers = [answer for _, answer in question.examples]
    ratings, judgements = [], []
    for turn in range(1, len(answers) + 1):
        references = question.references[:turn] if len(question.references) >= turn else ()
        messages = rating_messages(question.turns, answers[:turn], references=references)
        judgements.append((await calls.ask("judge", messages, parameters)).text)
        rating = parse_rating(judgements[-1])
        if rating is None:
            raise unreadable(judge, f"the judge gave no rating for question {question.id}, turn {turn}")
        ratings.append(rating)
    quality = sum(ratings) / len(ratings)
    return {"id": question.id, "quality": quality, "ratings": ratings, "judgements": judgements}
