"""What of a prompt is read: the request, without what only surrounds it.

Padding, quotes or a code fence around the whole, letter case, courtesy and the blocks that coding agents add say
nothing of how hard a request is, and must not move it to another tier. A long page pasted after a short request counts
little.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from routellm_core.embeddings._courtesy import without_courtesy
from routellm_core.typed_text import typed_text

__all__ = ["HEAD_CHARS", "TAIL_CHARS", "request_and_paste"]

HEAD_CHARS: Final = 3000
TAIL_CHARS: Final = 1000
_RAW_CHARS: Final = (24_000, 4_000)
_PASTE_CHARS: Final = 1000
_LONG: Final = 900
_REQUEST_CHARS: Final = 500
_WRAPPERS: Final = 4
_FENCE: Final = re.compile(r"\A(`{3,}|~{3,})[^\n`]{0,40}\n(.*?)\s*\1\s*\Z", re.DOTALL)
_QUOTES: Final = {
    '"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "『": "』", "‹": "›",
}  # fmt: skip
_SPACE: Final = re.compile(r"\s+")
_BREAK: Final = re.compile(r"\s*\n\s*")


def request_and_paste(text: str) -> tuple[str, str]:
    """Return the request and what is pasted after it, each in lower case with white space folded.

    Of a request over 4,000 characters the first 3,000 and the last 1,000 remain, of a paste the first 1,000. The paste
    is empty unless the text is long and starts with a short paragraph or line.
    """
    if len(text) > sum(_RAW_CHARS):
        text = f"{text[: _RAW_CHARS[0]]}\n{text[-_RAW_CHARS[1] :]}"
    if "<" in text:
        text = typed_text([text]) or text
    text = _BREAK.sub(lambda found: "\n\n" if found.group().count("\n") > 1 else "\n", _unwrapped(text).lower().strip())
    request, paste = _split(without_courtesy(text))
    if len(request) > HEAD_CHARS + TAIL_CHARS:
        request = f"{request[:HEAD_CHARS]} {request[-TAIL_CHARS:]}"
    return _folded(request), _folded(paste[:_PASTE_CHARS])


def _unwrapped(text: str) -> str:
    """``text`` without blanks, quotes and fences around the whole."""
    for _ in range(_WRAPPERS):
        text = text.strip()
        fence = _FENCE.match(text)
        if fence and fence.group(1) not in fence.group(2) and fence.group(2).strip():
            text = fence.group(2)
        elif len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[1:-1].strip():
            text = text[1:-1]
        else:
            break
    return text


def _split(text: str) -> tuple[str, str]:
    if len(text) > _LONG:
        for break_ in ("\n\n", "\n"):
            head, _, rest = text.partition(break_)
            if 0 < len(head.strip()) <= _REQUEST_CHARS and len(rest) >= max(700, 2 * len(head)):
                return head, rest
    return text, ""


def _folded(text: str) -> str:
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _SPACE.sub(" ", text).strip()
