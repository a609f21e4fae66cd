"""How a transformer is fine-tuned: what ``bert`` and ``causal_llm`` have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_core.errors import ConfigError

__all__ = ["BertOptions", "CausalLLMOptions", "FinetuningOptions", "FinetuningProgress"]

_SCORES: Final = ("outcome", "quality")
_PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class FinetuningOptions:
    """How to train.

    Attributes:
        from_scratch: take the configuration and the tokenizer of the base, not its weights.
        epochs: at most so many passes over the rows.
        patience: stop after so many epochs in a row without a better held-out loss.
        learning_rate: the highest, reached after a tenth of the steps; it then falls to zero.
        token_budget: tokens of a batch, padding included.
        accumulation: batches of one step of the optimizer; many small batches take less memory than a large one.
        max_tokens: prompts are cut after so many; None takes what the model does, at most 512 for ``bert`` and 1,024,
            messages included, for ``causal_llm``.
        precision: numbers to compute in, ``"float32"``, ``"bfloat16"`` or ``"float16"``; weights are kept in float32.
            ``"auto"`` is bfloat16 on a GPU that computes in it, float16 on older CUDA devices, else float32.
        class_balance: give every label the same weight in all. Scores are then no longer probabilities: a rare
            outcome looks as likely as a common one. For data in which one label drowns the others.
        save_steps: steps after which the state is saved, beside the end of each epoch; 0 saves at the ends only.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` …
    """

    from_scratch: bool = field(default=False, metadata={"help": "Take the base's configuration, not its weights."})
    epochs: int = field(default=3, metadata={"help": "Most passes over the rows."})
    patience: int = field(default=2, metadata={"help": "Stop after so many epochs without a better held-out loss."})
    learning_rate: float = field(default=1e-5, metadata={"help": "The highest."})
    token_budget: int = field(default=4096, metadata={"help": "Tokens of a batch, padding included."})
    accumulation: int = field(default=1, metadata={"help": "Batches of one step of the optimizer."})
    max_tokens: int | None = field(
        default=None, metadata={"help": "Prompts are cut after so many.", "shown": "bert 512, causal_llm 1024"}
    )
    precision: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    class_balance: bool = field(
        default=False, metadata={"help": "Weigh labels alike; scores are no longer probabilities."}
    )
    save_steps: int = field(
        default=500, metadata={"help": "Save the state after so many steps, beside each epoch's end; 0: then only."}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, mps ..."})

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "token_budget", "accumulation"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.save_steps < 0:
            raise ConfigError(f"save_steps is {self.save_steps}; it must be 0 or more")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ConfigError(f"the learning rate is {self.learning_rate}; it must be above 0")
        if self.precision not in _PRECISIONS:
            raise ConfigError(f"precision {self.precision!r} is not one of {', '.join(_PRECISIONS)}")


@dataclass(frozen=True, kw_only=True)
class BertOptions(FinetuningOptions):
    """How to train ``bert``; the same as for both."""


@dataclass(frozen=True, kw_only=True)
class CausalLLMOptions(FinetuningOptions):
    """How to train ``causal_llm``.

    Attributes:
        scores: how a row becomes a score, ``"outcome"`` or ``"quality"``; see ``score_labels``.
        messages: a folder with ``system_ft_v5.txt`` and ``classifier_ft_v5.txt``; None takes the base's, or this
            package's own where it has none.
    """

    scores: str = field(
        default="outcome", metadata={"help": "outcome, or quality: the weak answer's grade is the score."}
    )
    messages: Path | None = field(
        default=None, metadata={"help": "Folder with the two message files.", "shown": "the base's, or our own"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scores not in _SCORES:
            raise ConfigError(f"scores {self.scores!r} is not one of {', '.join(_SCORES)}")


@dataclass(frozen=True)
class FinetuningProgress:
    """How far a training is.

    Attributes:
        step: steps of the optimizer that are done, over all epochs.
        steps: steps of all epochs; fewer are made where the held-out loss stops falling.
        epoch: the epoch, from 1.
        epochs: at most so many.
        loss: of the last step's rows; None right after an interrupted training was taken up again.
        held_out_loss: at the end of an epoch, else None.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float | None = None
    held_out_loss: float | None = None
