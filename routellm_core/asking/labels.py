"""Labelling a user's own prompts: both models answer, a judge compares the answers in both orders.

A row counts as a win only where the judge prefers the same model in both orders; everything else is a tie (Zheng et
al., arXiv 2306.05685, section 3.4). Rows are written as they are finished, and a further run goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from routellm_core.asking.calls import Answer, CallLimits, Calls, Outcome, run_all, unreadable
from routellm_core.asking.judges import comparison_messages, parse_verdict
from routellm_core.asking.prompts import LabelModels, LabelParameters, LabelPrompt
from routellm_core.asking.store import RecordFile
from routellm_core.backends.base import ChatBackend
from routellm_core.errors import BackendError, ConfigError
from routellm_core.types import PairTier as Tier

Winner: TypeAlias = Literal["strong", "weak", "tie"]
_OUTCOMES: Final[Mapping[Winner, tuple[float, float]]] = {"strong": (1.0, 0.0), "weak": (0.0, 1.0), "tie": (0.5, 0.5)}
_TIERS: Final[tuple[Tier, Tier]] = ("strong", "weak")
_ORDERS: Final[tuple[tuple[Tier, Tier], ...]] = (("strong", "weak"), ("weak", "strong"))
_WRITER: Final = "routellm data label"


@dataclass(frozen=True, kw_only=True)
class LabelOutcome(Outcome):
    """What there is after a run, earlier ones included, and what this one spent.

    ``disagreements`` are ties because the judge changed its mind with the order; ``dollars`` is None where a price is
    not known; ``tokens`` are sent and answered, by role.
    """

    winners: Mapping[Winner, int]
    disagreements: int
    dollars: float | None
    tokens: Mapping[str, tuple[float, float]]


@dataclass
class LabelRun:
    """One run over the prompts: ``output`` gets the finished rows, and a file beside it, ``….failures``, what failed.

    Raises:
        ConfigError: the output holds something else, or another pair's rows.
    """

    models: LabelModels
    backend: ChatBackend
    output: Path
    parameters: LabelParameters = field(default_factory=LabelParameters)
    limits: CallLimits = field(default_factory=CallLimits)

    def __post_init__(self) -> None:
        self._rows = RecordFile(self.output, writer=_WRITER)
        self._failed = RecordFile(self.output.with_name(self.output.name + ".failures"), writer=_WRITER)
        self._calls = Calls(self.models.by_role, self.backend, self.limits)
        self._read()

    def _read(self) -> None:
        self._finished, self._unfinished = self._rows.read(), self._failed.read()
        pair = (self.models.strong.model, self.models.weak.model)
        for number, row in enumerate(self._finished.values(), start=1):
            found = (row.get("strong_model"), row.get("weak_model"))
            if found != pair:  # training reads all of a file
                raise ConfigError(
                    f"{self.output}, line {number}: holds labels of {found[0]} against {found[1]}, not of {pair[0]} "
                    f"against {pair[1]}; choose another output"
                )

    def missing(self, prompts: Sequence[LabelPrompt]) -> list[LabelPrompt]:
        """Return the prompts that have no label yet."""
        return [prompt for prompt in prompts if self._key(prompt) not in self._finished]

    async def label(
        self, prompts: Sequence[LabelPrompt], *, on_progress: Callable[[int, int], None] | None = None
    ) -> LabelOutcome:
        """Label what has no label yet; ``on_progress`` is called with (prompts ended, in all).

        Raises:
            ConfigError: another run is writing to the output, or nothing can be written there.
            OutputError: a row cannot be written.
        """
        with self._rows.locked():
            self._read()  # what a run that ended meanwhile has finished
            missing = self.missing(prompts)
            try:
                outcome = await run_all(
                    [(prompt.place, prompt) for prompt in missing],
                    self._finish,
                    calls=self._calls,
                    limits=self.limits,
                    reused=len(prompts) - len(missing),
                    on_progress=on_progress,
                )
            finally:
                self._failed.replace_all(
                    record for key, record in self._unfinished.items() if key not in self._finished
                )
        rows = [self._finished[key] for key in map(self._key, prompts) if key in self._finished]
        winners: Counter[Winner] = Counter(row["winner"] for row in rows)
        return LabelOutcome(
            **vars(outcome),
            winners={winner: winners[winner] for winner in _OUTCOMES},
            disagreements=sum(len(set(row["verdicts"])) > 1 for row in rows),
            dollars=self._calls.dollars(),
            tokens=dict(self._calls.tokens),
        )

    async def _finish(self, prompt: LabelPrompt) -> None:
        """Write the row of a prompt, or what there is of it."""
        key = self._key(prompt)
        answers = {tier: Answer(**kept) for tier, kept in self._unfinished.get(key, {}).get("answers", {}).items()}
        error = "stopped"
        try:
            row = await self._row(prompt, answers)
            self._rows.append(row)
            self._finished[key] = row
        except BackendError as failure:
            error = str(failure)
            raise
        finally:  # also when the run is stopped: answers that were paid for are kept
            if key not in self._finished:
                kept = {tier: asdict(answer) for tier, answer in answers.items()}
                record = {"id": key, "place": prompt.place, "error": error, "answers": kept}
                self._unfinished[key] = record
                self._failed.append(record)

    async def _row(self, prompt: LabelPrompt, answers: dict[Tier, Answer]) -> dict[str, Any]:
        async def answer(tier: Tier) -> None:
            answers[tier] = await self._calls.ask(tier, prompt.messages, self.parameters.answers)

        await _all_of([answer(tier) for tier in _TIERS if tier not in answers])
        judged = await self._judgements(prompt, answers)
        verdicts = [self._verdict(order, text.text) for order, text in zip(_ORDERS, judged, strict=True)]
        winner: Winner = verdicts[0] if verdicts[0] == verdicts[1] else "tie"
        strong, weak = _OUTCOMES[winner]
        used: dict[str, tuple[float, float]] = {
            **{tier: _used([answers[tier]]) for tier in _TIERS},
            "judge": _used(judged),
        }
        return {
            "id": self._key(prompt),
            "prompt": prompt.conversation,
            "strong": strong,
            "weak": weak,
            "winner": winner,
            "verdicts": verdicts,
            "strong_model": self.models.strong.model,
            "weak_model": self.models.weak.model,
            "judge_model": self.models.judge.model,
            "strong_answer": answers["strong"].text,
            "weak_answer": answers["weak"].text,
            "judgements": [judgement.text for judgement in judged],
            "tokens": {role: {"input": amount[0], "output": amount[1]} for role, amount in used.items()},
            "dollars": self._calls.dollars(used),
        }

    async def _judgements(self, prompt: LabelPrompt, answers: Mapping[Tier, Answer]) -> list[Answer]:
        """Return what the judge said to each of the orders."""
        judged: dict[tuple[Tier, Tier], Answer] = {}

        async def judge(order: tuple[Tier, Tier]) -> None:
            first, second = (answers[tier].text for tier in order)
            messages = comparison_messages(prompt.messages, first, second, reference=prompt.reference)
            judged[order] = await self._calls.ask("judge", messages, self.parameters.judge)

        await _all_of([judge(order) for order in _ORDERS])
        return [judged[order] for order in _ORDERS]

    def _key(self, prompt: LabelPrompt) -> str:
        return prompt.key(self.models, self.parameters)

    def _verdict(self, order: tuple[Tier, Tier], judgement: str) -> Winner:
        verdict = parse_verdict(judgement)
        if verdict is None:
            raise unreadable(
                self.models.judge.model,
                f"the judge {self.models.judge.model!r} gave no verdict in double square brackets, but ended with "
                f"{judgement[-80:]!r}; choose a judge that follows instructions",
            )
        return "tie" if verdict == "C" else order["AB".index(verdict)]


async def _all_of(calls: Sequence[Any]) -> None:
    """Wait for all calls, so that none is lost to another's failure; then raise the first failure."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result


def _used(answers: Sequence[Answer]) -> tuple[float, float]:
    return sum(answer.input_tokens for answer in answers), sum(answer.output_tokens for answer in answers)
