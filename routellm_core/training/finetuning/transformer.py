"""From labelled rows to a transformer's checkpoint: what ``bert`` and ``causal_llm`` have in common around the loop."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._files import resolve_checkpoint
from routellm_core._publish import check_writable_folder, publish
from routellm_core.metrics.held_out import LENGTH, TRAINED, HeldOut, length_scores
from routellm_core.routers.base import Router
from routellm_core.routers.reference import ROUTING_FILE
from routellm_core.rows.labelled import PairRows, TrainingRows, pair_rows
from routellm_core.training.base import Provenance, TrainedRouter, measured, recorded_facts, rows_card_text
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.crossfit import group_numbers, grouped_folds
from routellm_core.training.finetuning.learner import Learner
from routellm_core.training.finetuning.loop import Finetuning, LabelledRows, label_probabilities
from routellm_core.training.finetuning.options import FinetuningOptions, FinetuningProgress
from routellm_core.training.finetuning.state import FinetuningState
from routellm_core.training.matrix_factorization import reference_quantiles

__all__ = ["Recipe"]

Ints = npt.NDArray[np.intp]
_PARTS: Final = 10
"""The rows are split into tenths: one to stop by, one to measure on, eight to learn from."""
_NOT_COMPARED: Final = ("device", "save_steps", "messages")
"""Options that may change when a training is taken up again, and one that shows in the rows' tokens."""
_FEW: Final = 200


@dataclass(frozen=True, eq=False)
class Recipe:
    """How one kind of transformer is trained.

    Attributes:
        router: the class of the finished router.
        options: the class of its options.
        opening: what the card says first, with ``{strong}`` and ``{weak}``.
        labels: from rows and options to each row's label, from 0, shape (n,).
        learner: from the base's folder, options and seed to the model to train, on its device.
        reading: what ``routing.json`` tells the router besides.
    """

    router: Callable[..., Router]
    options: Callable[[], Any]
    opening: str
    labels: Callable[[PairRows, Any], Ints]
    learner: Callable[[Path, Any, int], Learner]
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        rows: TrainingRows,
        *,
        output: str | Path,
        strong_model: str,
        weak_model: str,
        base: str | Path,
        options: FinetuningOptions | None = None,
        test: TrainingRows | None = None,
        seed: int = 0,
        provenance: Provenance | None = None,
        on_progress: Callable[[FinetuningProgress], None] | None = None,
        restart: bool = False,
    ) -> TrainedRouter:
        """Fine-tune every weight (or train from scratch), write the checkpoint, and measure what was written.

        A training that was interrupted goes on where its state in ``output`` was saved; see ``Finetuning``.

        Args:
            rows: labelled rows; those about the pair are used.
            output: the folder.
            strong_model: name of the strong model in the rows.
            weak_model: name of the weak model.
            base: folder or Hub id of a model with a tokenizer: an encoder for ``bert``, a causal language model for
                ``causal_llm``, where score tokens and the chat format's markers are added if the base lacks them.
            options: how to train.
            test: rows to measure on; None holds out a tenth.
            seed: of the split, the order of batches, new weights and dropout.
            provenance: what the card says of the data.
            on_progress: called after each step and each epoch.
            restart: discard the state of an interrupted training.

        Raises:
            ConfigError: too few rows, labels all alike, a prompt in both splits, or an interrupted training with other
                rows or options in the folder.
            CheckpointError: the base is missing, unsafe, quantised or of another kind.
            MissingExtraError: PyTorch or transformers is not installed.
        """
        chosen = self.options() if options is None else options
        split = _SplitRows.of(rows, test, strong_model, weak_model, seed)
        pairs, folder, labels = split.pairs, Path(output), self.labels(split.pairs, chosen)
        check_writable_folder(folder)
        learner = self.learner(resolve_checkpoint(base), chosen, seed)
        learned = LabelledRows(learner.encode(pairs.prompts), labels, pairs.weights, split.train, split.stop)
        routing: dict[str, Any] = {"router": getattr(self.router, "name", ""), "strong_model": strong_model}
        routing |= {"weak_model": weak_model, "max_tokens": learner.max_tokens, **self.reading}
        run = {"router": routing["router"], "base": learner.base, "rows": _digest(learned), "seed": seed}
        run |= {name: value for name, value in asdict(chosen).items() if name not in _NOT_COMPARED}
        state = FinetuningState(folder, run, restart=restart)
        losses = Finetuning(learner, learned, chosen, seed=seed, state=state).run(on_progress)
        encoded = learner.encode(split.tested.prompts)
        likely = label_probabilities(learner, encoded, token_budget=chosen.token_budget)
        expected_gain = likely @ _gain_of_labels(learned, pairs, likely.shape[1])
        facts = recorded_facts(pairs, provenance, split.warnings, seed=seed)
        facts["versions"] |= {name: version(name) for name in ("torch", "transformers")}
        facts["start"] = f"the configuration of {Path(base).name}" if chosen.from_scratch else Path(base).name
        facts["options"] = {name: value for name, value in asdict(chosen).items() if not isinstance(value, Path)}
        facts["held_out_losses"] = [round(loss, 5) for loss in losses]
        with publish(folder) as staged:
            learner.save(staged)
            # A large model's two copies, the trained one and the router's, need not fit in memory together.
            del learner
            gc.collect()
            _write_json(staged / ROUTING_FILE, routing)
            router = self.router(checkpoint_path=staged, device=chosen.device)
            scores = np.asarray(router.score(split.unseen), dtype=np.float64)
            held_out = split.held_out(scores[len(split.stop) :], expected_gain, (strong_model, weak_model))
            facts["held_out"] = measured(held_out, refuse=False)
            advice = "; they are few, so calibrate on your own traffic" if len(scores) < _FEW else ""
            traffic = f"the {len(scores)} rows that no weight was fitted to{advice}"
            quantiles = {"reference_traffic": traffic, "reference_quantiles": reference_quantiles(scores)}
            _write_json(staged / ROUTING_FILE, {**routing, **quantiles})
            _write_json(staged / "training.json", facts)
            opening = self.opening.format(strong=strong_model, weak=weak_model)
            card = rows_card_text(folder.name, opening, facts, reference_traffic=traffic)
            (staged / "README.md").write_text(card, encoding="utf-8")
        state.clear()
        return TrainedRouter(folder, check_rows(rows), facts, held_out)


