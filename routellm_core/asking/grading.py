"""Grades: the letter of a multiple-choice answer, the final number of a word problem, and where grades are kept.

Layout: ``<folder>/<benchmark>/<model>/answers.jsonl``, ``judgements.jsonl`` (MT-Bench) and ``grades.jsonl``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import numpy as np

from routellm_core.asking.store import RecordFile
from routellm_core.errors import ConfigError
from routellm_core.types import FloatArray

LETTERS: Final = "ABCD"
_WRITER: Final = "routellm evaluate generate"

_EMPHASIS = re.compile(r"[*_`$]+")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?\s*([^{}]*)")
_LEADING_LETTER = re.compile(r"^\(?([A-D])\)?(?:[.:,)\s]|$)")
_DECLARED_LETTER = re.compile(
    r"(?:answer|option|choice)\s*(?:is|:|=|would be|must be)*\s*:?\s*(?:option|choice)?\s*\(?\b([A-D])\b\)?",
    re.IGNORECASE,
)
_LONE_LETTER = re.compile(r"(?:^|[\s(])([A-D])(?=$|[\s).:,])")

_NUMBER = r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+"
_MARKED_NUMBER = re.compile(rf"####\s*\$?\s*({_NUMBER})")
_DECLARED_NUMBER = re.compile(rf"(?:final answer|answer)\s*(?:is|:|=)+\s*\$?\s*({_NUMBER})", re.IGNORECASE)
_ANY_NUMBER = re.compile(rf"(?<![\d.])({_NUMBER})")


def choice_letter(answer: str) -> str | None:
    r"""Return the letter A to D that an answer chooses, or None where it chooses none.

    The last ``\boxed{}`` wins, then a letter that the answer begins with, then the last "the answer is ...", then the
    only letter that stands alone. RouteLLM looks at the first character only, which suits one-token answers.
    """
    boxed = _BOXED.findall(answer)
    if boxed and boxed[-1].strip()[:1] in tuple("ABCD"):
        return str(boxed[-1].strip()[0])
    text = _EMPHASIS.sub("", answer).strip()
    if leading := _LEADING_LETTER.match(text):
        return leading.group(1)
    if declared := _DECLARED_LETTER.findall(text):
        return str(declared[-1]).upper()
    alone = set(_LONE_LETTER.findall(text))
    return alone.pop() if len(alone) == 1 else None


def final_number(answer: str) -> Decimal | None:
    r"""Return the number that an answer ends with, or None where it has none.

    The last ``#### n`` wins, then ``\boxed{n}``, then the last "answer is n", then the last number of the text.
    RouteLLM takes the last run of digits, which reads 2.5 as 5 and loses the sign of -3.
    """
    for pattern in (_MARKED_NUMBER, _BOXED):
        for found in reversed(pattern.findall(answer)):
            if (number := _as_decimal(found)) is not None:
                return number
    text = _EMPHASIS.sub("", answer)
    for pattern in (_DECLARED_NUMBER, _ANY_NUMBER):
        if found := pattern.findall(text):
            return _as_decimal(found[-1])
    return None


def is_same_number(first: Decimal | None, second: Decimal | None) -> bool:
    """Whether both are numbers of equal value (18, 18.0 and 18.00 are)."""
    return first is not None and second is not None and first == second


def _as_decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").replace("$", "").strip().rstrip(".%"))
    except InvalidOperation:
        return None


def model_folder(folder: Path, *, benchmark: str, model: str) -> Path:
    """Return the folder for one model's answers, its name made safe for every file system.

    A name that had to be changed gets a digest, so that two models never share a folder.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", model)
    if safe != model or safe.startswith("."):
        safe = f"{safe.lstrip('.')}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return folder / benchmark / safe


def records_of(folder: Path, kind: str, *, benchmark: str, model: str) -> RecordFile:
    """Return one of a model's files: ``answers``, ``judgements`` or ``grades``."""
    home = model_folder(folder, benchmark=benchmark, model=model)
    return RecordFile(home / f"{kind}.jsonl", writer=_WRITER)


def mean_grade(folder: Path, *, benchmark: str, model: str) -> tuple[int, float]:
    """Return how many answers are graded and their mean quality (NaN without any)."""
    grades = records_of(folder, "grades", benchmark=benchmark, model=model).read().values()
    qualities = [float(record["quality"]) for record in grades]
    return len(qualities), sum(qualities) / len(qualities) if qualities else float("nan")


def graded_quality(
    prompt_ids: Sequence[str], *, benchmark: str, model: str, published: Sequence[str], folder: Path | None
) -> FloatArray:
    """Return a model's graded quality, shape (n,), from the answers stored under ``folder``.

    Raises:
        ConfigError: nothing is stored for the model, or not for every prompt.
    """
    how = f"`routellm evaluate generate --benchmark {benchmark} --model {model}`"
    allowed = ", ".join(published)
    if folder is None:
        raise ConfigError(
            f"{benchmark} has published results for {allowed}, not for {model!r}. Answer and grade the benchmark with "
            f"{how}, then pass its folder as --answers-dir"
        )
    file = records_of(folder, "grades", benchmark=benchmark, model=model)
    if not file.path.exists():
        raise ConfigError(
            f"no grades of {model!r} on {benchmark}: {file.path} does not exist. Published results are there for "
            f"{allowed}; for other models run {how}"
        )
    grades = {identifier: float(record["quality"]) for identifier, record in file.read().items()}
    missing = [prompt_id for prompt_id in prompt_ids if prompt_id not in grades]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(prompt_ids)} prompts of {benchmark} are not graded for {model!r} (the first is "
            f"{missing[0]}). Finish them with {how}; it resumes where it stopped"
        )
    return np.array([grades[prompt_id] for prompt_id in prompt_ids], dtype=np.float64)
