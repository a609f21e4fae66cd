"""Train ``bert``: a sequence classifier with RouteLLM's three labels (strong wins, tie, weak wins) on a user's rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.errors import CheckpointError
from routellm_core.routers.transformer.batching import torch
from routellm_core.routers.transformer.bert import BERTRouter, encode_prompts, token_limit
from routellm_core.rows.labelled import PairRows
from routellm_core.training.finetuning.learner import Encoded, Learner
from routellm_core.training.finetuning.loop import seeded
from routellm_core.training.finetuning.options import BertOptions
from routellm_core.training.finetuning.transformer import Recipe

__all__ = ["BertOptions", "outcome_labels", "train_bert"]

_MAX_TOKENS: Final = 512


def outcome_labels(rows: PairRows) -> npt.NDArray[np.intp]:
    """Return 0 where the strong model is better, 1 for a tie, 2 where the weak model is better; shape (n,)."""
    return np.asarray(1 - np.sign(rows.gain), dtype=np.intp)


class _Classifier(Learner):
    """An encoder with three labels."""

    def __init__(self, source: Path, options: BertOptions, seed: int) -> None:
        with seeded(seed):
            super().__init__("AutoModelForSequenceClassification", source, options, num_labels=3)
        if self.tokenizer.pad_token is None:
            raise CheckpointError(f"the tokenizer of {source} has no padding token; bert takes an encoder's")
        limit = partial(token_limit, self.model.config, self.tokenizer)
        self.max_tokens = min(limit(None), _MAX_TOKENS) if options.max_tokens is None else limit(options.max_tokens)
        self.model.to(self.device)

    def encode(self, prompts: Sequence[str]) -> list[Encoded]:
        columns = encode_prompts(self.tokenizer, prompts, self.max_tokens)
        return [{name: values[row] for name, values in columns.items()} for row in range(len(prompts))]

    def label_logits(self, batch: Sequence[Encoded]) -> Any:
        columns = {name: [row[name] for row in batch] for name in batch[0]}
        padded = self.tokenizer.pad(columns, return_tensors="pt").to(self.device)
        return self.model(**padded).logits.float()

    def losses(self, batch: Sequence[Encoded], labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(self.label_logits(batch), labels, reduction="none")


train_bert: Final = Recipe(
    router=BERTRouter,
    options=BertOptions,
    opening=(
        "A three-label classifier (strong wins, tie, weak wins) for {strong} (strong) against {weak} (weak). The score "
        "is the probability of the first label."
    ),
    labels=lambda rows, _options: outcome_labels(rows),
    learner=_Classifier,
)
"""Writes a checkpoint that both this ``bert`` and RouteLLM's load; see :meth:`Recipe.__call__`."""
