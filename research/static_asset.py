"""Make the static asset: the token table, what each token counts for, and the opinion heads.

    python -m research.shipped static

The table is distilled from all-MiniLM-L6-v2 (:mod:`research.distill_static`); the counts follow from the tokens'
spelling; means, scales, word weights and heads are fitted on the shared data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.distill_static import quantise
from routellm_core.embeddings.content import COUNT_NAMES

__all__ = ["token_counts", "write_static"]

_CLASSES: Final = {
    "question": "?？؟", "comma": ",，、،", "period": ".。।", "colon": ":;：；", "exclamation": "!！¡",
    "quote": "\"'`“”‘’«»「」", "round": "()（）", "bracket": "[]{}", "arithmetic": "=<>+*/^%×÷≤≥≠±√∑∫π", "tex": "$\\_",
    "code": "#|~@&",
}  # fmt: skip
_CLASS_OF: Final = {character: name for name, characters in _CLASSES.items() for character in characters}
_IDEOGRAPHS: Final = ((0x2E80, 0xA000), (0xAC00, 0xD7B0))
_LONG_LETTERS: Final = 6


def token_counts(tokenizer: Any) -> npt.NDArray[np.uint8]:
    """What each token of a WordPiece vocabulary counts for, shape (V, len(COUNT_NAMES))."""
    vocabulary = tokenizer.get_vocab()
    counts = np.zeros((len(vocabulary), len(COUNT_NAMES)), dtype=np.uint8)
    column = {name: place for place, name in enumerate(COUNT_NAMES)}
    for token, row in vocabulary.items():
        counts[row, column["token"]] = 1
        if len(token) > 2 and token[0] == "[" and token[-1] == "]":  # [UNK] and its like
            counts[row, column["symbol"]] = 1
            continue
        inside = token.startswith("##") and len(token) > 2
        body = token[2:] if inside else token
        for character in body:
            counts[row, column[_class(character)]] += 1
        ideographs = counts[row, column["ideograph"]] > 0
        counts[row, column["word"]] = not inside and body[0].isalpha() and not ideographs
        counts[row, column["number"]] = not inside and counts[row, column["digit"]] > 0
        counts[row, column["long_word"]] = counts[row, column["letter"]] >= _LONG_LETTERS
    return counts


def _class(character: str) -> str:
    if character.isdigit():
        return "digit"
    if character in _CLASS_OF:
        return _CLASS_OF[character]
    if any(low <= ord(character) < high for low, high in _IDEOGRAPHS):
        return "ideograph"
    return "letter" if character.isalpha() else "symbol"


def write_static(
    folder: Path,
    *,
    table: npt.NDArray[np.float32],
    tokenizer_json: str,
    fitted: dict[str, npt.NDArray[np.floating]],
    config: dict[str, Any],
) -> None:
    """Write the folder that ``StaticEmbedder`` loads.

    Args:
        folder: created if need be.
        table: token vectors, shape (V, d).
        tokenizer_json: the tokenizer's file.
        fitted: ``word_weights`` (V,), ``means`` and ``scales`` of the content features, ``heads.*``.
        config: name, origin and licence.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        **quantise(table),
        "counts": token_counts(Tokenizer.from_str(tokenizer_json)),
        "word_weights": fitted["word_weights"].astype(np.float16),
        **{name: array.astype(np.float32) for name, array in fitted.items() if name != "word_weights"},
    }
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
