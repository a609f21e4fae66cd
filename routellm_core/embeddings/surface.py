"""Surface features: what can be counted in a prompt without understanding it.

Length, words, lines, numbers, punctuation, formula and code marks, multiple-choice structure and a few cue words. They
say much about how hard a prompt is and cost a few microseconds: the characters of a whole batch are classified and
counted together in numpy.

The list of features is part of the name of every embedder that uses it: a checkpoint's weights belong to these columns
in this order, so a change here is a new embedder version (:data:`SURFACE_VERSION`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings._surface_columns import (
    CLASS,
    CLASS_NAMES,
    CLASS_TABLE,
    CUES,
    LENGTH_KNOTS,
    OPENING_COLUMN,
    OPENING_KINDS,
    SURFACE_NAMES,
)
from routellm_core.errors import CheckpointError

__all__ = [
    "SURFACE_FILE",
    "SURFACE_NAMES",
    "SURFACE_VERSION",
    "clipped_text",
    "standardised_surface",
    "surface_dimension",
    "surface_features",
]

SURFACE_VERSION: Final = 1
SURFACE_FILE: Final = Path(__file__).resolve().parent.parent / "assets" / f"surface_v{SURFACE_VERSION}.json"
HEAD_CHARS: Final = 3000
TAIL_CHARS: Final = 1000
_BATCH_CHARS: Final = 1_000_000
_CLIP: Final = 4.0
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
_Bools = npt.NDArray[np.bool_]


def clipped_text(text: str) -> str:
    """Return ``text``, or for a long one its first 3,000 and last 1,000 characters on two lines."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def surface_features(texts: Sequence[str]) -> _Floats:
    """Compute the surface features of a batch.

    Args:
        texts: n texts of any length and any content (empty, lone surrogates, control characters). Counts are taken over
            :func:`clipped_text`; the length features see the whole length.

    Returns:
        shape (n, len(SURFACE_NAMES)), float32, finite. Counts are log(1 + count), shares lie in [0, 1].
    """
    features = np.zeros((len(texts), len(SURFACE_NAMES)), dtype=np.float32)
    for start, stop in _chunks(texts):
        features[start:stop] = _chunk_features(texts[start:stop])
    return features


def surface_dimension() -> int:
    """Number of surface features."""
    return len(SURFACE_NAMES)


def standardised_surface(texts: Sequence[str]) -> _Floats:
    """Surface features in standard deviations from their mean over the reference prompts, clipped to ±4.

    Clipping keeps an unusual prompt (a megabyte of digits) from outvoting everything else.

    Returns:
        shape (n, len(SURFACE_NAMES)), float32, each in [-4, 4].

    Raises:
        CheckpointError: the shipped means and scales are missing or belong to another version.
    """
    means, scales = _reference_moments()
    standardised: _Floats = np.clip((surface_features(texts) - means) / scales, -_CLIP, _CLIP)
    return standardised


