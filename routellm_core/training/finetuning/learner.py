"""A model to train: what it starts from, what the loop asks of it, and writing what became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from routellm_core._files import read_json
from routellm_core.errors import CheckpointError
from routellm_core.routers.transformer.batching import resolve_device, torch
from routellm_core.routers.transformer.loading import digest_of, load_model, load_tokenizer, transformers, weight_files
from routellm_core.training.finetuning.options import FinetuningOptions

__all__ = ["Encoded", "Learner"]

Encoded: TypeAlias = Mapping[str, Sequence[int]]
"""A tokenised prompt: the tokenizer's columns, ``input_ids`` among them."""


class Learner(ABC):
    """A model in float32 that tells labels of prompts, with its tokenizer.

    New weights are drawn from torch's generator: all, if trained from scratch, or those of a classifier's last layer.

    Attributes:
        model: a Hugging Face model; a subclass puts it on ``device``.
        base: digest of the configuration and, unless trained from scratch, the weights that it starts from.
        max_tokens: where prompts are cut.

    Raises:
        CheckpointError: the base is missing, unsafe, quantised, or of no architecture that ``auto_class`` knows.
    """

    max_tokens: int

    def __init__(self, auto_class: str, folder: Path, options: FinetuningOptions, **labels: int) -> None:
        self.device = resolve_device(options.device)
        config_file = folder / "config.json"
        if read_json(config_file).get("quantization_config"):
            raise CheckpointError(
                f"{config_file} is a quantised model, whose weights cannot be trained; give the model that it was made "
                "from"
            )
        self.tokenizer = load_tokenizer(folder)
        self.base = digest_of([config_file, *([] if options.from_scratch else weight_files(folder))])
        self._dtype = torch.float32
        try:
            config = transformers.AutoConfig.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, **labels
            )
            if options.from_scratch:
                self.model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
                return
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise CheckpointError(f"{folder} could not be loaded as {auto_class}: {error}") from error
        self.model = load_model(auto_class, folder, dtype=torch.float32, device=None, new_head=bool(labels), **labels)
        if getattr(config, "dtype", None) in (torch.bfloat16, torch.float16, "bfloat16", "float16"):
            self._dtype = getattr(torch, str(config.dtype).removeprefix("torch."))

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> list[Encoded]:
        """Return the tokens of each prompt, as the router will read them."""

    @abstractmethod
    def losses(self, batch: Sequence[Encoded], labels: Any) -> Any:
        """Return what training makes small, shape (B,); ``labels`` shape (B,), on the model's device."""

    @abstractmethod
    def label_logits(self, batch: Sequence[Encoded]) -> Any:
        """Return what the router takes the softmax of, shape (B, labels), float32."""

    def save(self, folder: Path) -> None:
        """Write weights as safetensors in the base's own number type, configuration and tokenizer."""
        self.model.to(self._dtype).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes files that only their owner can read
