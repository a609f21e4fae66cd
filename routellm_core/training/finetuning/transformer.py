"""From labelled rows to a transformer's checkpoint: what ``bert`` and ``causal_llm`` have in common around the loop."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from routellm_core._publish import check_writable_folder, publish
from routellm_core.metrics.held_out import LENGTH, TRAINED, HeldOut, length_scores
from routellm_core.routers.base import Router
from routellm_core.routers.reference import ROUTING_FILE
from routellm_core.rows.labelled import PairRows, TrainingRows, pair_rows
from routellm_core.training.base import Provenance, TrainedRouter, measured, recorded_facts
from routellm_core.training.cards import rows_card_text
from routellm_core.training.checks import RowsReport, check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.crossfit import group_numbers, grouped_folds
from routellm_core.training.finetuning.loop import Finetuning, LabelledRows, LabelModel, label_probabilities
from routellm_core.training.finetuning.options import FinetuningOptions, FinetuningProgress
from routellm_core.training.finetuning.state import FinetuningState
from routellm_core.training.matrix_factorization import reference_quantiles

__all__ = ["Learner", "SplitRows", "TransformerTraining"]

_PARTS: Final = 10
"""The rows are split into tenths: one to stop by, one to measure on, eight to learn from."""
_NOT_COMPARED: Final = ("device", "save_steps", "messages")
"""Options that may change when a training is taken up again, and one that shows in the rows' tokens."""
_FEW: Final = 200


class Learner(LabelModel, Protocol):
    """A model to train, with what its checkpoint says.

    Attributes:
        base: digest of the configuration and weights that it starts from.
        max_tokens: where prompts are cut.
    """

    base: str
    max_tokens: int

    def save(self, folder: Path) -> None:
        """Write weights as safetensors, configuration, tokenizer and whatever else the router reads."""
        ...