@cache
def _reference_moments() -> tuple[_Floats, _Floats]:
    """Means and scales of the features over the reference prompts, written by ``research.shipped``."""
    try:
        moments = json.loads(SURFACE_FILE.read_text(encoding="utf-8"))
        names, means, scales = moments["names"], moments["means"], moments["scales"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{SURFACE_FILE} cannot be read ({error}); reinstall routellm-core") from error
    if tuple(names) != SURFACE_NAMES:
        raise CheckpointError(f"{SURFACE_FILE} describes other features than this version of the code computes")
    return np.asarray(means, dtype=np.float32), np.asarray(scales, dtype=np.float32)


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts of about a million counted characters each, so that memory stays flat."""
    start, pending = 0, 0
    for index, text in enumerate(texts):
        pending += min(len(text), HEAD_CHARS + TAIL_CHARS)
        if pending >= _BATCH_CHARS:
            yield start, index + 1
            start, pending = index + 1, 0
    if start < len(texts):
        yield start, len(texts)


def _chunk_features(texts: Sequence[str]) -> _Floats:
    views = [clipped_text(text) for text in texts]
    full_lengths = np.array([len(text) for text in texts], dtype=np.float64)
    lengths = np.array([len(view) for view in views], dtype=np.int64)
    # A line break before, between and after the texts: every text starts and ends like a line.
    joined = "\n" + "\n".join(views) + "\n"
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    classes = CLASS_TABLE[np.minimum(codes, 0xFFFF)]
    owner = np.repeat(np.arange(len(texts)), lengths + 1)
    counts = np.bincount(owner * len(CLASS_NAMES) + classes[1:], minlength=len(texts) * len(CLASS_NAMES))
    counts = counts.reshape(len(texts), len(CLASS_NAMES))
    counts[:, CLASS["newline"]] -= 1  # the break that ends each text
    starts = np.concatenate(([0], np.cumsum(lengths + 1)[:-1]))
    safe = np.maximum(lengths, 1)[:, None]
    blocks = (
        _shape_block(classes, owner, counts, lengths, full_lengths),
        _choice_block(codes, classes, owner, starts, lengths, full_lengths),
        np.log1p(counts),
        counts / safe,
        _cue_block(views),
    )
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _per_text(owner: _Ints, hits: _Bools, texts: int) -> npt.NDArray[np.float64]:
    """Number of hits per text; ``hits`` is aligned with ``owner``."""
    return np.bincount(owner[hits], minlength=texts).astype(np.float64)


def _run_lengths(member: _Bools, owner: _Ints) -> tuple[_Ints, _Ints]:
    """Lengths and owners of the runs of True; ``member`` is one longer than ``owner`` (the leading line break)."""
    edges = np.diff(member.astype(np.int8))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return ends - begins, owner[begins]


def _shape_block(
    classes: npt.NDArray[np.uint8], owner: _Ints, counts: _Ints, lengths: _Ints, full_lengths: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Columns of ``_SHAPE_NAMES``: length, words, sentences, numbers."""
    n = len(lengths)
    letters = (classes <= CLASS["upper"]) | (classes >= CLASS["latin"])
    digits = classes == CLASS["digit"]
    blank = (classes == CLASS["space"]) | (classes == CLASS["newline"])
    word_lengths, word_owner = _run_lengths(letters, owner)
    number_lengths, number_owner = _run_lengths(digits, owner)
    words = np.bincount(word_owner, minlength=n).astype(np.float64)
    numbers = np.bincount(number_owner, minlength=n).astype(np.float64)
    stop = (classes == CLASS["period"]) | (classes == CLASS["question"]) | (classes == CLASS["exclamation"])
    sentences = _per_text(owner[:-1], stop[1:-1] & blank[2:], n)
    decimals = _per_text(owner[:-2], digits[1:-2] & (classes[2:-1] == CLASS["period"]) & digits[3:], n)
    capitalised = _per_text(owner, (classes[1:] == CLASS["upper"]) & ~letters[:-1], n)
    last = np.cumsum(lengths + 1) - 1
    asks = (classes[last] == CLASS["question"]) & (lengths > 0)
    some_words, some_tokens = np.maximum(words, 1.0), np.maximum(words + numbers, 1.0)
    log_chars = np.log1p(full_lengths)
    hinges = [np.maximum(log_chars - np.log1p(knot), 0.0) for knot in LENGTH_KNOTS]
    columns = (
        log_chars / 5.0,
        *hinges,
        np.log1p(words),
        np.log1p(counts[:, CLASS["newline"]]),
        np.log1p(sentences),
        np.log1p(words / np.maximum(sentences, 1.0)),
        np.minimum(np.bincount(word_owner, weights=word_lengths, minlength=n) / some_words, 20.0) / 5.0,
        _per_text(word_owner, word_lengths >= 8, n) / some_words,
        np.log1p(_per_text(word_owner, word_lengths >= 12, n)),
        _per_text(word_owner, word_lengths <= 3, n) / some_words,
        capitalised / some_words,
        np.log1p(numbers),
        np.log1p(_per_text(number_owner, number_lengths >= 3, n)),
        numbers / some_tokens,
        np.log1p(decimals),
        asks,
        words + numbers == 0,
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _choice_block(
    codes: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    owner: _Ints,
    starts: _Ints,
    lengths: _Ints,
    full_lengths: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Columns of ``_CHOICE_NAMES``: answers marked ``A.``, ``A)``, ``A:`` at the start of a line, or ``(A)``."""
    n = len(lengths)
    body = codes[1:-1]
    is_label = (body >= ord("A")) & (body <= ord("J"))
    before, after = codes[:-2], codes[2:]
    closed = (after == ord(".")) | (after == ord(")")) | (after == ord(":"))
    marked = is_label & closed & ((before == ord("\n")) | ((before == ord("(")) & (after == ord(")"))))
    positions = np.flatnonzero(marked)
    holder = owner[positions]
    choices = np.bincount(holder, minlength=n).astype(np.float64)
    first = lengths.astype(np.float64).copy()
    np.minimum.at(first, holder, (positions - starts[holder]).astype(np.float64))
    offered = choices >= 2
    first[~offered] = lengths[~offered]
    tail = np.maximum(lengths - first, 0.0)
    in_tail = np.arange(len(owner)) - starts[owner] >= first[owner]
    digits = _per_text(owner, (classes[1:] == CLASS["digit"]) & in_tail, n)
    columns = (
        offered,
        np.where(offered, np.minimum(choices, 10.0) / 5.0, 0.0),
        np.where(offered, np.log1p(first) / 5.0, 0.0),
        np.where(offered, np.log1p(tail / np.maximum(choices, 1.0)), 0.0),
        np.where(offered, tail / np.maximum(lengths, 1), 0.0),
        np.where(offered, digits / np.maximum(tail, 1.0), 0.0),
        np.where(offered, 0.0, np.log1p(full_lengths) / 5.0),
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _cue_block(views: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cue-word counts, log(1 + count), and which kind of word opens the text."""
    block = np.zeros((len(views), len(CUES) + OPENING_KINDS), dtype=np.float64)
    for row, view in enumerate(views):
        # A leading blank lets " if " match at the very start.
        lowered = f" {view.lower()} "
        for column, words in enumerate(CUES.values()):
            hits = 0
            for word in words:
                if word in lowered:
                    hits += lowered.count(word)
            if hits:
                block[row, column] = np.log1p(hits)
        opening = lowered[:60].split(maxsplit=1)
        kind = OPENING_COLUMN.get(opening[0].strip("\"'.,:;!?(){}[]*#>-")) if opening else None
        if kind is not None:
            block[row, len(CUES) + kind] = 1.0
    return block