@dataclass(frozen=True, eq=False)
class _SplitRows:
    """The rows of a pair, checked and split by prompt."""

    pairs: PairRows  # all that may be learned from or stopped by
    train: Ints  # those to learn from
    stop: Ints  # those to stop by
    tested: PairRows  # rows to measure on, in none of both
    how: str  # how those were held out, in words
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls, rows: TrainingRows, test: TrainingRows | None, strong_model: str, weak_model: str, seed: int
    ) -> _SplitRows:
        """Check and split, or raise ConfigError: too few rows, labels all alike, or a prompt in both splits."""
        pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
        warnings = (*check_rows(rows).warnings, *check_pair_rows(pairs))
        parts = grouped_folds(group_numbers(pairs.prompts, pairs.groups), count=_PARTS, seed=seed)
        stop = np.flatnonzero(parts == 0)
        if test is not None:
            tested = pair_rows(test, strong_model=strong_model, weak_model=weak_model)
            refuse_leakage(pairs, tested)
            return cls(pairs, np.flatnonzero(parts != 0), stop, tested, "Rows of a test split", warnings)
        tested = _subset(pairs, np.flatnonzero(parts == 1))
        return cls(pairs, np.flatnonzero(parts > 1), stop, tested, "A tenth of the prompts, not trained on", warnings)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Prompts that no weight was fitted to: those stopped by and those measured on."""
        return (*(self.pairs.prompts[row] for row in self.stop), *self.tested.prompts)

    def held_out(
        self, scores: npt.NDArray[np.float64], expected_gain: npt.NDArray[np.float64], models: tuple[str, str]
    ) -> HeldOut:
        """Return the tested rows with their scores, shape (n,)."""
        return HeldOut(
            how=self.how,
            scores={TRAINED: scores, LENGTH: length_scores(self.tested.prompts)},
            expected_gain=expected_gain,
            strong=self.tested.strong,
            weak=self.tested.weak,
            models=models,
            groups=group_numbers(self.tested.prompts, self.tested.groups),
        )


def _digest(rows: LabelledRows) -> str:
    digest = hashlib.sha256(json.dumps([dict(row) for row in rows.encoded]).encode())
    for column in (rows.labels, rows.weights, rows.train, rows.held_out):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _gain_of_labels(rows: LabelledRows, pairs: PairRows, count: int) -> npt.NDArray[np.float64]:
    """Mean gain of each label's rows among those learned from, shape (labels,); 0 for one that does not occur."""
    train = rows.train
    weights = np.bincount(rows.labels[train], pairs.weights[train], minlength=count)
    gains = np.bincount(rows.labels[train], pairs.weights[train] * pairs.gain[train], minlength=count)
    return np.asarray(gains / np.where(weights > 0.0, weights, 1.0))


def _subset(rows: PairRows, kept: Ints) -> PairRows:
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
