"""Greetings and thanks around a request: they say nothing of how hard it is, so they are taken off before reading."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["without_courtesy"]


def _entries(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(" ".join(entry.split()) for entry in text.split(separator))


_MARKERS: Final = _entries(
    """
    please pls plz kindly thank thanks thx hi hello hey dear greetings appreciate appreciated grateful help assist
    assistance regards cheers morning afternoon evening favor favour hope request
    """
)
_FILLERS: Final = _entries(
    """
    a about advance again ai all am and any are assistant at be best bot can chatgpt could day do doing fine
    following for friend good great greatly happy have having help helping how i i'd i'll i'm if in is it kind
    kindly let lot lots many me much my need nice of on out possible problem quick question questions re really s
    sincerely so some support sure task team that the there this time to today us ve very warm was well will with
    wonder wondering would you you'll you're your yours
    """
)
_PHRASES: Final = _entries(
    """
    你好 | 您好 | 请帮我一下 | 请帮帮我 | 请问 | 麻烦你了 | 麻烦您了 | 谢谢 | 谢谢你 | 谢谢您 | 非常感谢 | 多谢
    | こんにちは | お願いします | 教えてください | よろしくお願いします | ありがとうございます | ありがとう |
    助かります | 안녕하세요 | 도와주세요 | 감사합니다 | 고마워요 | 부탁드립니다 | 부탁합니다 | مرحبا | شكرا | धन्यवाद
    | नमस्ते | hallo | danke | dankeschön | bonjour | merci | hola |
    gracias | здравствуйте | привет | спасибо | olá | obrigado | obrigada
    | guten tag | guten morgen | vielen dank | vielen dank im voraus |
    danke im voraus | können sie mir bitte helfen | kannst du mir bitte
    helfen | merci d'avance | merci beaucoup | pouvez-vous m'aider s'il
    vous plaît | buenos días | muchas gracias | gracias de antemano |
    puedes ayudarme por favor | por favor ayúdame | добрый день | заранее
    благодарю | заранее спасибо | большое спасибо | помогите, пожалуйста |
    شكرا جزيلا | من فضلك ساعدني | السلام عليكم | बहुत धन्यवाद | कृपया मेरी
    मदद करें | muito obrigado | muito obrigada | bom dia | por favor, me
    ajude | você pode me ajudar, por favor
    """,
    "|",
)
_LEADING: Final = re.compile(r"[^.!?,;:。！？，、؟\n]{1,120}[.!?,;:。！？，、؟\n]+\s*")
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_ENDS: Final = ".!?,;:。！？，、؟\n"
_TAIL: Final = re.compile(
    r"\s(?:many thanks|thanks|thank you|thx|cheers|please)"
    r"(?: (?:so|very) much| a lot| in advance| for your (?:help|time))*"
    r"\s*[.!,]+$"
)
_AT_MOST: Final = 4


def without_courtesy(text: str) -> str:
    """Return ``text`` without whole sentences of courtesy at its ends; a text that is nothing else stays as it is.

    Args:
        text: in lower case; a line break ends a sentence.
    """
    kept = text
    for _ in range(_AT_MOST):
        match = _LEADING.match(kept)
        if match is None or match.end() == len(kept) or not _is_courtesy(match.group()):
            break
        kept = kept[match.end() :]
    for _ in range(_AT_MOST):
        shorter = _without_last(kept)
        if not shorter:
            break
        kept = shorter
    return kept


def _without_last(text: str) -> str:
    """``text`` without its last sentence if that is courtesy, else the empty string."""
    body = text.rstrip(_ENDS + " ")
    start = max(body.rfind(mark) for mark in _ENDS) + 1
    if start > 0 and len(body) - start <= 120 and _is_courtesy(body[start:]):
        return text[:start].rstrip()
    match = _TAIL.search(text)
    return text[: match.start()].rstrip() if match else ""


def _is_courtesy(sentence: str) -> bool:
    if sentence.strip(_ENDS + " ¡¿") in _PHRASES:
        return True
    words = _WORD.findall(sentence)
    return (
        bool(words)
        and any(word in _MARKERS for word in words)
        and all(word in _MARKERS or word in _FILLERS for word in words)
    )
