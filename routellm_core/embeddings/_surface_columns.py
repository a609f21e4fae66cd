"""What the surface features count: character classes, cue words, openings, and the names of the columns.

The order of everything here is the order of the columns, which belongs to the embedder version
(:data:`routellm_core.embeddings.surface.SURFACE_VERSION`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CLASS",
    "CLASS_NAMES",
    "CLASS_TABLE",
    "CUES",
    "LENGTH_KNOTS",
    "OPENING_COLUMN",
    "OPENING_KINDS",
    "SURFACE_NAMES",
]

# Character classes; the order is the order of the columns. Everything unnamed falls into "symbol".
_ASCII_CLASSES: Final = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digit": "0123456789",
    "space": " \t\r\v\f",
    "newline": "\n",
    "period": ".",
    "comma": ",",
    "question": "?",
    "exclamation": "!",
    "colon": ":;",
    "quote": "\"'`",
    "round": "()",
    "square": "[]",
    "curly": "{}",
    "dollar": "$",
    "backslash": "\\",
    "script": "^_",
    "equals": "=<>",
    "arithmetic": "+*/-",
    "percent": "%",
    "markup": "#|~@&",
}
_WIDE_CLASSES: Final = ("symbol", "latin", "greek", "cjk", "letter")
CLASS_NAMES: Final = (*_ASCII_CLASSES, *_WIDE_CLASSES)
CLASS: Final = {name: number for number, name in enumerate(CLASS_NAMES)}

# Cue words, matched as plain substrings of the lower-cased text: cheap, and good enough for a count.
CUES: Final = {
    "negation": (" not ", "n't ", "except", "never", "incorrect", " false"),
    "explanation": ("why ", "explain", "reason", "because", "describe"),
    "proof": ("prove", "proof", "show that", "derive", "theorem", "lemma"),
    "computation": ("calculate", "compute", "find the", "how many", "how much", "solve", "evaluate", "determine"),
    "quantity": (" each", " per ", "total", "twice", "percent", "half", "remain", "probability"),
    "code": ("```", "def ", "function", "python", "javascript", "sql", " code", "return ", "import "),
    "writing": ("write ", "compose", "essay", "story", "poem", "email", "article"),
    "editing": ("summar", "translate", "rewrite", "paraphrase", "grammar", "extract"),
    "persona": ("act as", "you are ", "pretend", "imagine", "role"),
    "constraint": (" must ", " only ", "at least", "at most", "exactly", "no more than", "without"),
    "steps": ("step", " then ", "first", "finally", " next "),
    "output_format": ("json", "table", " list ", "bullet", "csv", "format"),
    "comparison": ("compare", "differen", "versus", " vs", "better", " than "),
    "following": ("following", "statement", "best describes", "which of"),
    "advice": ("should i", "recommend", "suggest", " best ", "ideas", " tips"),
    "lookup": ("who ", "when ", "where ", "what is a", "define ", "name of", "called"),
    "hypothesis": (" if ", "suppose", "assum", "given ", " let ", "consider"),
    "universality": (" all ", " always", " every", " any ", " some ", " none"),
}
_OPENINGS: Final = {
    "what": ("what", "whats", "what's"),
    "which": ("which",),
    "how": ("how",),
    "why": ("why",),
    "entity": ("who", "when", "where", "whose"),
    "yes_no": ("is", "are", "do", "does", "can", "could", "will", "would", "should", "did", "was", "has"),
    "imperative": ("write", "explain", "give", "create", "make", "find", "tell", "list", "describe", "generate"),
    "article": ("a", "an", "the", "in", "if", "let", "suppose", "for"),
    "greeting": ("hi", "hello", "hey", "thanks", "ok", "yes", "no"),
}
LENGTH_KNOTS: Final = (30, 60, 120, 240, 480, 960, 1920)
_SHAPE_NAMES: Final = (
    "log_chars",
    *(f"log_chars_above_{knot}" for knot in LENGTH_KNOTS),
    "log_words",
    "log_lines",
    "log_sentences",
    "words_per_sentence",
    "word_length",
    "long_word_share",
    "very_long_words",
    "short_word_share",
    "capitalised_share",
    "log_numbers",
    "log_long_numbers",
    "number_share",
    "log_decimals",
    "ends_with_question",
    "is_empty",
)
_CHOICE_NAMES: Final = (
    "has_choices",
    "choices",
    "log_stem_chars",
    "log_choice_chars",
    "choice_share",
    "choice_digit_share",
    "log_open_chars",
)
SURFACE_NAMES: Final[tuple[str, ...]] = (
    *_SHAPE_NAMES,
    *_CHOICE_NAMES,
    *(f"count_{name}" for name in CLASS_NAMES),
    *(f"share_{name}" for name in CLASS_NAMES),
    *(f"cue_{name}" for name in CUES),
    *(f"opens_{name}" for name in _OPENINGS),
)
"""Column names of :func:`surface_features`, in order."""


def _class_table() -> npt.NDArray[np.uint8]:
    """Class number of every code point up to U+FFFF; later ones share the entry of U+FFFF."""
    table = np.full(0x10000, CLASS["letter"], dtype=np.uint8)
    table[:0xC0] = CLASS["symbol"]
    table[0xC0:0x370] = CLASS["latin"]
    table[0x370:0x400] = CLASS["greek"]
    for low, high in ((0x2000, 0x2E80), (0x3000, 0x3040), (0xD800, 0xF900), (0xFE00, 0x10000)):
        table[low:high] = CLASS["symbol"]
    for low, high in ((0x2E80, 0x3000), (0x3040, 0xA4D0), (0xAC00, 0xD7B0), (0xF900, 0xFB00)):
        table[low:high] = CLASS["cjk"]
    for name, characters in _ASCII_CLASSES.items():
        table[[ord(character) for character in characters]] = CLASS[name]
    return table


CLASS_TABLE: Final = _class_table()
OPENING_KINDS: Final = len(_OPENINGS)
OPENING_COLUMN: Final = {word: column for column, words in enumerate(_OPENINGS.values()) for word in words}
