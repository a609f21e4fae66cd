"""Train ``bert``: a sequence classifier with RouteLLM's three labels (strong wins, tie, weak wins) on a user's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._files import resolve_checkpoint
from routellm_core.errors import CheckpointError
from routellm_core.routers.transformer.batching import resolve_device, torch
from routellm_core.routers.transformer.bert import BERTRouter, encode_prompts, token_limit
from routellm_core.rows.labelled import PairRows, TrainingRows
from routellm_core.training.base import Provenance, TrainedRouter
from routellm_core.training.finetuning.base_models import load_base
from routellm_core.training.finetuning.loop import Encoded, seeded
from routellm_core.training.finetuning.options import FinetuningOptions, FinetuningProgress
from routellm_core.training.finetuning.transformer import SplitRows, TransformerTraining

__all__ = ["BertOptions", "train_bert"]

_LABELS: Final = 3
_MAX_TOKENS: Final = 512


@dataclass(frozen=True, kw_only=True)
class BertOptions(FinetuningOptions):
    """How to train; the same as for ``causal_llm``."""


def train_bert(
    rows: TrainingRows,
    *,
    output: str | Path,
    strong_model: str,
    weak_model: str,
    base: str | Path,
    options: BertOptions | None = None,
    test: TrainingRows | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    on_progress: Callable[[FinetuningProgress], None] | None = None,
    restart: bool = False,
) -> TrainedRouter:
    """Fine-tune (or train from scratch) and write a checkpoint that both this ``bert`` and RouteLLM's load.

    A training that was interrupted goes on where its state in ``output`` was saved; see ``Finetuning``.

    Args:
        rows: labelled rows; those about the pair are used.
        output: the folder.
        strong_model: name of the strong model in the rows.
        weak_model: name of the weak model.
        base: folder or Hub id of an encoder with a tokenizer.
        options: how to train.
        test: rows to measure on; None holds out a tenth.
        seed: of the split, the order of batches, new weights and dropout.
        provenance: what the card says of the data.
        on_progress: called after each step and each epoch.
        restart: discard the state of an interrupted training.

    Raises:
        ConfigError: too few rows, labels all alike, a prompt in both splits, or an interrupted training with other rows
            or options in the folder.
        CheckpointError: the base is missing, unsafe, quantised or no encoder.
        MissingExtraError: PyTorch or transformers is not installed.
    """
    chosen = BertOptions() if options is None else options
    split = SplitRows.of(rows, test, strong_model=strong_model, weak_model=weak_model, seed=seed)
    training = TransformerTraining(
        router="bert",
        models=(strong_model, weak_model),
        rows=split,
        labels=outcome_labels(split.pairs),
        options=chosen,
        output=Path(output),
        start=Path(base).name,
        opening=(
            f"A three-label classifier (strong wins, tie, weak wins) for {strong_model} (strong) against {weak_model} "
            "(weak). The score is the probability of the first label."
        ),
        seed=seed,
        reading={},
        start_learner=lambda: _Classifier(resolve_checkpoint(base), chosen, seed),
        load_router=lambda folder: BERTRouter(checkpoint_path=folder, device=chosen.device),
    )
    return training.run(provenance=provenance, on_progress=on_progress, restart=restart)


def outcome_labels(rows: PairRows) -> npt.NDArray[np.intp]:
    """Return 0 where the strong model is better, 1 for a tie, 2 where the weak model is better; shape (n,)."""
    return np.asarray(1 - np.sign(rows.gain), dtype=np.intp)


class _Classifier:
    """An encoder with three labels."""

    def __init__(self, source: Path, options: BertOptions, seed: int) -> None:
        device = resolve_device(options.device)
        with seeded(seed):
            self._base = load_base(
                "AutoModelForSequenceClassification", source, from_scratch=options.from_scratch, num_labels=_LABELS
            )
        self.base, self._tokenizer = self._base.digest, self._base.tokenizer
        if self._tokenizer.pad_token is None:
            raise CheckpointError(f"the tokenizer of {source} has no padding token; bert takes an encoder's")
        limit = partial(token_limit, self._base.model.config, self._tokenizer)
        self.max_tokens = min(limit(None), _MAX_TOKENS) if options.max_tokens is None else limit(options.max_tokens)
        self.model: Any = self._base.model.to(device)

    def encode(self, prompts: Sequence[str]) -> list[Encoded]:
        columns = encode_prompts(self._tokenizer, prompts, self.max_tokens)
        return [{name: values[row] for name, values in columns.items()} for row in range(len(prompts))]

    def label_logits(self, batch: Sequence[Encoded]) -> Any:
        columns = {name: [row[name] for row in batch] for name in batch[0]}
        padded = self._tokenizer.pad(columns, return_tensors="pt").to(self.model.device)
        return self.model(**padded).logits.float()

    def losses(self, batch: Sequence[Encoded], labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(self.label_logits(batch), labels, reduction="none")

    def save(self, folder: Path) -> None:
        self._base.save(folder)
