"""Loading Hugging Face checkpoints safely: only safetensors, nothing missing, no code from the checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from routellm_core._files import pickle_hint, read_json, resolve_checkpoint
from routellm_core._optional import import_extra
from routellm_core.errors import CheckpointError

__all__ = ["digest_of", "load_model", "load_tokenizer", "weight_files"]

transformers: Any = import_extra("transformers", extra="torch", purpose="Scoring with a transformer")

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "vocab.json")
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint, opened once each to see that they are whole.

    Raises:
        CheckpointError: there are none, one is missing or truncated; pickled weights are named and refused.
    """
    if (folder / _INDEX).is_file():
        weight_map = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{folder / _INDEX} has no usable 'weight_map'")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = [folder / _SINGLE]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing{pickle_hint(folder)}")
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is not a readable safetensors file (truncated?): {error}") from error
    return files


def load_model(
    auto_class: str, folder: Path, *, dtype: Any, device: Any, new_head: bool = False, **options: Any
) -> Any:
    """Load a model in evaluation mode onto ``device``; None leaves the placement to ``options`` of ``from_pretrained``.

    With ``new_head``, for training, a last layer that is missing or of another size is drawn at random. Raises
    CheckpointError where weights are unsafe, incomplete, of the wrong shape or of an unknown architecture.
    """
    files = weight_files(folder)
    named = ", ".join(str(file) for file in files[:1]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    read_json(folder / "config.json")
    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,
            **options,
        )
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{named} could not be loaded as {auto_class}: {error}") from error
    # transformers fills what is missing with random numbers and only warns.
    if not new_head and (missing := sorted(info.get("missing_keys") or ())):
        raise CheckpointError(f"{named} lacks the weight {missing[0]!r} ({len(missing)} missing)")
    if not new_head and (mismatched := list(info.get("mismatched_keys") or ())):
        raise CheckpointError(f"{named} has a weight of the wrong shape: {mismatched[0]}")
    return (model if device is None else model.to(device)).eval()


def load_tokenizer(folder: Path, fallback_id: str | None = None) -> Any:
    """Load the tokenizer of a checkpoint, or of ``fallback_id`` where the checkpoint has none.

    Raises:
        CheckpointError: there is none, or its files are damaged.
    """
    own = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    source: Any = folder if own or fallback_id is None else fallback_id
    if not own and fallback_id is not None and Path(fallback_id).is_dir():
        source = resolve_checkpoint(fallback_id)
    try:
        return transformers.AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, local_files_only=isinstance(source, Path)
        )
    except Exception as error:  # broken JSON, unknown classes, the Hub: each raises another kind
        raise CheckpointError(f"the tokenizer of {source} could not be loaded: {error}") from error


def digest_of(files: list[Path]) -> str:
    """Return 32 hexadecimal digits that change with the files' names, sizes or contents.

    Of a large file, 64 pieces spread over it are read: training changes every weight, and sixteen gigabytes would take
    ten seconds to read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        with file.open("rb") as content:
            if size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(content.read())
                continue
            for sample in range(_SAMPLES):
                content.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(content.read(_SAMPLE_BYTES))
    return digest.hexdigest()
