"""The ``causal_llm`` router: a causal language model grades how well the weak model would answer, from 1 to 5.

RouteLLM (arXiv 2406.18665, section 4.2) generates up to six tokens per prompt and looks for the first score token
among them. A model trained for this always writes the assistant header first, so here the header is appended to the
prompt and one forward pass gives the score tokens' logits. The same pass shows whether greedy decoding would have
written exactly that; where not, the prompt is decoded as RouteLLM does. See
``docs/decisions/0003-causal-single-pass.md``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import CheckpointError, ConfigError, ScoringError
from routellm_core.metrics.scores import softmax
from routellm_core.routers.transformer.batching import plan_batches, run_batches, torch
from routellm_core.routers.transformer.loading import digest_of, load_model, load_tokenizer, transformers, weight_files
from routellm_core.routers.transformer.prefix import PrefixedModel, common_prefix
from routellm_core.routers.transformer.prompt import SCORE_TOKENS, ChatFormat, ClassifierEncoder, ClassifierPrompt
from routellm_core.routers.transformer.router import TransformerRouter
from routellm_core.types import FloatArray

__all__ = ["CausalLLMRouter", "strong_win_rates"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

_QUANTIZATIONS = ("8bit", "4bit")
_GOOD_ENOUGH = 4
"""RouteLLM's score threshold, for which a checkpoint's reference quantiles hold."""


def strong_win_rates(logits: npt.ArrayLike, score_threshold: int) -> FloatArray:
    """Return 1 − P(score ≥ threshold), shape (n,), from the logits of the scores 1, 2, …, shape (n, outputs)."""
    return np.asarray(softmax(logits)[:, : score_threshold - 1].sum(axis=1))


class CausalLLMRouter(TransformerRouter):
    """Scores with a fine-tuned causal language model such as ``routellm/causal_llm_gpt4_augmented`` (Llama 3 8B).

    Args:
        checkpoint_path: a folder or a Hub id with safetensors weights, ``system_ft_v5.txt`` and
            ``classifier_ft_v5.txt``; by default the published one.
        score_threshold: the lowest score at which the weak model is good enough.
        special_tokens: the score tokens, ``[[1]]`` … ``[[n]]`` in this order; added to the tokenizer where missing.
        num_outputs: how many there are.
        model_type: ``"causal"``.
        model_id: where the tokenizer comes from if the checkpoint has none.
        flash_attention_2: use that attention kernel (needs the package flash-attn and a GPU).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"`` …
        dtype: ``"auto"`` (see ``resolve_dtype``), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        quantization: ``"8bit"`` or ``"4bit"`` loads quantised weights (needs bitsandbytes and accelerate).
        max_tokens: most tokens of a prompt with the messages around it; by default what a router trained here was
            trained with, or the model's positions.
        token_budget: most tokens of a batch, padding and prefix included; by default 2,048 on a CPU, 32,768 on a GPU.
        exact: decode the prompts for which greedy decoding would not write the header and a score, as RouteLLM does;
            False reads the scores after the header regardless. By default True, but for a checkpoint that was trained
            here to be read after the header.
        prompt_format: ``"llama-3"``, or a mapping with ``system``, ``user`` and ``assistant_header`` for other models.
        revision: the Hub branch, tag or commit.
        show_progress: draw a progress bar while scoring.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe or incomplete, or lacks room for the score tokens.
        ConfigError: options out of range or contradictory.
        MissingExtraError: PyTorch, transformers or bitsandbytes is not installed.
    """

    name: ClassVar[str] = "causal_llm"
    window: ClassVar[int] = 4096
    token_budgets: ClassVar[tuple[int, int]] = (2048, 32_768)

    def __init__(
        self,
        *,
        checkpoint_path: str | Path = "routellm/causal_llm_gpt4_augmented",
        score_threshold: int = _GOOD_ENOUGH,
        special_tokens: Sequence[str] = SCORE_TOKENS,
        num_outputs: int = 5,
        model_type: str = "causal",
        model_id: str = "meta-llama/Meta-Llama-3-8B",
        flash_attention_2: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        quantization: str | None = None,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        exact: bool | None = None,
        prompt_format: str | Mapping[str, str] = "llama-3",
        revision: str | None = None,
        show_progress: bool = False,
    ) -> None:
        super().__init__({name: value for name, value in locals().items() if name not in ("self", "__class__")})
        _check_options(score_threshold, special_tokens, num_outputs, model_type, quantization)
        self._threshold = score_threshold
        prompt = ClassifierPrompt.load(self.folder, ChatFormat.from_option(prompt_format))
        self._encoder = ClassifierEncoder(load_tokenizer(self.folder, model_id), prompt, special_tokens)
        model = self._load(quantization, flash_attention_2)
        saved = self.saved
        self._exact = saved.exact is not False if exact is None else exact
        positions = getattr(model.config, "max_position_embeddings", None) or self._encoder.tokenizer.model_max_length
        self._max_tokens = self._encoder.limit_to(
            int(positions), saved.max_tokens if max_tokens is None else max_tokens
        )
        as_trained = saved.max_tokens in (None, self._max_tokens) and prompt_format == "llama-3"
        self._quantiles = saved.quantiles if as_trained and score_threshold == _GOOD_ENOUGH else None
        first, second = self._encoder.encode(["a", "9 z"])
        self._model = PrefixedModel(model, common_prefix(first, second), self._encoder.pad_id)
        messages = sorted(self.folder.glob("*_ft_v5.txt"))
        self._digest = digest_of([self.folder / "config.json", *messages, *weight_files(self.folder)])

    @property
    def fingerprint(self) -> str:
        """Checkpoint digest and every option that moves scores."""
        chat = self._encoder.prompt.chat
        messages = hashlib.sha256(f"{chat.system}\0{chat.user}\0{chat.assistant_header}".encode()).hexdigest()[:8]
        return (
            f"{self.name}:{self._digest}:{messages}:{self.precision}:{self._threshold}:{self._max_tokens}:{self._exact}"
        )

    @property
    def prompt_limit(self) -> str:
        """Where a prompt is cut."""
        return (
            f"Prompts are cut at their end so that, with the messages around them, they take at most "
            f"{self._encoder.room} tokens (and {self._encoder.max_characters:,} characters)."
        )

    def describe(self) -> dict[str, Any]:
        """Return score threshold and shared prefix beside the facts of every transformer."""
        facts = {"score_threshold": self._threshold, "shared_prefix_tokens": len(self._model.prefix)}
        return {**super().describe(), **facts}

    def _load(self, quantization: str | None, flash_attention_2: bool) -> Any:
        options: dict[str, Any] = {"attn_implementation": "flash_attention_2"} if flash_attention_2 else {}
        device = self.device
        if quantization is not None:
            import_extra("bitsandbytes", extra="quantize", purpose=f"quantization={quantization!r}")
            import_extra("accelerate", extra="quantize", purpose=f"quantization={quantization!r}")
            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_8bit=quantization == "8bit",
                load_in_4bit=quantization == "4bit",
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=self.dtype,
            )
            options["device_map"], device = {"": self.device}, None
        model = load_model("AutoModelForCausalLM", self.folder, dtype=self.dtype, device=device, **options)
        rows = model.get_input_embeddings().weight.shape[0]
        if max(self._encoder.score_ids) >= rows:
            raise CheckpointError(
                f"{self.folder / 'config.json'}: the model has {rows} token embeddings, but the score tokens go up to "
                f"id {max(self._encoder.score_ids)}; it was not trained as a score classifier"
            )
        return model

    def _score_window(self, prompts: Sequence[str], advance: Any) -> npt.NDArray[np.float64]:
        whole = self._encoder.encode(prompts)
        prefix = self._model.prefix
        # A tokenizer may merge a prompt's first characters into the prefix; such a prompt goes without the cache.
        continues = [bool(prefix) and ids[: len(prefix)] == prefix and len(ids) > len(prefix) for ids in whole]
        results = np.full(len(prompts), np.nan)
        for prefixed in (True, False):
            chosen = np.flatnonzero(np.asarray(continues, dtype=bool) == prefixed)
            start = len(prefix) if prefixed else 0
            sequences = [[*whole[int(index)][start:], *self._encoder.header] for index in chosen]
            batches = plan_batches(
                [len(sequence) for sequence in sequences], token_budget=self.token_budget, fixed_length=start
            )
            score_batch = partial(self._score_batch, sequences, prefixed)
            results[chosen] = run_batches(batches, score_batch, total=len(chosen), advance=advance)
        return self._decode_rest(whole, results)

    def _score_batch(
        self, sequences: Sequence[Sequence[int]], prefixed: bool, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the scores of the sequences at ``rows``, −1 where greedy decoding would write something else."""
        batch = [sequences[int(row)] for row in rows]
        logits = self._model.last_logits(batch, count=len(self._encoder.header) + 1, prefixed=prefixed)
        scores = self._win_rates(logits[:, -1, self._encoder.score_ids])
        if self._exact:
            written = logits.argmax(dim=-1).cpu()
            as_expected = (written[:, :-1] == torch.tensor(self._encoder.header)).all(dim=1)
            as_expected &= torch.isin(written[:, -1], torch.tensor(self._encoder.score_ids))
            scores[~as_expected.numpy()] = -1.0
        return scores

    def _decode_rest(self, whole: Sequence[Sequence[int]], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rest = np.flatnonzero(scores < 0)
        if len(rest):
            _log.warning("%d of %d prompts were decoded: no score right after the header", len(rest), len(scores))
        for index in rest:
            tokens, logits = self._model.generate(whole[int(index)], max_new_tokens=self._encoder.new_tokens)
            found = next((step for step, token in enumerate(tokens) if token in self._encoder.score_ids), None)
            # RouteLLM sends a prompt without a score to the strong model.
            scores[index] = 1.0 if found is None else self._win_rates(logits[found][None, self._encoder.score_ids])[0]
        return scores

    def _win_rates(self, logits: Any) -> npt.NDArray[np.float64]:
        values = logits.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ScoringError(f"causal_llm: the model returned NaN or infinity (dtype {self.dtype}); try 'bfloat16'")
        return np.asarray(strong_win_rates(values, self._threshold), dtype=np.float64)


def _check_options(
    score_threshold: int, special_tokens: Sequence[str], num_outputs: int, model_type: str, quantization: str | None
) -> None:
    if model_type != "causal":
        raise ConfigError(f"causal_llm: model_type {model_type!r} is not 'causal'")
    if list(special_tokens) != [f"[[{score}]]" for score in range(1, num_outputs + 1)]:
        raise ConfigError(
            f"causal_llm: special_tokens must be [[1]] to [[{num_outputs}]] in order (num_outputs={num_outputs}), "
            f"got {', '.join(special_tokens)}"
        )
    if not 1 <= score_threshold <= num_outputs:
        raise ConfigError(f"causal_llm: score_threshold is {score_threshold}; it must be from 1 to {num_outputs}")
    if quantization not in (None, *_QUANTIZATIONS):
        raise ConfigError(f"causal_llm: quantization {quantization!r} is not one of {', '.join(_QUANTIZATIONS)}")
