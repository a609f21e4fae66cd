"""Answers and grades of models on benchmarks, one JSON-lines file each, appended to as they arrive.

Layout: ``<folder>/<benchmark>/<model>/answers.jsonl``, ``judgements.jsonl`` (MT-Bench) and ``grades.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.types import FloatArray

__all__ = ["RecordFile", "graded_quality", "model_folder"]


def model_folder(folder: Path, *, benchmark: str, model: str) -> Path:
    """Return the folder for one model's answers, its name made safe for every file system.

    A name that had to be changed gets a digest, so that two models never share a folder.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", model)
    if safe != model or safe.startswith("."):
        safe = f"{safe.lstrip('.')}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return folder / benchmark / safe


class RecordFile:
    """A JSON-lines file that survives being killed in the middle of a line.

    Every record carries an ``id`` and a ``protocol``: a digest of everything that produced it, so that answers to other
    prompts or at another temperature are not taken for current ones.

    Args:
        path: the file; created, with its folders, on the first :meth:`append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last record of each id.

        Raises:
            ConfigError: a line other than an unfinished last one is not a record.
        """
        if not self.path.exists():
            return {}
        records: dict[str, dict[str, Any]] = {}
        lines = self.path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                record = json.loads(line)
                records[str(record["id"])] = {**record, "protocol": str(record.get("protocol", ""))}
            except (ValueError, TypeError, KeyError) as error:
                # A killed run leaves one unfinished line behind; the next append starts a new line after it.
                if not line.endswith("}"):
                    continue
                raise ConfigError(f"{self.path}, line {number}: not a record of an evaluation") from error
        return records

    def append(self, record: Mapping[str, Any], *, protocol: str) -> None:
        """Add a record in one write, so that two processes cannot interleave within a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # ASCII alone: no character can be cut in half, and lone surrogates of a model's answer survive.
        line = json.dumps({**record, "protocol": protocol}) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode("ascii"))

    def replace_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole file anew; readers see the old or the new one, never half of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        lines = [json.dumps(record) for record in records]
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        partial.replace(self.path)


def graded_quality(
    prompt_ids: Sequence[str], *, benchmark: str, model: str, published: Sequence[str], folder: Path | None
) -> FloatArray:
    """Return a model's graded quality, shape (n,), from the answers stored under ``folder``.

    Raises:
        ConfigError: nothing is stored for the model, or not for every prompt.
    """
    how = f"`routellm evaluate generate --benchmark {benchmark} --model {model}`"
    allowed = ", ".join(published)
    if folder is None:
        raise ConfigError(
            f"{benchmark} has published results for {allowed}, not for {model!r}. Answer and grade the benchmark with "
            f"{how}, then pass its folder as --answers-dir"
        )
    path = model_folder(folder, benchmark=benchmark, model=model) / "grades.jsonl"
    if not path.exists():
        raise ConfigError(
            f"no grades of {model!r} on {benchmark}: {path} does not exist. Published results are there for {allowed}; "
            f"for other models run {how}"
        )
    grades: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        grades[str(record["id"])] = float(record["quality"])
    missing = [prompt_id for prompt_id in prompt_ids if prompt_id not in grades]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(prompt_ids)} prompts of {benchmark} are not graded for {model!r} (the first is "
            f"{missing[0]}). Finish them with {how}; it resumes where it stopped"
        )
    return np.array([grades[prompt_id] for prompt_id in prompt_ids], dtype=np.float64)
