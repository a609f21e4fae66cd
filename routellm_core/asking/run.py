"""Labelling a user's own prompts: both models answer, a judge compares the answers in both orders.

A row counts as a win only where the judge prefers the same model in both orders; everything else is a tie (Zheng et
al., arXiv 2306.05685, section 3.4). Rows are written as they are finished, and a further run goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from routellm_core.asking.calls import UNREADABLE_STATUS, LabelAnswer, LabelCalls, LabelLimits
from routellm_core.asking.judge_prompts import comparison_messages, parse_verdict
from routellm_core.asking.prompts import LabelModels, LabelParameters, LabelPrompt, Role
from routellm_core.asking.store import FailureFile, LabelFile
from routellm_core.backends.base import ChatBackend
from routellm_core.errors import BackendError
from routellm_core.types import PairTier as Tier

__all__ = ["LabelOutcome", "LabelRun", "Winner"]

Winner: TypeAlias = Literal["strong", "weak", "tie"]
_OUTCOMES: Final[Mapping[Winner, tuple[float, float]]] = {"strong": (1.0, 0.0), "weak": (0.0, 1.0), "tie": (0.5, 0.5)}
_TIERS: Final[tuple[Tier, Tier]] = ("strong", "weak")
_ORDERS: Final[tuple[tuple[Tier, Tier], ...]] = (("strong", "weak"), ("weak", "strong"))
# The same call will fail for every other prompt too: a wrong key or a wrong model name.
_HOPELESS_STATUSES: Final = frozenset({401, 403, 404})


@dataclass(frozen=True)
class LabelOutcome:
    """What there is after a run.

    Attributes:
        winners: finished prompts by winner, those of earlier runs included.
        disagreements: ties because the judge changed its mind with the order.
        reused: prompts that were finished before.
        done: prompts finished now.
        failures: place of a prompt to the error; they are tried again by the next run.
        left: prompts that were not begun because the money was spent.
        dollars: spent by this run; None where a price is not known.
        tokens: by role, sent and answered in this run.
    """

    winners: Mapping[Winner, int]
    disagreements: int
    reused: int
    done: int
    failures: Mapping[str, str]
    left: int
    dollars: float | None
    tokens: Mapping[Role, tuple[float, float]]

    @property
    def is_complete(self) -> bool:
        """Whether every prompt has a label."""
        return not self.failures and not self.left


@dataclass
class LabelRun:
    """One run over the prompts.

    Args:
        models: the pair and the judge.
        backend: makes the calls.
        output: the file of finished rows; what failed is kept beside it, under the same name with ``.failures``.
        parameters: what is sent beside the messages.
        limits: concurrency, retries and money.
    """

    models: LabelModels
    backend: ChatBackend
    output: Path
    parameters: LabelParameters = field(default_factory=LabelParameters)
    limits: LabelLimits = field(default_factory=LabelLimits)

    def __post_init__(self) -> None:
        self._rows = LabelFile(self.output)
        self._failed = FailureFile(self.output.with_name(self.output.name + ".failures"))
        self._calls = LabelCalls(self.models, self.backend, self.limits)
        self._finished = self._rows.read((self.models.strong.model, self.models.weak.model))
        self._unfinished = self._failed.read()

    def missing(self, prompts: Sequence[LabelPrompt]) -> list[LabelPrompt]:
        """Return the prompts that have no label yet."""
        return [prompt for prompt in prompts if self._key(prompt) not in self._finished]

    async def label(
        self, prompts: Sequence[LabelPrompt], *, on_progress: Callable[[int, int], None] | None = None
    ) -> LabelOutcome:
        """Label what has no label yet.

        Args:
            prompts: each once.
            on_progress: called with (prompts done, in all).

        Raises:
            BackendError: a model refuses every call (wrong key, wrong name). Failures of single prompts are counted in
                the outcome instead.
        """
        missing = self.missing(prompts)
        reused = len(prompts) - len(missing)
        failures: dict[str, str] = {}
        remaining = iter(missing)
        ended = reused

        async def worker() -> None:
            nonlocal ended
            for prompt in self._while_affordable(remaining):
                try:
                    await self._finish(prompt)
                except BackendError as error:
                    failures[prompt.place] = str(error)
                    if error.status_code in _HOPELESS_STATUSES:
                        raise
                ended += 1
                if on_progress is not None:
                    on_progress(ended, len(prompts))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.limits.concurrency, len(missing))):
                    group.create_task(worker())
        except* BackendError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._failed.keep(record for key, record in self._unfinished.items() if key not in self._finished)
        return self._outcome(prompts, reused, failures)

    def _while_affordable(self, remaining: Iterator[LabelPrompt]) -> Iterator[LabelPrompt]:
        limit = self.limits.max_cost
        while limit is None or (self._calls.dollars(self._calls.tokens) or 0.0) < limit:
            prompt = next(remaining, None)
            if prompt is None:
                return
            yield prompt

    async def _finish(self, prompt: LabelPrompt) -> None:
        """Write the row of a prompt, or what there is of it."""
        key = self._key(prompt)
        answers = {tier: LabelAnswer(**kept) for tier, kept in self._unfinished.get(key, {}).get("answers", {}).items()}
        error = "stopped"
        try:
            row = await self._row(prompt, answers)
        except BackendError as failure:
            error = str(failure)
            raise
        else:
            self._rows.append(row)
            self._finished[key] = row
        finally:  # also when the run is stopped: answers that were paid for are kept
            if key not in self._finished:
                kept = {tier: asdict(answer) for tier, answer in answers.items()}
                record = {"id": key, "place": prompt.place, "error": error, "answers": kept}
                self._unfinished[key] = record
                self._failed.append(record)

    async def _row(self, prompt: LabelPrompt, answers: dict[Tier, LabelAnswer]) -> dict[str, Any]:
        async def answer(tier: Tier) -> None:
            answers[tier] = await self._calls.ask(tier, prompt.messages, self.parameters.answers)

        await _all_of([answer(tier) for tier in _TIERS if tier not in answers])
        judged = await self._judgements(prompt, answers)
        verdicts = [self._verdict(order, text.text) for order, text in zip(_ORDERS, judged, strict=True)]
        winner: Winner = verdicts[0] if verdicts[0] == verdicts[1] else "tie"
        strong, weak = _OUTCOMES[winner]
        used: dict[Role, tuple[float, float]] = {
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

    async def _judgements(self, prompt: LabelPrompt, answers: Mapping[Tier, LabelAnswer]) -> list[LabelAnswer]:
        """Return what the judge said to each of the orders."""
        judged: dict[tuple[Tier, Tier], LabelAnswer] = {}

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
            raise BackendError(
                f"the judge {self.models.judge.model!r} gave no verdict in double square brackets, but ended with "
                f"{judgement[-80:]!r}; choose a judge that follows instructions",
                model=self.models.judge.model,
                status_code=UNREADABLE_STATUS,
                retryable=False,
            )
        return "tie" if verdict == "C" else order["AB".index(verdict)]

    def _outcome(self, prompts: Sequence[LabelPrompt], reused: int, failures: Mapping[str, str]) -> LabelOutcome:
        rows = [self._finished[key] for key in map(self._key, prompts) if key in self._finished]
        winners: Counter[Winner] = Counter(row["winner"] for row in rows)
        return LabelOutcome(
            winners={winner: winners[winner] for winner in _OUTCOMES},
            disagreements=sum(len(set(row["verdicts"])) > 1 for row in rows),
            reused=reused,
            done=len(rows) - reused,
            failures=failures,
            left=len(prompts) - len(rows) - len(failures),
            dollars=self._calls.dollars(self._calls.tokens),
            tokens=dict(self._calls.tokens),
        )


async def _all_of(calls: Sequence[Any]) -> None:
    """Wait for all calls, so that none is lost to another's failure; then raise the first failure."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result


def _used(answers: Sequence[LabelAnswer]) -> tuple[float, float]:
    return sum(answer.input_tokens for answer in answers), sum(answer.output_tokens for answer in answers)