@dataclass(frozen=True, eq=False)
class SplitRows:
    """The rows of a pair, checked and split by prompt.

    Attributes:
        pairs: n rows, all that may be learned from or stopped by.
        train: indices to learn from.
        stop: indices to stop by.
        tested: rows to measure on, in none of both.
        how: how those were held out, in words.
        report: the checks.
        warnings: sentences for people.
    """

    pairs: PairRows
    train: npt.NDArray[np.intp]
    stop: npt.NDArray[np.intp]
    tested: PairRows
    how: str
    report: RowsReport
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls, rows: TrainingRows, test: TrainingRows | None, *, strong_model: str, weak_model: str, seed: int
    ) -> SplitRows:
        """Check and split.

        Raises:
            ConfigError: too few rows of the pair, labels all alike, or a prompt in both ``rows`` and ``test``.
        """
        pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
        report = check_rows(rows)
        warnings = (*report.warnings, *check_pair_rows(pairs))
        parts = grouped_folds(group_numbers(pairs.prompts, pairs.groups), count=_PARTS, seed=seed)
        stop = np.flatnonzero(parts == 0)
        if test is not None:
            tested = pair_rows(test, strong_model=strong_model, weak_model=weak_model)
            refuse_leakage(pairs, tested)
            train, how = np.flatnonzero(parts != 0), "Rows of a test split"
        else:
            tested, train = _subset(pairs, np.flatnonzero(parts == 1)), np.flatnonzero(parts > 1)
            how = "A tenth of the prompts, not trained on"
        return cls(pairs, train, stop, tested, how, report, warnings)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Prompts that no weight was fitted to: those stopped by and those measured on."""
        return (*(self.pairs.prompts[row] for row in self.stop), *self.tested.prompts)


@dataclass(frozen=True, eq=False)
class TransformerTraining:
    """One training, apart from the model.

    Attributes:
        router: its registered name.
        models: the strong and the weak model's name.
        rows: what is learned from and measured on.
        labels: label of each row, from 0, shape (n,).
        options: how to train.
        output: the checkpoint's folder.
        start: what the card says the training started from.
        opening: what the card says first.
        seed: of the split, the order of batches, new weights and dropout.
        reading: what ``routing.json`` tells the router besides.
        start_learner: loads the model to train, on its device.
        load_router: builds the router from the finished folder.
    """

    router: str
    models: tuple[str, str]
    rows: SplitRows
    labels: npt.NDArray[np.intp]
    options: FinetuningOptions
    output: Path
    start: str
    opening: str
    seed: int
    reading: Mapping[str, Any]
    start_learner: Callable[[], Learner]
    load_router: Callable[[Path], Router]

    def run(
        self,
        *,
        provenance: Provenance | None,
        on_progress: Callable[[FinetuningProgress], None] | None,
        restart: bool,
    ) -> TrainedRouter:
        """Fine-tune, write the checkpoint, measure what was written, and add card and quantiles.

        Raises:
            ConfigError: the training cannot be done; see ``Finetuning``.
        """
        check_writable_folder(self.output)
        learner = self.start_learner()
        pairs = self.rows.pairs
        rows = LabelledRows(learner.encode(pairs.prompts), self.labels, pairs.weights, self.rows.train, self.rows.stop)
        state = FinetuningState(self.output, self._identity(learner.base, rows), restart=restart)
        losses = Finetuning(learner, rows, self.options, seed=self.seed, state=state).run(on_progress)
        encoded = learner.encode(self.rows.tested.prompts)
        likely = label_probabilities(learner, encoded, token_budget=self.options.token_budget)
        expected_gain = likely @ self._gain_of_labels(likely.shape[1])
        routing: dict[str, Any] = {"router": self.router, "strong_model": self.models[0], "weak_model": self.models[1]}
        routing |= {"max_tokens": learner.max_tokens, **self.reading}
        with publish(self.output) as folder:
            learner.save(folder)
            # A large model's two copies, the trained one and the router's, need not fit in memory together.
            del learner
            gc.collect()
            _write_json(folder / ROUTING_FILE, routing)
            scores = np.asarray(self.load_router(folder).score(self.rows.unseen), dtype=np.float64)
            held_out = self._held_out(scores, expected_gain)
            facts = self._facts(losses, provenance) | {"held_out": measured(held_out, refuse=False)}
            self._write_texts(folder, routing, scores, facts)
        state.clear()
        return TrainedRouter(self.output, self.rows.report, facts, held_out)

    def _held_out(self, scores: npt.NDArray[np.float64], expected_gain: npt.NDArray[np.float64]) -> HeldOut:
        tested = self.rows.tested
        return HeldOut(
            how=self.rows.how,
            scores={TRAINED: scores[len(self.rows.stop) :], LENGTH: length_scores(tested.prompts)},
            expected_gain=expected_gain,
            strong=tested.strong,
            weak=tested.weak,
            models=self.models,
            groups=group_numbers(tested.prompts, tested.groups),
        )

    def _identity(self, base: str, rows: LabelledRows) -> dict[str, Any]:
        """What decides the weights that come out."""
        digest = hashlib.sha256(json.dumps([dict(row) for row in rows.encoded]).encode())
        for column in (rows.labels, rows.weights, rows.train, rows.held_out):
            digest.update(np.ascontiguousarray(column).tobytes())
        options = {name: value for name, value in asdict(self.options).items() if name not in _NOT_COMPARED}
        identity = {"router": self.router, "base": base, "rows": digest.hexdigest(), "seed": self.seed}
        return identity | options

    def _gain_of_labels(self, count: int) -> npt.NDArray[np.float64]:
        """Mean gain of each label's rows among those learned from, shape (labels,); 0 for one that does not occur."""
        train, pairs = self.rows.train, self.rows.pairs
        weights = np.bincount(self.labels[train], pairs.weights[train], minlength=count)
        gains = np.bincount(self.labels[train], pairs.weights[train] * pairs.gain[train], minlength=count)
        return np.asarray(gains / np.where(weights > 0.0, weights, 1.0))

    def _facts(self, losses: tuple[float, ...], provenance: Provenance | None) -> dict[str, Any]:
        facts = recorded_facts(self.rows.pairs, provenance, self.rows.warnings, seed=self.seed)
        facts["versions"] |= {name: version(name) for name in ("torch", "transformers")}
        options = {name: value for name, value in asdict(self.options).items() if not isinstance(value, Path)}
        return facts | {
            "start": f"the configuration of {self.start}" if self.options.from_scratch else self.start,
            "options": options,
            "held_out_losses": [round(loss, 5) for loss in losses],
        }

    def _write_texts(
        self, folder: Path, routing: Mapping[str, Any], scores: npt.NDArray[np.float64], facts: Mapping[str, Any]
    ) -> None:
        advice = "; they are few, so calibrate on your own traffic" if len(scores) < _FEW else ""
        traffic = f"the {len(scores)} rows that no weight was fitted to{advice}"
        quantiles = {"reference_traffic": traffic, "reference_quantiles": reference_quantiles(scores)}
        _write_json(folder / ROUTING_FILE, {**routing, **quantiles})
        _write_json(folder / "training.json", facts)
        card = rows_card_text(self.output.name, self.opening, facts, reference_traffic=traffic)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _subset(rows: PairRows, kept: npt.NDArray[np.intp]) -> PairRows:
    return PairRows(
        prompts=tuple(rows.prompts[row] for row in kept),
        weights=rows.weights[kept],
        places=tuple(rows.places[row] for row in kept),
        licences=rows.licences,
        groups=tuple(rows.groups[row] for row in kept) if rows.groups else (),
        strong=rows.strong[kept],
        weak=rows.weak[kept],
    )


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
