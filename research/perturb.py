"""Typing errors, deterministic: what a router should hardly notice."""

from __future__ import annotations

import random

__all__ = ["with_typos"]

_KINDS = 4


def with_typos(text: str, *, rate: float, seed: int) -> str:
    """Swap, drop, double or replace a letter at ``rate`` of the characters (one at least, inside words only)."""
    generator = random.Random(f"{seed}:{text}")
    characters = list(text)
    inside = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    for place in generator.sample(inside, min(len(inside), max(1, int(len(text) * rate)))):
        kind = generator.randrange(_KINDS)
        if kind == 0:
            characters[place], characters[place + 1] = characters[place + 1], characters[place]
        elif kind == 1:
            characters[place] = ""
        elif kind == 2:
            characters[place] *= 2
        elif text[place].isascii():
            characters[place] = generator.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(characters)
