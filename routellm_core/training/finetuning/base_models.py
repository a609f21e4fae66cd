"""The model that a fine-tuning starts from, and writing what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_core._files import read_json
from routellm_core.errors import CheckpointError
from routellm_core.routers.transformer.batching import torch
from routellm_core.routers.transformer.loading import digest_of, load_model, load_tokenizer, transformers, weight_files

__all__ = ["BaseModel", "load_base"]

_CONFIG: Final = "config.json"


@dataclass(eq=False)
class BaseModel:
    """A model in float32 on the CPU, with its tokenizer.

    Attributes:
        model: a Hugging Face model.
        tokenizer: its tokenizer.
        digest: of the configuration and, unless training starts from nothing, the weights.
        dtype: the ``torch.dtype`` in which weights are written, the base's own.
    """

    model: Any
    tokenizer: Any
    digest: str
    dtype: Any

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer."""
        self.model.to(self.dtype).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes files that only their owner can read


def load_base(auto_class: str, folder: Path, *, from_scratch: bool, num_labels: int | None = None) -> BaseModel:
    """Load what can be trained further, or new random weights of the same configuration.

    Args:
        auto_class: such as ``"AutoModelForCausalLM"``.
        folder: the base.
        from_scratch: new weights, drawn from torch's generator.
        num_labels: labels of a classifier, whose last layer is new where the base has none or another number.

    Raises:
        CheckpointError: the base is missing, unsafe, quantised, or of no architecture that ``auto_class`` knows.
    """
    config_file = folder / _CONFIG
    content = read_json(config_file)
    if content.get("quantization_config"):
        raise CheckpointError(
            f"{config_file} is a quantised model, whose weights cannot be trained; give the model that it was made from"
        )
    tokenizer = load_tokenizer(folder)
    labels = {} if num_labels is None else {"num_labels": num_labels}
    auto = getattr(transformers, auto_class)
    digest = digest_of([config_file, *([] if from_scratch else weight_files(folder))])
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **labels
        )
        dtype = torch.float32 if from_scratch else _stored_dtype(config)
        if from_scratch:
            return BaseModel(auto.from_config(config, dtype=torch.float32), tokenizer, digest, dtype)
        if num_labels is None:
            model = load_model(auto_class, folder, dtype=torch.float32, device=None)
        else:
            # Not by load_model, which refuses missing weights: a classifier's last layer is new.
            model = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,
            )
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder} could not be loaded as {auto_class}: {error}") from error
    return BaseModel(model, tokenizer, digest, dtype)


def _stored_dtype(config: Any) -> Any:
    stored = getattr(config, "dtype", None)
    named = getattr(torch, stored, None) if isinstance(stored, str) else stored
    return named if named in (torch.bfloat16, torch.float16) else torch.float32
