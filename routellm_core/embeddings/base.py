"""What an embedder is: texts in, one float32 vector each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Embedder", "Embeddings", "encodable", "prompt_limit_of", "semantic_width"]

Embeddings = npt.NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """The name a checkpoint records, such as ``"static-v2"`` or ``"litellm/text-embedding-3-small"``.

        Two embedders with one name return the same vectors.
        """
        ...

    @property
    def dimension(self) -> int | None:
        """Length of a vector, or None where it is known only after the first call (hosted models)."""
        ...

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch.

        Args:
            texts: n texts, of any length; may be empty.

        Returns:
            shape (n, dimension), float32, in the order of ``texts``.

        Raises:
            EmbeddingError: the vectors cannot be computed.
        """
        ...


def semantic_width(embedder: Embedder) -> int | None:
    """How many of the first components of a vector hold the meaning; None where all of them do.

    The shipped embedders add what they counted in a prompt, their opinions and a constant 1.
    """
    width: int | None = getattr(embedder, "semantic_dimension", None)
    return width


def prompt_limit_of(embedder: Embedder) -> str:
    """Return how an embedder treats a long text, in one sentence: its ``prompt_limit``, where it has one."""
    return str(getattr(embedder, "prompt_limit", "Long prompts are truncated at the embedding model's limit."))


def encodable(text: str) -> str:
    """Return ``text`` with lone surrogates, which no tokenizer and no service accepts, as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
