"""Judged difficulty: what a weak and a strong model will make of a prompt, as an LLM judged from the prompt alone.

No outcome of any model is in these labels; ``data/judged_difficulty`` of the shared folder says how they were made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.pool import shared_folder
from routellm_core._optional import import_extra

__all__ = ["HELD_OUT_SOURCES", "JUDGED_LICENCES", "JudgedRows", "held_out", "judged_frame", "judged_rows"]

JUDGED_LICENCES: Final = frozenset(
    {
        "Apache-2.0",
        "MIT",
        "MIT (AGIEval)",
        "MIT (MATH)",
        "MIT (benchmark), Apache-2.0 (repo)",
        "MIT repo; prompts from lmsys/chatbot_arena_conversations (CC-BY-4.0)",
        "this project's own",
    }
)
"""Licence statements of prompts whose judged labels may be trained on, spelled as the data spells them."""
HELD_OUT_SOURCES: Final = frozenset({"cje_arena", "word_problems", "farel"})
HELD_OUT_CATEGORIES: Final = frozenset({"economics", "biology", "psychology"})
"""Of MMLU-Pro."""
_TRANSLATION_FOLDS: Final = 5
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """n prompts with a label each; what a guide does not say is NaN.

    Attributes:
        prompts: the prompts.
        lead: foreseen score of the strong minus the weak answer (guide ``judge_score``).
        exam_lead: square root of weak_fails − strong_fails in per cent (guide ``exam``).
        translated: whether the prompt is a translation of another row's.
        languages: language codes.
        ids: a prompt and its translations share one.
        licences: of the prompts.
    """

    prompts: list[str]
    ids: list[str]
    lead: Floats
    exam_lead: Floats
    translated: npt.NDArray[np.bool_]
    languages: npt.NDArray[np.str_]
    licences: list[str]


def judged_frame(folder: Path | None = None) -> Any:
    """Every label and its translations, licensed or not: the columns of ``labels.parquet`` and ``translated``."""
    pandas = import_extra("pandas", extra="train", purpose="Reading the judged labels")
    folder = shared_folder() / "data" if folder is None else folder
    labels = pandas.read_parquet(folder / "judged_difficulty" / "labels.parquet").assign(translated=False)
    translations = pandas.read_json(folder / "parity" / "train.jsonl", lines=True).assign(translated=True)
    sources = labels.set_index("prompt_id")["source"]
    translations["source"] = translations["prompt_id"].map(sources)
    return pandas.concat([labels, translations], ignore_index=True)


def held_out(frame: Any, categories: dict[str, str]) -> npt.NDArray[np.bool_]:
    """Which rows are left out while choosing: whole sources, three subjects, and a fifth of the translated prompts.

    Args:
        frame: of :func:`judged_frame`.
        categories: the category of each prompt of the training pool.
    """
    subject = frame["prompt_id"].map(categories).isin(HELD_OUT_CATEGORIES) & (frame["source"] == "mmlu_pro")
    chosen = {key for key in frame.loc[frame["translated"], "prompt_id"] if _fold(key) == 0}
    away = frame["source"].isin(HELD_OUT_SOURCES) | subject | frame["prompt_id"].isin(chosen)
    return np.asarray(away.to_numpy(dtype=bool))


def judged_rows(frame: Any) -> JudgedRows:
    """Keep the licensed, carefully judged rows of ``frame`` (guides ``judge_score`` and ``exam``)."""
    kept = frame[frame["data_licence"].isin(JUDGED_LICENCES) & frame["guide"].isin(["judge_score", "exam"])]
    chat = (kept["guide"] == "judge_score").to_numpy()
    lead = (kept["strong_score"] - kept["weak_score"]).to_numpy(dtype=np.float64)
    fails = (kept["weak_fails"].astype("Float64") - kept["strong_fails"].astype("Float64")).to_numpy(
        dtype=np.float64, na_value=np.nan
    )
    return JudgedRows(
        prompts=kept["prompt"].tolist(),
        ids=kept["prompt_id"].tolist(),
        lead=np.where(chat, lead, np.nan),
        exam_lead=np.where(chat, np.nan, np.sqrt(np.maximum(fails, 0.0))),
        translated=kept["translated"].to_numpy(dtype=bool),
        languages=kept["lang"].to_numpy(dtype=str),
        licences=kept["data_licence"].tolist(),
    )


def _fold(prompt_id: str) -> int:
    """A fold that depends on nothing but the prompt's id."""
    return int(hashlib.md5(prompt_id.encode(), usedforsecurity=False).hexdigest(), 16) % _TRANSLATION_FOLDS
