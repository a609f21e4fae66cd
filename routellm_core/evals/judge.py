"""MT-Bench's judge: a strong model rates each turn from 1 to 10.

The roles are those of Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (2023): single-answer
grading, with a reference answer for maths, reasoning and coding, and with the whole conversation shown for the second
turn. The wording is this project's own, so ratings are comparable among models judged here, and with published ones
only roughly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from routellm_core.types import ChatMessage

__all__ = ["REFERENCED_CATEGORIES", "judge_messages", "parse_rating"]

REFERENCED_CATEGORIES = frozenset({"math", "reasoning", "coding"})
"""Categories whose judge sees a reference answer, as published."""

_SYSTEM = "You rate the answers of AI assistants, fairly and by their content."
_CRITERIA = (
    "Judge how helpful, relevant, accurate, deep, creative and detailed the assistant's answer{which} is. Do not let "
    "its length sway you. First give a short explanation, then end with your rating from 1 (worst) to 10 (best) in "
    "double square brackets, exactly like this: [[5]]."
)
_REFERENCED_CRITERIA = (
    "Judge whether the assistant's answer{which} is correct and helpful. Compare it with the reference answer, find "
    "mistakes and name them. First give a short explanation, then end with your rating from 1 (worst) to 10 (best) in "
    "double square brackets, exactly like this: [[5]]."
)
_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_LOOSE_RATING = re.compile(r"\[\s*(\d+(?:\.\d+)?)\s*\]")


def judge_messages(
    turns: Sequence[str], answers: Sequence[str], *, references: Sequence[str] = ()
) -> list[ChatMessage]:
    """Return what the judge is asked about the last of ``answers``.

    Args:
        turns: the user's turns.
        answers: the assistant's answers to the first ``len(answers)`` of them.
        references: reference answers to the same turns, or none.
    """
    criteria = _REFERENCED_CRITERIA if references else _CRITERIA
    if len(answers) == 1:
        parts = [criteria.format(which=" to the question below"), _block("question", turns[0])]
        parts += [_block("reference answer", references[0])] if references else []
        parts += [_block("assistant's answer", answers[0])]
    else:
        parts = [criteria.format(which=" to the user's last question in the conversation below")]
        if references:
            parts.append(_conversation("reference conversation", turns, references))
        parts.append(_conversation("conversation with the assistant", turns, answers))
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]


def parse_rating(judgement: str) -> float | None:
    """Return the last rating in double (or, failing that, single) brackets from 1 to 10, or None."""
    for pattern in (_RATING, _LOOSE_RATING):
        for found in reversed(pattern.findall(judgement)):
            if 1.0 <= float(found) <= 10.0:
                return float(found)
    return None


def _block(title: str, text: str) -> str:
    return f"<{title}>\n{text}\n</{title}>"


def _conversation(title: str, turns: Sequence[str], answers: Sequence[str]) -> str:
    exchanges = [f"### user\n{turn}\n\n### assistant\n{answer}" for turn, answer in zip(turns, answers, strict=False)]
    return _block(title, "\n\n".join(exchanges))
