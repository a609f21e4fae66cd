"""Robustness: does a prompt keep its tier when something changes that says nothing of how hard it is?

Every prompt is changed in each of the ways below, one at a time; at the threshold that sends half of the unchanged
prompts to the strong model, the share that keeps its tier is counted. What a change adds is the same for every prompt,
and typing errors are drawn from the prompt itself, so a check repeats exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.evals.report import markdown_table
from routellm_core.routers.base import Router
from routellm_core.types import FloatArray

_REMINDER: Final = (
    "<system-reminder>\nAs you answer, you can use the following context:\n# importantInstructionReminders\nDo what "
    "has been asked; nothing more, nothing less. ALWAYS prefer editing an existing file to creating a new one.\n"
    "</system-reminder>"
)
_ENVIRONMENT: Final = (
    "<environment_details>\n# Visible files\nsrc/main.py\n\n# Current time\n11/25/2026, 10:31:08 AM (UTC)\n\n# Current "
    "working directory (/home/dev/app) files\nREADME.md\nsrc/main.py\nsrc/util.py\n</environment_details>"
)
_PAGE: Final = (
    "The harbour of the old town was built in the middle of the nineteenth century and enlarged twice after the great "
    "storms. Its three basins, of which the northern one is the deepest, handled timber, grain and coal. When the "
    "railway came, most of the trade moved inland; what remained were fishing boats, ferries and, later, visitors.\n\n"
) * 6
_ONE_LINE: Final = 300
_MOST_PROMPTS: Final = 1000
_KINDS: Final = 4
Change = Callable[[str], str]


def with_typos(text: str, *, rate: float, seed: int = 0) -> str:
    """Swap, drop, double or replace letters at ``rate`` of the characters, one at least, inside words only."""
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


CHANGES: Final[Mapping[str, Change]] = {
    "500 blanks after it": lambda text: text + " " * 500,
    "200 blanks before it": lambda text: " " * 200 + text,
    "50 blank lines around it": lambda text: "\n" * 25 + text + "\n" * 25,
    "line breaks doubled": lambda text: text.replace("\n", "\n\n"),
    "quotes around it": lambda text: f'"{text}"',
    "a code fence around it": lambda text: f"```\n{text}\n```",
    "a request for help before it": lambda text: f"Could you please help me with this? {text}",
    "a greeting before it": lambda text: f"Hi, I hope you're doing well. I have a request.\n\n{text}",
    "thanks after it": lambda text: f"{text} Thanks!",
    "more thanks after it": lambda text: f"{text}\n\nThank you very much in advance, I really appreciate your help.",
    "upper case": str.upper,
    "typing errors, 1 %": lambda text: with_typos(text, rate=0.01),
    "typing errors, 2 %": lambda text: with_typos(text, rate=0.02),
    "an agent's reminder before it": lambda text: f"{_REMINDER}\n{text}",
    "an agent's environment after it": lambda text: f"{text}\n{_ENVIRONMENT}",
    "a page after it": lambda text: f"{text}\n\n{_PAGE}",
}
"""Each change by name. The page is pasted after prompts of one line only."""


@dataclass(frozen=True)
class Robustness:
    """What a check found.

    Attributes:
        prompts: how many prompts were changed.
        length_correlation: Spearman's rank correlation of score and number of characters, unchanged prompts.
        kept: by change, the share of prompts that keep their tier.
    """

    prompts: int
    length_correlation: float
    kept: Mapping[str, float]


def rank_correlation(left: FloatArray, right: FloatArray) -> float:
    """Spearman's rank correlation; equal values share their mean rank."""
    ranks = []
    for values in (left, right):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    if min(rank.std() for rank in ranks) == 0.0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def check_robustness(router: Router, prompts: Sequence[str]) -> Robustness:
    """Score every prompt unchanged and in each changed form.

    Args:
        router: the router to check.
        prompts: at least two; a few hundred of one's own traffic say something.

    Raises:
        ConfigError: fewer than two prompts.
    """
    if len(prompts) < 2:
        raise ConfigError(
            f"a robustness check needs at least 2 prompts, got {len(prompts)}; a few hundred say something"
        )
    scores = np.asarray(router.score(prompts), dtype=np.float64)
    threshold = float(np.median(scores))
    strong = scores >= threshold
    lines = [row for row, text in enumerate(prompts) if "\n" not in text.strip() and len(text) <= _ONE_LINE]
    kept = {}
    for name, change in CHANGES.items():
        rows = lines if name == "a page after it" else list(range(len(prompts)))
        if rows:
            changed = np.asarray(router.score([change(prompts[row]) for row in rows]), dtype=np.float64)
            kept[name] = float(((changed >= threshold) == strong[rows]).mean())
    lengths = np.array([len(text) for text in prompts], dtype=np.float64)
    return Robustness(len(prompts), rank_correlation(scores, lengths), kept)


def evenly(prompts: Sequence[str]) -> list[str]:
    """Return at most 1,000 of the prompts, evenly spread."""
    if len(prompts) <= _MOST_PROMPTS:
        return list(prompts)
    return [prompts[row] for row in np.linspace(0, len(prompts) - 1, _MOST_PROMPTS).astype(int)]


def robustness_table(found: Mapping[str, Robustness]) -> str:
    """Return a Markdown table with a column for each router: shares that keep their tier, correlation with length."""
    rows = [
        [name, *(f"{one.kept[name] * 100:.1f} %" if name in one.kept else "–" for one in found.values())]
        for name in CHANGES
    ]
    rows.append(["rank correlation with length", *(f"{one.length_correlation:.3f}" for one in found.values())])
    return markdown_table(["keep their tier", *found], rows)
