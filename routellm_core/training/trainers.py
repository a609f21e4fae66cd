"""The trainers that ship: what ``routellm train`` asks for and hands to each training function, which it imports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from routellm_core.training.base import TrainedRouter, TrainingRequest
from routellm_core.training.finetuning.options import FinetuningOptions

__all__ = ["BertTrainer", "CausalLLMTrainer", "MfTrainer", "SwTrainer"]

OnProgress = Callable[[Any], None] | None


@dataclass(frozen=True)
class _MfOptions:
    start: str | None = field(
        default=None,
        metadata={"names": ("--from",), "help": "Adapt this router: default, minilm, or a folder.", "shown": "none"},
    )
    embedder: str | None = field(default=None, metadata={"help": "Without --from.", "shown": "static"})


class MfTrainer:
    """Trains ``mf``."""

    summary: ClassVar[str] = (
        "Train mf for your pair of models: rows with prompt, strong, weak; or prompt, model, score; or battles."
    )
    Options: ClassVar[type] = _MfOptions

    def train(self, request: TrainingRequest, options: _MfOptions, *, on_progress: OnProgress = None) -> TrainedRouter:
        """Train; seconds, so without progress."""
        del on_progress
        from routellm_core.training.train_mf import train_matrix_factorization

        return train_matrix_factorization(**request.arguments(), **asdict(options))


@dataclass(frozen=True)
class _SwOptions:
    embedder: str = field(default="static", metadata={"help": "Embeds the battles' prompts."})
    num_tiers: int = field(default=10, metadata={"help": "Tiers that the models are split into.", "min": 1})
    dtype: str | None = field(default=None, metadata={"help": "float32, float16 or int8.", "shown": "by size"})


class SwTrainer:
    """Trains ``sw_ranking``."""

    summary: ClassVar[str] = "Build an sw_ranking index from battles, or from strong and weak results on prompts."
    Options: ClassVar[type] = _SwOptions

    def train(self, request: TrainingRequest, options: _SwOptions, *, on_progress: OnProgress = None) -> TrainedRouter:
        """Build the index; seconds, so without progress."""
        del on_progress
        from routellm_core.training.train_sw import train_similarity_index

        return train_similarity_index(**request.arguments(), **asdict(options))


_RESTART = {"help": "Discard an interrupted training in --output, instead of going on."}


@dataclass(frozen=True, kw_only=True)
class _BertOptions(FinetuningOptions):
    base: str = field(
        default="FacebookAI/xlm-roberta-base",
        metadata={"names": ("--base", "--model"), "help": "Encoder to start from: a folder or a Hub id."},
    )
    restart: bool = field(default=False, metadata=_RESTART)


class BertTrainer:
    """Trains ``bert``."""

    summary: ClassVar[str] = "Fine-tune an encoder with three labels: strong wins, tie, weak wins."
    Options: ClassVar[type] = _BertOptions

    def train(
        self, request: TrainingRequest, options: _BertOptions, *, on_progress: OnProgress = None
    ) -> TrainedRouter:
        """Fine-tune."""
        from routellm_core.training.train_bert import BertOptions, train_bert

        chosen = asdict(options)
        base, restart = chosen.pop("base"), chosen.pop("restart")
        return train_bert(
            **request.arguments(), base=base, options=BertOptions(**chosen), on_progress=on_progress, restart=restart
        )


@dataclass(frozen=True, kw_only=True)
class _CausalLLMOptions(FinetuningOptions):
    base: str = field(metadata={"help": "Causal language model to start from: a folder or a Hub id."})
    scores: str = field(
        default="outcome", metadata={"help": "outcome, or quality: the weak answer's grade is the score."}
    )
    messages: Path | None = field(
        default=None, metadata={"help": "Folder with the two message files.", "shown": "the base's, or our own"}
    )
    restart: bool = field(default=False, metadata=_RESTART)


class CausalLLMTrainer:
    """Trains ``causal_llm``."""

    summary: ClassVar[str] = "Fine-tune a causal language model to score prompts from 1 to 5."
    Options: ClassVar[type] = _CausalLLMOptions

    def train(
        self, request: TrainingRequest, options: _CausalLLMOptions, *, on_progress: OnProgress = None
    ) -> TrainedRouter:
        """Fine-tune."""
        from routellm_core.training.train_causal_llm import CausalLLMOptions, train_causal_llm

        chosen = asdict(options)
        base, restart = chosen.pop("base"), chosen.pop("restart")
        return train_causal_llm(
            **request.arguments(),
            base=base,
            options=CausalLLMOptions(**chosen),
            on_progress=on_progress,
            restart=restart,
        )
