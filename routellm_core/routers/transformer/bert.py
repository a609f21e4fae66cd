"""The ``bert`` router: a sequence classifier with three labels (RouteLLM, arXiv 2406.18665, section 4.2).

The labels are: the strong model wins, tie, the weak model wins; the score is 1 − P(tie) − P(weak wins). Prompts are
tokenised together, sorted by length and packed by a token budget, so that a long list costs little padding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings.base import encodable
from routellm_core.errors import CheckpointError, ConfigError, ScoringError
from routellm_core.metrics.scores import softmax
from routellm_core.routers.transformer.batching import plan_batches, run_batches, torch
from routellm_core.routers.transformer.loading import digest_of, load_model, load_tokenizer, weight_files
from routellm_core.routers.transformer.router import TransformerRouter
from routellm_core.types import FloatArray

__all__ = ["BERTRouter", "encode_prompts", "strong_win_rates", "token_limit"]

_CHARACTERS_PER_TOKEN = 64


def strong_win_rates(logits: npt.ArrayLike) -> FloatArray:
    """Return 1 − P(tie) − P(weak wins), shape (n,), from logits, shape (n, labels ≥ 3): all but the last two labels."""
    return np.asarray(softmax(logits)[:, :-2].sum(axis=1))


class BERTRouter(TransformerRouter):
    """Scores with a fine-tuned encoder such as ``routellm/bert_gpt4_augmented`` (XLM-RoBERTa-base).

    Args:
        checkpoint_path: a folder or a Hub id with safetensors weights, a configuration and a tokenizer; by default
            the published one.
        num_labels: the checkpoint's labels; the last two are tie and weak.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"`` …
        dtype: ``"auto"`` (see ``resolve_dtype``), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        max_tokens: prompts are cut after so many tokens; by default what a router trained here was trained with,
            or the most that the model takes (512).
        token_budget: most tokens of a batch, padding included; by default 4,096 on a CPU and 65,536 on a GPU.
        revision: the Hub branch, tag or commit.
        show_progress: draw a progress bar while scoring.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, incomplete or has another number of labels.
        ConfigError: an unknown device or dtype, or a limit out of range.
        MissingExtraError: PyTorch or transformers is not installed.
    """

    name: ClassVar[str] = "bert"
    window: ClassVar[int] = 8192
    token_budgets: ClassVar[tuple[int, int]] = (4096, 65_536)

    def __init__(
        self,
        *,
        checkpoint_path: str | Path = "routellm/bert_gpt4_augmented",
        num_labels: int = 3,
        device: str = "auto",
        dtype: str = "auto",
        max_tokens: int | None = None,
        token_budget: int | None = None,
        revision: str | None = None,
        show_progress: bool = False,
    ) -> None:
        super().__init__({name: value for name, value in locals().items() if name not in ("self", "__class__")})
        if num_labels < 3:
            raise ConfigError(f"bert: num_labels is {num_labels}; strong, tie and weak take at least 3")
        self._model = load_model(
            "AutoModelForSequenceClassification",
            self.folder,
            dtype=self.dtype,
            device=self.device,
            num_labels=num_labels,
        )
        self._tokenizer = load_tokenizer(self.folder)
        if self._tokenizer.pad_token is None:
            raise CheckpointError(f"the tokenizer of {self.folder} has no padding token")
        trained_with = self.saved.max_tokens
        self._max_tokens = token_limit(
            self._model.config, self._tokenizer, trained_with if max_tokens is None else max_tokens
        )
        self._quantiles = self.saved.quantiles if trained_with in (None, self._max_tokens) else None
        self._digest = digest_of([self.folder / "config.json", *weight_files(self.folder)])
        # Fast tokenizers keep truncation settings in themselves and refuse to be used from two threads at once.
        self._tokenizing = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Checkpoint digest, dtype and token limit."""
        return f"{self.name}:{self._digest}:{self.precision}:{self._max_tokens}"

    @property
    def prompt_limit(self) -> str:
        """Where a prompt is cut."""
        characters = self._max_tokens * _CHARACTERS_PER_TOKEN
        return f"Prompts are cut after {self._max_tokens} tokens (or {characters:,} characters)."

    def _score_window(self, prompts: Sequence[str], advance: Any) -> npt.NDArray[np.float64]:
        with self._tokenizing:
            encoded = encode_prompts(self._tokenizer, prompts, self._max_tokens)
        lengths = [len(ids) for ids in encoded["input_ids"]]

        def score_batch(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            columns = {name: [values[index] for index in indices] for name, values in encoded.items()}
            padded = self._tokenizer.pad(columns, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                logits = self._model(**padded).logits.float().cpu().numpy()
            if not np.isfinite(logits).all():
                raise ScoringError(
                    f"bert: the model returned NaN or infinity (dtype {self.dtype}); try dtype='float32'"
                )
            return np.asarray(strong_win_rates(logits), dtype=np.float64)

        batches = plan_batches(lengths, token_budget=self.token_budget)
        return run_batches(batches, score_batch, total=len(prompts), advance=advance)


def encode_prompts(tokenizer: Any, prompts: Sequence[str], max_tokens: int) -> Any:
    """Return the tokenizer's columns for ``prompts``, each cut after ``max_tokens``; training takes the same."""
    texts = [encodable(prompt[: max_tokens * _CHARACTERS_PER_TOKEN]) for prompt in prompts]
    return tokenizer(texts, truncation=True, max_length=max_tokens)


def token_limit(config: Any, tokenizer: Any, wanted: int | None) -> int:
    """Return the most tokens of a prompt: ``wanted``, or what model and tokenizer allow.

    Raises ConfigError where ``wanted`` is more than that, or leaves no room for the special tokens.
    """
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        # RoBERTa and its kin number positions from the padding token's id + 1.
        offset_kind = any(kind in config.model_type for kind in ("roberta", "camembert", "xmod", "mpnet", "longformer"))
        limits.append(int(positions) - ((config.pad_token_id or 0) + 1 if offset_kind else 0))
    limit = min(limits)
    if wanted is None:
        return limit
    smallest = tokenizer.num_special_tokens_to_add() + 1
    if not smallest <= wanted <= limit:
        raise ConfigError(f"bert: max_tokens is {wanted}; this checkpoint takes {smallest} to {limit}")
    return wanted
