"""Running a program with both LMs on a devset: what each is worth by the user's metric, and what it costs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Request, Response
from dspy.utils.parallelizer import ParallelExecutor

from dspy_routellm.children import ChildModel
from dspy_routellm.fields import input_text
from dspy_routellm.lm import RouteLLM
from dspy_routellm.routed import Routed
from dspy_routellm.routing import Routing
from routellm_core import Router
from routellm_core import calibration as core
from routellm_core.errors import ConfigError

__all__ = ["Measurement", "measure"]

logger = logging.getLogger(__name__)

Metric = Callable[..., Any]


class Measurement(core.Measurement):
    """A program's labelled devset, and what follows from it; :func:`measure` makes it."""

    def adapt(self, folder: str | Path, *, start: str | Path | None = "default", seed: int = 0) -> Measurement:
        """Train an ``mf`` router on these labels, and return the measurement with that router's scores.

        Each score is by a router that was trained without its example (five-fold cross-validation), so thresholds and
        curves of the result do not flatter.

        Args:
            folder: where the checkpoint is written; ``load_router("mf", {"checkpoint_path": folder})`` reads it.
            start: the checkpoint to adapt; None trains from nothing.
            seed: of the folds.

        Raises:
            ConfigError: too few examples, or none or all of them need the strong model.
        """
        import numpy as np

        from routellm_core.routers.mf.router import MatrixFactorizationRouter
        from routellm_core.rows.labelled import PairRows
        from routellm_core.training.train_mf import Provenance, train_matrix_factorization

        rows = PairRows(
            prompts=tuple(row.prompt for row in self.rows),
            weights=np.ones(len(self.rows)),
            places=tuple(f"example {index}" for index in range(len(self.rows))),
            licences=(),
            strong=np.array([row.strong_quality for row in self.rows]),
            weak=np.array([row.weak_quality for row in self.rows]),
        )
        trained = train_matrix_factorization(
            rows,
            output=folder,
            strong_model=self.pair.strong,
            weak_model=self.pair.weak,
            start=start,
            seed=seed,
            provenance=Provenance(command="dspy_routellm.Measurement.adapt", data=("a DSPy devset and its metric",)),
        )
        scores = trained.held_out.scores["trained"]
        rescored = tuple(replace(row, score=float(score)) for row, score in zip(self.rows, scores, strict=True))
        router = MatrixFactorizationRouter(checkpoint_path=str(trained.folder))
        return replace(self, router=router, rows=rescored)


@dataclass(frozen=True)
class _Run:
    result: Any
    dollars: float | None
    failed: bool = False

    @property
    def quality(self) -> float:
        return _number(self.result)


def measure(
    program: dspy.Module,
    devset: Sequence[dspy.Example],
    metric: Metric,
    *,
    lm: RouteLLM | None = None,
    strong_lm: Any = None,
    weak_lm: Any = None,
    router: Router | str | None = None,
    route_fields: list[str] | tuple[str, ...] | None = None,
    num_threads: int | None = None,
    failure_score: float = 0.0,
) -> Measurement:
    """Run a program on a devset with the strong and with the weak LM, and label each example by a metric.

    Nothing of it needs a judge or a public benchmark: the metric that the program is optimised by says which of its
    inputs need the strong model. Each example is run twice, so this costs a strong and a weak evaluation; DSPy's cache
    spares what was run before.

    Args:
        program: the program. For a :class:`~dspy_routellm.Routed`, its LMs, router and fields are taken from it.
        devset: examples with their inputs marked (``with_inputs``).
        metric: DSPy's kind: ``metric(example, prediction)`` returns a number, a truth value, or an object with a
            ``score``. Greater is better.
        lm: takes LMs, router and fields from a routing LM.
        strong_lm: the strong LM, where neither gives it; see :class:`~dspy_routellm.RouteLLM`.
        weak_lm: likewise.
        router: likewise.
        route_fields: likewise.
        num_threads: examples at a time; by default DSPy's setting.
        failure_score: the score of an example that the program or the metric failed on.

    Returns:
        the labelled examples, which thresholds and curves come from.

    Raises:
        ConfigError: an empty devset, examples without inputs, no metric, or a score that is not a finite number.
        ScoringError: the router cannot score.
    """
    routing, program = _parts(program, lm, strong_lm, weak_lm, router, route_fields)
    _check(devset, metric)
    texts = [input_text(dict(example.inputs()), routing.route_fields) or "" for example in devset]
    if not all(texts):
        raise ConfigError(f"example {texts.index('')} of the devset has no text to route on; its inputs are no text")
    runs = {
        tier: _run_all(program, devset, metric, routing.models[tier], num_threads, failure_score)
        for tier in ("strong", "weak")
    }
    failures = {tier: sum(run.failed for run in done) for tier, done in runs.items()}
    if any(failures.values()):
        logger.warning("runs that failed and count as %g: %s", failure_score, failures)
    return Measurement.of(
        routing.router,
        routing.pair,
        texts,
        strong_quality=[run.quality for run in runs["strong"]],
        weak_quality=[run.quality for run in runs["weak"]],
        strong_dollars=[run.dollars for run in runs["strong"]],
        weak_dollars=[run.dollars for run in runs["weak"]],
        failures=failures,
    )


