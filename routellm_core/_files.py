"""Checkpoint folders: where they come from, and reading arrays from them without ever unpickling."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from routellm_core._optional import import_extra
from routellm_core.errors import CheckpointError

ASSETS = Path(__file__).parent / "assets"
_DTYPES = {"F32": np.float32, "F64": np.float64, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}
_UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def resolve_checkpoint(path_or_id: str | Path, *, revision: str | None = None) -> Path:
    """Return the local folder of a checkpoint.

    Args:
        path_or_id: a folder, or a Hugging Face Hub id ``owner/name`` (downloaded once into the Hub's own cache;
            pickled weights are never fetched).
        revision: a Hub branch, tag or commit.

    Raises:
        CheckpointError: neither a folder nor a Hub id that can be fetched.
        MissingExtraError: a Hub id without the extra ``[hub]``.
    """
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"checkpoint {str(path_or_id)!r} is a file; give the folder that holds it")
    if not isinstance(path_or_id, str) or path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no checkpoint folder {str(path_or_id)!r}; give a folder, or a Hugging Face Hub id such as "
            "'routellm/mf_gpt4_augmented'"
        )
    hub = import_extra("huggingface_hub", extra="hub", purpose=f"Downloading the checkpoint {path_or_id!r}")
    try:
        return Path(
            hub.snapshot_download(
                path_or_id, revision=revision, ignore_patterns=[f"*{suffix}" for suffix in _UNSAFE_SUFFIXES]
            )
        )
    except Exception as error:  # the Hub client raises httpx, requests, OS and its own errors alike
        raise CheckpointError(
            f"checkpoint {path_or_id!r} is neither a folder here nor could it be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'})"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def read_safetensors(path: Path, *, mapped_from: int | None = None) -> dict[str, npt.NDArray[Any]]:
    """Read every array of a safetensors file.

    Args:
        path: the file.
        mapped_from: a file of at least so many bytes is mapped: its arrays are read as they are used, and processes
            share the memory. Such a file must be replaced, never written over.

    Raises:
        CheckpointError: the file is missing (with a hint when only pickled weights are there), truncated or in
            another format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing{pickle_hint(path.parent)}")
    try:
        with safe_open(path, framework="numpy") as file:  # which checks that the file is whole
            if mapped_from is None or path.stat().st_size < mapped_from:
                return {key: np.asarray(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return _mapped_arrays(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file (truncated or another format?): {error}"
        ) from error


def _mapped_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    # The safetensors package copies whatever it reads. Copy-on-write, because PyTorch warns of read-only memory.
    content = np.asarray(np.memmap(path, dtype=np.uint8, mode="c"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    arrays = {}
    for key, entry in header.items():
        if key != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            arrays[key] = content[first:last].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def pickle_hint(folder: Path) -> str:
    """Return the end of an error about missing weights: a pickle that is there instead, and why it is refused."""
    unsafe = sorted(
        file.name for file in folder.glob("*") if file.suffix in _UNSAFE_SUFFIXES and file.name != "training_args.bin"
    )
    if not unsafe:
        return ""
    return f"; {unsafe[0]} is a pickle, which can run code when opened and is refused. Convert it to safetensors"


@cache
def _sha256_of(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; remembered until its size or modification time changes."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)
