"""The prompts that are to be labelled, what identifies each, and what labelling them is expected to cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from routellm_core.asking.judges import PROMPT_VERSION, comparison_messages
from routellm_core.backends.base import ModelSettings
from routellm_core.errors import ConfigError
from routellm_core.pricing import estimate_tokens, price_of
from routellm_core.prompts import message_text
from routellm_core.rows.prompts import Conversation, read_records
from routellm_core.types import ChatMessage

Role: TypeAlias = Literal["strong", "weak", "judge"]
_MESSAGE_TOKENS: Final = 4.0
"""What a message costs beside its text, under OpenAI's chat format."""


@dataclass(frozen=True)
class LabelModels:
    """The pair, and the model that compares its answers."""

    strong: ModelSettings
    weak: ModelSettings
    judge: ModelSettings

    def __post_init__(self) -> None:
        if self.strong.model == self.weak.model and self.strong.api_base == self.weak.api_base:
            raise ConfigError(f"strong and weak model are both {self.strong.model!r}; a comparison needs two")

    @property
    def by_role(self) -> dict[str, ModelSettings]:
        """The three by what they do."""
        return {"strong": self.strong, "weak": self.weak, "judge": self.judge}


@dataclass(frozen=True)
class LabelParameters:
    """What is sent beside the messages.

    Attributes:
        answers: to the strong and the weak model, such as ``max_tokens``.
        judge: to the judge; it decides at temperature 0, so that a verdict can be repeated.
    """

    answers: Mapping[str, Any] = field(default_factory=dict)
    judge: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0})


@dataclass(frozen=True)
class LabelPrompt:
    """A conversation up to the last user message, its file and line, and a right answer for the judge or None."""

    conversation: Conversation
    place: str
    reference: str | None = None

    @property
    def messages(self) -> list[ChatMessage]:
        """What both models are sent."""
        if isinstance(self.conversation, str):
            return [{"role": "user", "content": self.conversation}]
        return list(self.conversation)

    def key(self, models: LabelModels, parameters: LabelParameters) -> str:
        """Return a digest of everything that a label depends on."""
        facts = {
            "prompt_version": PROMPT_VERSION,
            "messages": self.messages,
            "reference": self.reference,
            "models": [models.strong.model, models.weak.model, models.judge.model],
            "parameters": [dict(parameters.answers), dict(parameters.judge)],
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class LabelPrompts:
    """What a source holds: each prompt once, and how many rows repeat one or have no user's text to ask about."""

    prompts: tuple[LabelPrompt, ...]
    repeated: int
    without_text: int


@dataclass(frozen=True)
class CallEstimate:
    """What one model is expected to be asked: calls, tokens in all, and dollars, None where its price is not known."""

    role: Role
    model: str
    calls: int
    input_tokens: float
    output_tokens: float
    dollars: float | None


def read_label_prompts(
    source: str | Path, *, column: str | None = None, reference_column: str | None = None, limit: int | None = None
) -> LabelPrompts:
    """Read prompts; a conversation is cut after the user's last message, which the models answer.

    ``source``, ``column`` and their errors are :func:`read_records`'s. An empty cell of ``reference_column`` is no
    reference answer; ``limit`` takes only the first so many prompts.

    Raises:
        ConfigError: no prompts, or a reference column that no row has.
    """
    columns = [reference_column] if reference_column else []
    found: dict[str, LabelPrompt] = {}
    repeated = without_text = 0
    has_reference = False
    for record in read_records(source, column=column, columns=columns):
        has_reference = has_reference or bool(record.values)
        conversation = _answerable(record.conversation)
        if conversation is None:
            without_text += 1
            continue
        reference = str(record.values.get(reference_column or "") or "").strip() or None
        prompt = LabelPrompt(conversation, record.place, reference)
        key = json.dumps([prompt.messages, reference], default=str)
        repeated += key in found
        found.setdefault(key, prompt)
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise ConfigError(f"{source} holds no prompt with text")
    if reference_column and not has_reference:
        raise ConfigError(f"{source} has no column {reference_column!r} with reference answers")
    return LabelPrompts(tuple(found.values()), repeated, without_text)


def estimate_calls(
    prompts: Iterable[LabelPrompt], models: LabelModels, *, answer_tokens: float = 300.0, judge_tokens: float = 200.0
) -> tuple[CallEstimate, ...]:
    """Estimate the calls of strong, weak and judge, retries left out.

    An answer is taken to have ``answer_tokens`` tokens, each of a prompt's two judgements ``judge_tokens``.
    """
    asked, judged, count = 0.0, 0.0, 0
    for prompt in prompts:
        count += 1
        asked += _tokens(prompt.messages)
        comparison = comparison_messages(prompt.messages, "", "", reference=prompt.reference)
        judged += 2.0 * (_tokens(comparison) + 2.0 * answer_tokens)
    calls: list[tuple[Role, int, float, float]] = [
        ("strong", count, asked, count * answer_tokens),
        ("weak", count, asked, count * answer_tokens),
        ("judge", 2 * count, judged, 2 * count * judge_tokens),
    ]
    estimates = []
    for role, number, sent, answered in calls:
        model = models.by_role[role]
        price = price_of(model)
        dollars = None if price is None else price.dollars(sent, answered)
        estimates.append(CallEstimate(role, model.model, number, sent, answered, dollars))
    return tuple(estimates)


def _tokens(messages: Iterable[ChatMessage]) -> float:
    return sum(estimate_tokens(message_text(message)) + _MESSAGE_TOKENS for message in messages)


def _answerable(conversation: Conversation) -> Conversation | None:
    """Return the conversation up to its last user message with text, or None where it has none."""
    if isinstance(conversation, str):
        return conversation if conversation.strip() else None
    spoken = [
        place
        for place, message in enumerate(conversation)
        if message["role"] == "user" and message_text(message).strip()
    ]
    return list(conversation[: spoken[-1] + 1]) if spoken else None
