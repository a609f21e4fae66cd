"""Opinions: how much a strong model is worth on a prompt, as the last columns of a prompt's vector.

Evidence from chat and evidence from exams point different ways. So there are two linear opinions, one for each kind,
and a third that leans to the one which fits the prompt. ``mf`` is linear in them; a router for one's own models starts
from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings.content import Content

__all__ = ["OPINION_NAMES", "content_opinions", "opinions", "zero_heads"]

OPINION_NAMES: Final = ("chat", "exam", "opinion")
Floats = npt.NDArray[np.float32]


def opinions(values: Floats, word_score: Floats, heads: Mapping[str, Floats]) -> Floats:
    """Return the opinions, shape (n, 3), each of mean 0 and spread 1 over ordinary prompts.

    Args:
        values: shape (n, d), semantic part and content features.
        word_score: shape (n,).
        heads: ``weights`` (3, d + 1) for chat, exam and the log-odds that the prompt is chat, the last column for
            ``word_score``; ``biases`` (3,); ``moments`` (2,), mean and spread of the mixture.
    """
    # einsum and not a matrix product, whose last digit depends on how many prompts are in the batch
    linear = np.einsum("nd,kd->nk", values, heads["weights"][:, :-1], optimize=False)
    linear = linear + word_score[:, None] * heads["weights"][:, -1] + heads["biases"]
    chat_share = 1.0 / (1.0 + np.exp(-np.clip(linear[:, 2], -30.0, 30.0)))
    mixed = chat_share * linear[:, 0] + (1.0 - chat_share) * linear[:, 1]
    mean, spread = heads["moments"]
    found: Floats = np.stack([linear[:, 0], linear[:, 1], (mixed - mean) / spread], axis=1).astype(np.float32)
    return found


def content_opinions(content: Content, heads: Mapping[str, Floats]) -> Floats:
    """Return the :func:`opinions` of what was read in n prompts, shape (n, 3)."""
    return opinions(np.hstack([content.semantic, content.features]), content.word_score, heads)


def zero_heads(values: int) -> dict[str, Floats]:
    """Heads without an opinion, for vectors of ``values`` components: what fitting starts from."""
    return {
        "weights": np.zeros((len(OPINION_NAMES), values + 1), np.float32),
        "biases": np.zeros(len(OPINION_NAMES), np.float32),
        "moments": np.array([0.0, 1.0], np.float32),
    }
