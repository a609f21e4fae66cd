"""Train ``causal_llm``: a causal language model that writes one of five scores after RouteLLM's messages.

What is made small, for each row: the cross-entropy, over the whole vocabulary, of the score token; and that of the few
tokens of the assistant header before it, which are the same for every row. Both, because RouteLLM decodes greedily: the
header and a score must be what the model writes, and not only the likeliest of five tokens. Training stops by the
cross-entropy over the five score tokens alone, which is the softmax that the router takes after the header.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.routers.transformer.batching import torch
from routellm_core.routers.transformer.causal_llm import CausalLLMRouter
from routellm_core.routers.transformer.prefix import last_logits
from routellm_core.routers.transformer.prompt import (
    DEFAULT_MESSAGES,
    LLAMA_3,
    SCORE_TOKENS,
    ClassifierEncoder,
    ClassifierPrompt,
)
from routellm_core.rows.labelled import PairRows
from routellm_core.training.finetuning.learner import Encoded, Learner
from routellm_core.training.finetuning.loop import seeded
from routellm_core.training.finetuning.options import CausalLLMOptions
from routellm_core.training.finetuning.transformer import Recipe

__all__ = ["CausalLLMOptions", "score_labels", "train_causal_llm"]

_MAX_TOKENS: Final = 1024


def score_labels(rows: PairRows, scores: str = "outcome") -> npt.NDArray[np.intp]:
    """Return the score that a row teaches, shape (n,), from 1 to 5; 4 and 5 say that the weak model is good enough.

    - ``"outcome"``: 5 where the weak model is better, 4 for a tie. Where the strong model is better, 3, 2 or 1: its
      lead is up to a third, up to two thirds, or more of the range of all qualities in the rows. With 0/1 labels and
      with preferences, whose wins are all of one size, every loss is a 1. So 1 − P(score ≥ 4) is P(strong strictly
      wins).
    - ``"quality"``: the weak answer's own quality, from 1 for the lowest of all qualities in the rows to 5 for the
      highest, rounded half up; grades from 1 to 5 are themselves. So 1 − P(score ≥ 4) is how likely the weak answer is
      below five eighths of the range, whatever the strong model would answer.
    """
    lowest = min(rows.strong.min(), rows.weak.min())
    extent = max(rows.strong.max(), rows.weak.max()) - lowest
    if scores == "quality":
        return np.asarray(1 + np.floor(4.0 * (rows.weak - lowest) / extent + 0.5), dtype=np.intp)
    # Rounded, so that a lead of exactly a third is not pushed over by the last bit.
    thirds = np.ceil(np.round(3.0 * rows.gain / extent, 9))
    return np.asarray(np.where(rows.gain > 0.0, 4 - thirds, np.where(rows.gain < 0.0, 5, 4)), dtype=np.intp)


class _Grader(Learner):
    """A causal language model with the classifier's messages."""

    def __init__(self, source: Path, options: CausalLLMOptions, seed: int) -> None:
        messages = options.messages or (source if ClassifierPrompt.is_in(source) else None)
        prompt = DEFAULT_MESSAGES if messages is None else ClassifierPrompt.load(Path(messages), LLAMA_3)
        with seeded(seed):
            super().__init__("AutoModelForCausalLM", source, options)
            self._encoder = ClassifierEncoder(self.tokenizer, prompt, SCORE_TOKENS, add_markers=True)
            model, size = self.model, len(self.tokenizer)
            # Many models have more embeddings than tokens; those that are left over serve as well.
            if model.get_input_embeddings().weight.shape[0] < size:
                # Drawn as the model's first ones were. The mean of the others, transformers' default, may be nearly
                # zero, which a normalisation blows up: its gradient drowns all others when gradients are clipped.
                model.resize_token_embeddings(size, mean_resizing=False)
        limit = getattr(model.config, "max_position_embeddings", None) or self.tokenizer.model_max_length
        wanted = min(int(limit), _MAX_TOKENS) if options.max_tokens is None else options.max_tokens
        self.max_tokens = self._encoder.limit_to(int(limit), wanted)
        model.to(self.device)

    def encode(self, prompts: Sequence[str]) -> list[Encoded]:
        header = self._encoder.header
        return [{"input_ids": [*tokens, *header]} for tokens in self._encoder.encode(prompts)]

    def label_logits(self, batch: Sequence[Encoded]) -> Any:
        return self._logits(batch, 1)[:, -1, self._encoder.score_ids]

    def losses(self, batch: Sequence[Encoded], labels: Any) -> Any:
        header = torch.tensor(self._encoder.header, device=labels.device)
        scores = torch.tensor(self._encoder.score_ids, device=labels.device)[labels]
        logits = self._logits(batch, len(header) + 1)
        wanted = torch.cat([header.expand(len(batch), -1), scores[:, None]], dim=1)
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        return each[:, -1] + each[:, :-1].mean(dim=1)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self._encoder.prompt.save(folder)

    def _logits(self, batch: Sequence[Encoded], count: int) -> Any:
        """Logits at the last ``count`` positions, each of which predicts what comes after it."""
        sequences = [row["input_ids"] for row in batch]
        return last_logits(self.model, sequences, count=count, pad_id=self._encoder.pad_id, use_cache=False)


train_causal_llm: Final = Recipe(
    router=CausalLLMRouter,
    options=CausalLLMOptions,
    opening=(
        "A causal language model that says from 1 to 5 how well {weak} (weak) will answer beside {strong} (strong). "
        "The score is 1 − P(4 or 5)."
    ),
    labels=lambda rows, options: score_labels(rows, options.scores) - 1,
    learner=_Grader,
    reading={"exact": False},  # what was trained, and stopped by, is the score after the header
)
"""Writes a folder that ``causal_llm`` loads; see :meth:`Recipe.__call__`."""
