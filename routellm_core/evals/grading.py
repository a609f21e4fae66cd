"""Right or wrong: the letter of a multiple-choice answer and the final number of a word problem."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

__all__ = ["choice_letter", "final_number", "is_same_number", "reference_number"]

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


def reference_number(answer: str) -> Decimal | None:
    """Return the last run of digits, commas removed: how RouteLLM graded the published answers."""
    digits = re.findall(r"\d+", answer.replace(",", ""))
    return Decimal(digits[-1]) if digits else None


def is_same_number(first: Decimal | None, second: Decimal | None) -> bool:
    """Whether both are numbers of equal value (18, 18.0 and 18.00 are)."""
    return first is not None and second is not None and first == second


def _as_decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").replace("$", "").strip().rstrip(".%"))
    except InvalidOperation:
        return None
