"""Grades stored answers: by rule where there is a right answer, otherwise by a judge, both turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.errors import BackendError, ConfigError
from routellm_core.evals.answers import RecordFile, model_folder
from routellm_core.evals.generate import Caller, CallLimits, Outcome, run_missing
from routellm_core.evals.grading import choice_letter, final_number, is_same_number
from routellm_core.evals.judge import judge_messages, parse_rating
from routellm_core.evals.questions import LETTERS, Question, protocol_of

__all__ = ["grade_answers", "mean_grade"]


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

    Questions without a ``right`` answer go to the judge, turn by turn; their quality is the mean rating.

    Args:
        questions: the questions that were asked.
        benchmark: the benchmark's name.
        model: the model that answered.
        folder: where answers are kept.
        judge: the judge; needed for questions that a judge decides.
        backend: calls the judge.
        limits: for the judge's calls.
        send_temperature: ask the judge at temperature 0; some models accept only their default.
        on_progress: called with (done, in all).

    Raises:
        ConfigError: a judge is needed and not given.
        BackendError: the judge refuses every call.
    """
    home = model_folder(folder, benchmark=benchmark, model=model)
    answers = _stored_answers(home / "answers.jsonl")
    answered = [question for question in questions if question.id in answers]
    ruled = [question for question in answered if question.right]
    grades = [_ruled_grade(question, answers[question.id]) for question in ruled]
    open_questions = [question for question in answered if not question.right]
    outcome = Outcome(0, len(ruled), {})
    if open_questions:
        if judge is None or backend is None:
            raise ConfigError("these answers need a judge: pass judge and backend")
        caller = Caller(backend, judge, limits or CallLimits())
        parameters = {"temperature": 0.0} if send_temperature else {}

        async def rate(question: Question) -> dict[str, Any]:
            return await _judged_grade(question, answers[question.id], caller, parameters)

        path = home / "judgements.jsonl"
        settings = {"judge": judge.model, **parameters}
        asked = [_with_answers(question, answers[question.id]) for question in open_questions]
        outcome = await run_missing(
            asked, rate, path=path, settings=settings, limits=caller.limits, on_progress=on_progress
        )
        grades += _current_records(asked, path, settings)
    RecordFile(home / "grades.jsonl").replace_all(grades)
    return outcome


def _with_answers(question: Question, answers: Sequence[str]) -> Question:
    """Return the question with its answers as examples, so that other answers are judged anew."""
    pairs = tuple(zip(question.turns, answers, strict=True))
    return Question(question.id, question.turns, references=question.references, examples=pairs)


def _stored_answers(path: Path) -> dict[str, list[str]]:
    """Return the latest answers per question, whatever the protocol."""
    records = RecordFile(path).read()
    return {identifier: list(record["answers"]) for identifier, record in records.items()}


def _current_records(questions: Iterable[Question], path: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    records = RecordFile(path).read()
    return [
        records[question.id]
        for question in questions
        if question.id in records and records[question.id]["protocol"] == protocol_of(question, settings)
    ]


def _ruled_grade(question: Question, answers: Sequence[str]) -> dict[str, Any]:
    found: str | Decimal | None
    if question.right in LETTERS:
        found = choice_letter(answers[-1])
        is_right = found == question.right
    else:
        found = final_number(answers[-1])
        is_right = is_same_number(found, Decimal(question.right))
    return {"id": question.id, "quality": float(is_right), "found": str(found), "right": question.right}


async def _judged_grade(
    question: Question, answers: Sequence[str], caller: Caller, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    ratings, judgements = [], []
    for turn in range(1, len(answers) + 1):
        references = question.references[:turn] if len(question.references) >= turn else ()
        messages = judge_messages(question.turns, answers[:turn], references=references)
        judgements.append(await caller.ask(messages, parameters))
        rating = parse_rating(judgements[-1])
        if rating is None:
            raise BackendError(
                f"the judge gave no rating for question {question.id}, turn {turn}",
                model=caller.model.model,
                status_code=502,
                retryable=False,
            )
        ratings.append(rating)
    quality = sum(ratings) / len(ratings)
    return {"id": question.id, "quality": quality, "ratings": ratings, "judgements": judgements}


def mean_grade(folder: Path, *, benchmark: str, model: str) -> tuple[int, float]:
    """Return how many answers are graded and their mean quality (NaN without any)."""
    path = model_folder(folder, benchmark=benchmark, model=model) / "grades.jsonl"
    qualities = [float(record["quality"]) for record in RecordFile(path).read().values()]
    return len(qualities), sum(qualities) / len(qualities) if qualities else float("nan")
