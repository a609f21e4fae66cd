"""The trainers that ship: what ``routellm train`` asks for and hands to each training function, which it imports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, ClassVar

from routellm_core.training.base import TrainedRouter, TrainingRequest
from routellm_core.training.finetuning.options import BertOptions, CausalLLMOptions

__all__ = ["BertTrainer", "CausalLLMTrainer", "MfTrainer", "SwTrainer"]

OnProgress = Callable[[Any], None] | None
_RESTART = {"help": "Discard an interrupted training in --output, instead of going on."}


def _values(options: Any) -> dict[str, Any]:
    return {each.name: getattr(options, each.name) for each in fields(options)}


@dataclass(frozen=True)
class _MfOptions:
    start: str | None = field(
        default=None,
        metadata={"names": ("--from",), "help": "Adapt this router: default, minilm, or a folder.", "shown": "none"},
    )
    embedder: str | None = field(default=None, metadata={"help": "Without --from.", "shown": "static"})


@dataclass(frozen=True)
class _SwOptions:
    embedder: str = field(default="static", metadata={"help": "Embeds the battles' prompts."})
    num_tiers: int = field(default=10, metadata={"help": "Tiers that the models are split into.", "min": 1})
    dtype: str | None = field(default=None, metadata={"help": "float32 or int8.", "shown": "by size"})


@dataclass(frozen=True, kw_only=True)
class _BertOptions(BertOptions):
    base: str = field(
        default="FacebookAI/xlm-roberta-base",
        metadata={"names": ("--base", "--model"), "help": "Encoder to start from: a folder or a Hub id."},
    )
    restart: bool = field(default=False, metadata=_RESTART)


@dataclass(frozen=True, kw_only=True)
class _CausalLLMOptions(CausalLLMOptions):
    base: str = field(metadata={"help": "Causal language model to start from: a folder or a Hub id."})
    restart: bool = field(default=False, metadata=_RESTART)


class _Trainer:
    """Trains by a function, ``"module:name"``; seconds, so without progress."""

    function: ClassVar[str]

    def train(self, request: TrainingRequest, options: Any, *, on_progress: OnProgress = None) -> TrainedRouter:
        """See :meth:`routellm_core.training.base.Trainer.train`."""
        module, _, name = self.function.partition(":")
        function = getattr(import_module(f"routellm_core.training.{module}"), name)
        trained: TrainedRouter = function(**request.arguments(), **self._arguments(options, on_progress))
        return trained

    def _arguments(self, options: Any, _on_progress: OnProgress) -> dict[str, Any]:
        return _values(options)


class _Finetuner(_Trainer):
    """Trains by a function that takes its options as one object, and tells how far it is."""

    function_options: ClassVar[type]

    def _arguments(self, options: Any, on_progress: OnProgress) -> dict[str, Any]:
        chosen = _values(options)
        arguments = {name: chosen.pop(name) for name in ("base", "restart")}
        return {**arguments, "options": self.function_options(**chosen), "on_progress": on_progress}


class MfTrainer(_Trainer):
    """Trains ``mf``."""

    summary: ClassVar[str] = (
        "Train mf for your pair of models: rows with prompt, strong, weak; or prompt, model, score; or battles."
    )
    Options: ClassVar[type] = _MfOptions
    function = "train_mf:train_matrix_factorization"


class SwTrainer(_Trainer):
    """Trains ``sw_ranking``."""

    summary: ClassVar[str] = "Build an sw_ranking index from battles, or from strong and weak results on prompts."
    Options: ClassVar[type] = _SwOptions
    function = "train_sw:train_similarity_index"


class BertTrainer(_Finetuner):
    """Trains ``bert``."""

    summary: ClassVar[str] = "Fine-tune an encoder with three labels: strong wins, tie, weak wins."
    Options: ClassVar[type] = _BertOptions
    function, function_options = "train_bert:train_bert", BertOptions


class CausalLLMTrainer(_Finetuner):
    """Trains ``causal_llm``."""

    summary: ClassVar[str] = "Fine-tune a causal language model to score prompts from 1 to 5."
    Options: ClassVar[type] = _CausalLLMOptions
    function, function_options = "train_causal_llm:train_causal_llm", CausalLLMOptions
