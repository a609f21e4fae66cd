"""Train ``bert``: a sequence classifier with RouteLLM's three labels (strong wins, tie, weak wins) on a user's rows."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._files import resolve_checkpoint
from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.training.adaptation import folds_by_prompt
from routellm_core.training.cards import rows_card_text
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.outcome import (
    LENGTH,
    TRAINED,
    HeldOut,
    Provenance,
    TrainedRouter,
    length_scores,
    recorded_facts,
)
from routellm_core.training.rows import PairRows, TrainingRows, pair_rows

__all__ = ["BertOptions", "train_bert"]

logger = logging.getLogger(__name__)
_PARTS: Final = 10
"""The rows are split into tenths: one to stop by, one to measure on, eight to learn from."""


@dataclass(frozen=True)
class BertOptions:
    """How to train.

    Attributes:
        from_scratch: take the configuration and the tokenizer of the model, not its weights.
        epochs: at most so many passes over the rows.
        patience: stop after so many epochs in a row without a better held-out loss.
        learning_rate: the highest, reached after a tenth of the steps; it then falls to zero.
        token_budget: tokens of a batch, padding included.
        max_tokens: prompts are cut after so many.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` …
    """

    from_scratch: bool = False
    epochs: int = 3
    patience: int = 2
    learning_rate: float = 1e-5
    token_budget: int = 4096
    max_tokens: int = 512
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(
                f"epochs ({self.epochs}) must be at least 1 and the learning rate ({self.learning_rate}) above 0"
            )


def train_bert(
    rows: TrainingRows,
    *,
    output: str | Path,
    strong_model: str,
    weak_model: str,
    model: str | Path,
    options: BertOptions | None = None,
    test: TrainingRows | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    compare: Callable[[HeldOut], Mapping[str, Any]] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainedRouter:
    """Fine-tune (or train from scratch) and write a checkpoint that both this ``bert`` and RouteLLM's load.

    Args:
        rows: labelled rows; those about the pair are used.
        output: the folder.
        strong_model: name of the strong model in the rows.
        weak_model: name of the weak model.
        model: folder or Hub id of an encoder with a tokenizer.
        options: how to train.
        test: rows to measure on; None holds out a tenth.
        seed: of the split, the order of batches, new weights and dropout.
        provenance: what the card says of the data.
        compare: measures the held-out scores for the card.
        on_epoch: called with the epoch's number, from 1, and the held-out loss.

    Raises:
        ConfigError: too few rows, labels all alike, or a prompt in both splits.
        MissingExtraError: PyTorch or transformers is not installed.
    """
    from routellm_core.routers.bert import BERTRouter

    chosen = BertOptions() if options is None else options
    pairs = pair_rows(rows, strong_model=strong_model, weak_model=weak_model)
    warnings = (*check_rows(rows).warnings, *check_pair_rows(pairs))
    parts = folds_by_prompt(pairs.prompts, count=_PARTS, seed=seed)
    measured = parts == 1
    tested = _subset(pairs, measured)
    if test is not None:
        tested, measured = pair_rows(test, strong_model=strong_model, weak_model=weak_model), np.zeros_like(measured)
        refuse_leakage(pairs, tested)
    trainer = _Trainer(resolve_checkpoint(model), chosen, seed)
    losses = trainer.run(pairs, np.flatnonzero((parts != 0) & ~measured), np.flatnonzero(parts == 0), on_epoch)
    folder = Path(output)
    trainer.save(folder)
    router = BERTRouter(checkpoint_path=folder, device=chosen.device)
    scores = np.asarray(router.score(tested.prompts), dtype=np.float64)
    held_out = HeldOut(
        how="Rows of a test split" if test is not None else "A tenth of the prompts, not trained on",
        scores={TRAINED: scores, LENGTH: length_scores(tested.prompts)},
        expected_gain=trainer.expected_gain(tested.prompts),
        strong=tested.strong,
        weak=tested.weak,
        models=(strong_model, weak_model),
    )
    facts = {
        **recorded_facts(pairs, provenance, warnings, seed=seed),
        "start": f"the configuration of {Path(model).name}" if chosen.from_scratch else Path(model).name,
        "options": asdict(chosen),
        "held_out_losses": losses,
        "held_out": {} if compare is None else dict(compare(held_out)),
    }
    _write_card(folder, facts, (strong_model, weak_model))
    return TrainedRouter(folder, check_rows(rows), facts, held_out)


class _Trainer:
    """A model, its tokenizer and the loop."""

    def __init__(self, source: Path, options: BertOptions, seed: int) -> None:
        from routellm_core.routers._torch import resolve_device

        self._torch = import_extra("torch", extra="train", purpose="Training bert")
        transformers = import_extra("transformers", extra="torch", purpose="Training bert")
        self._options, self._seed = options, seed
        self._device = resolve_device(options.device)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        auto = transformers.AutoModelForSequenceClassification
        with self._torch.random.fork_rng(), self._torch.device("cpu"):
            self._torch.manual_seed(seed)
            if options.from_scratch:
                config = transformers.AutoConfig.from_pretrained(source, num_labels=3, trust_remote_code=False)
                self._model = auto.from_config(config)
            else:
                self._model = auto.from_pretrained(
                    source, num_labels=3, use_safetensors=True, trust_remote_code=False, ignore_mismatched_sizes=True
                )
        self._model.to(self._device)

    def run(
        self,
        rows: PairRows,
        train: npt.NDArray[np.intp],
        held_out: npt.NDArray[np.intp],
        on_epoch: Callable[[int, float], None] | None,
    ) -> list[float]:
        """Train until the held-out loss stops falling; keep the best epoch's weights.

        Returns:
            the held-out loss after each epoch.
        """
        torch, options = self._torch, self._options
        encoded = self._tokenizer(list(rows.prompts), truncation=True, max_length=options.max_tokens)
        labels = np.where(rows.gain > 0, 0, np.where(rows.gain < 0, 2, 1))
        batches = self._batches(encoded, train)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=options.learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_then_falling(len(batches) * options.epochs))
        generator = np.random.default_rng(self._seed)
        losses: list[float] = []
        best: Any = None
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            for epoch in range(1, options.epochs + 1):
                self._model.train()
                for number in generator.permutation(len(batches)):
                    loss, weight = self._loss(encoded, labels, rows.weights, batches[number])
                    optimizer.zero_grad()
                    (loss / max(weight, 1e-9)).backward()
                    torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                losses.append(self._held_out_loss(encoded, labels, rows.weights, held_out))
                logger.info("epoch %d: held-out loss %.4f", epoch, losses[-1])
                if on_epoch is not None:
                    on_epoch(epoch, losses[-1])
                if losses[-1] == min(losses):
                    best = copy.deepcopy(self._model.state_dict())
                elif epoch - 1 - int(np.argmin(losses)) >= options.patience:
                    break
        if best is None:
            raise ConfigError("the loss was not a number after any epoch; lower the learning rate")
        self._model.load_state_dict(best)
        return [round(loss, 5) for loss in losses]

    def save(self, folder: Path) -> None:
        """Write weights as safetensors, configuration and tokenizer."""
        self._model.eval().to("cpu").save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def expected_gain(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return P(strong wins) − P(weak wins), shape (n,); after :meth:`save`, hence on the CPU."""
        encoded = self._tokenizer(list(prompts), truncation=True, max_length=self._options.max_tokens)
        gain = np.empty(len(prompts))
        with self._torch.inference_mode():
            for batch in self._batches(encoded, np.arange(len(prompts))):
                columns = {name: [values[row] for row in batch] for name, values in encoded.items()}
                logits = self._model(**self._tokenizer.pad(columns, return_tensors="pt")).logits.float()
                likely = logits.softmax(dim=1).numpy()
                gain[batch] = likely[:, 0] - likely[:, 2]
        return gain

    def _batches(self, encoded: Any, members: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
        from routellm_core.routers._torch import plan_batches

        lengths = [len(encoded["input_ids"][row]) for row in members]
        return [members[part] for part in plan_batches(lengths, token_budget=self._options.token_budget, max_rows=32)]

    def _loss(self, encoded: Any, labels: Any, weights: Any, batch: npt.NDArray[np.intp]) -> tuple[Any, float]:
        """Weighted sum of cross-entropies, and the sum of weights."""
        torch = self._torch
        columns = {name: [values[row] for row in batch] for name, values in encoded.items()}
        logits = self._model(**self._tokenizer.pad(columns, return_tensors="pt").to(self._device)).logits
        target = torch.as_tensor(labels[batch], device=self._device)
        each = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
        factors = torch.as_tensor(weights[batch], device=self._device, dtype=each.dtype)
        return (each * factors).sum(), float(weights[batch].sum())

    def _held_out_loss(self, encoded: Any, labels: Any, weights: Any, members: npt.NDArray[np.intp]) -> float:
        self._model.eval()
        with self._torch.inference_mode():
            parts = [self._loss(encoded, labels, weights, batch) for batch in self._batches(encoded, members)]
        return sum(float(loss) for loss, _ in parts) / max(sum(weight for _, weight in parts), 1e-9)


def _warm_then_falling(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def _subset(rows: PairRows, kept: npt.NDArray[np.bool_]) -> PairRows:
    places = np.flatnonzero(kept)
    return PairRows(
        prompts=tuple(rows.prompts[row] for row in places),
        weights=rows.weights[kept],
        places=tuple(rows.places[row] for row in places),
        licences=rows.licences,
        strong=rows.strong[kept],
        weak=rows.weak[kept],
    )


def _write_card(folder: Path, facts: Mapping[str, Any], models: tuple[str, str]) -> None:
    opening = (
        f"A three-label classifier (strong wins, tie, weak wins) for {models[0]} (strong) against {models[1]} (weak). "
        "The score is the probability of the first label."
    )
    card = rows_card_text(folder.name, opening, facts, reference_traffic="none; calibrate on your own traffic")
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