def _parts(
    program: Any, lm: RouteLLM | None, strong: Any, weak: Any, router: Any, route_fields: Any
) -> tuple[Routing, dspy.Module]:
    if lm is not None and not isinstance(lm, RouteLLM):
        raise ConfigError(f"lm must be a dspy_routellm.RouteLLM, got {type(lm).__name__}; give strong_lm and weak_lm")
    source = lm or (program if isinstance(program, Routed) else None)
    inner = program.program if isinstance(program, Routed) else program
    if not isinstance(inner, dspy.Module):
        raise ConfigError(f"program must be a dspy.Module, got {type(inner).__name__}")
    if source is not None:
        given = {"strong_lm": strong, "weak_lm": weak, "router": router, "route_fields": route_fields}
        if extra := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{', '.join(extra)} cannot be given beside a {type(source).__name__}, which has its own")
        return source.routing, inner
    if strong is None or weak is None:
        raise ConfigError("give lm=RouteLLM(...), or both strong_lm and weak_lm, or measure a Routed program")
    options = {"router": router, "threshold": 0.5, "strong": strong, "weak": weak, "route_fields": route_fields}
    return Routing(options), inner


def _check(devset: Any, metric: Any) -> None:
    if not callable(metric):
        raise ConfigError(f"metric must be a function of an example and a prediction, got {type(metric).__name__}")
    if not devset:
        raise ConfigError("devset is empty; calibration takes a few dozen examples at least")
    for index, example in enumerate(devset):
        if not isinstance(example, dspy.Example):
            raise ConfigError(f"devset[{index}] must be a dspy.Example, got {type(example).__name__}")
        try:
            has_inputs = bool(dict(example.inputs()))
        except ValueError:
            has_inputs = False
        if not has_inputs:
            raise ConfigError(f"devset[{index}] has no inputs; mark them with example.with_inputs('question')")


def _run_all(
    program: dspy.Module,
    devset: Sequence[dspy.Example],
    metric: Metric,
    child: ChildModel,
    num_threads: int | None,
    failure_score: float,
) -> list[_Run]:
    def run(example: dspy.Example) -> _Run:
        lm = _counting_lm(child)  # for each example, so that its calls are known however many threads there are
        try:
            with dspy.context(lm=lm):
                prediction = program(**example.inputs())
            result = metric(example, prediction)
        except Exception as error:
            logger.warning("%s failed on an example: %s: %s", child.name, type(error).__name__, error)
            return _Run(failure_score, _dollars(lm.history, child), failed=True)
        return _Run(result, _dollars(lm.history, child))

    executor = ParallelExecutor(
        num_threads=num_threads, max_errors=1, disable_progress_bar=True, provide_traceback=False
    )
    runs: list[_Run] = executor.execute(run, list(devset))
    return runs


def _counting_lm(child: ChildModel) -> dspy.LM:
    """Return an LM over the model's own engine, with a history of its own.

    DSPy's cache keeps the usage of an engine's answers, but not that of its built-in LM.
    """
    if not isinstance(child.lm.engine, str):
        return child.lm.copy()
    return dspy.LM(
        child.name, engine=_OneModel(child), async_engine=_AsyncOneModel(child), cache=child.lm.cache,
        num_retries=child.lm.num_retries, **child.generation,
    )  # fmt: skip


class _OneModel:
    def __init__(self, child: ChildModel) -> None:
        self._child = child

    def __getattr__(self, name: str) -> Any:
        if name.startswith("support"):
            return self._child.supports(name)
        raise AttributeError(name)

    def complete(self, request: Request) -> Response:
        return self._child.complete(request)


class _AsyncOneModel:
    def __init__(self, child: ChildModel) -> None:
        self._child = child

    async def complete(self, request: Request) -> Response:
        return await self._child.acomplete(request)


def _number(result: Any) -> float:
    score = getattr(result, "score", result)
    try:
        number = float(score)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the metric returned {result!r}; it must return a number or an object with a score"
        ) from error
    if not math.isfinite(number):
        raise ConfigError(f"the metric returned {number}; a score must be finite")
    return number


def _dollars(history: Sequence[dict[str, Any]], child: ChildModel) -> float | None:
    """Return what the calls cost, as if none had come from the cache; None where a price is not known."""
    total = 0.0
    for entry in history:
        cost = _estimate(entry.get("response"), child)
        cost = entry.get("cost") if cost is None else cost
        if cost is None:
            return None
        total += float(cost)
    return total


def _estimate(response: Any, child: ChildModel) -> float | None:
    answers = response if isinstance(response, tuple) else (response,)
    total = 0.0
    for answer in answers:
        usage = getattr(answer, "usage", None)
        if isinstance(answer, Response):
            counts = (usage.input_tokens, usage.output_tokens) if usage else (None, None)
        else:
            counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
        if child.price is None or None in counts:
            return None
        total += child.price.dollars(*counts)
    return total
