"""Regenerate what ships, one command per asset, in this order.

    python -m research.shipped static      # the static embedding with its opinions
    python -m research.shipped mf_static   # the embedded default router
    python -m research.shipped mf_minilm   # the router for the extra [minilm]
    python -m research.shipped sw_ranking  # the small similarity index
    python -m research.shipped all

Needs the shared data (see ``research.pool`` and ``research.judged``). Nothing is random, so a run repeats to the last
digit that the machine's linear algebra repeats.
"""

from __future__ import annotations

import argparse
import logging
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from research.cards import write_card
from research.distill_static import principal_table, slim_tokenizer, token_vectors
from research.evidence import Evidence, Read, fit_opinion_heads, word_weights
from research.judged import JudgedRows, held_out, judged_frame, judged_rows
from research.pool import Pool, load_pool
from research.shipped_sw import train_shipped_sw
from research.static_asset import write_static
from research.targets import DifficultyRows, difficulty_rows
from routellm_core._files import ASSETS
from routellm_core.embeddings.base import Embedder
from routellm_core.embeddings.content import STATIC_FOLDER, Content, ContentReader, content_dimension
from routellm_core.embeddings.minilm import MINILM_SHA256, MiniLMEmbedder, minilm_folder
from routellm_core.embeddings.static import StaticEmbedder
from routellm_core.evals.robustness import with_typos
from routellm_core.training.matrix_factorization import CheckpointFacts, reference_quantiles, write_checkpoint

__all__ = ["Sources", "build_static", "load_sources", "main", "traffic_prompts", "train_shipped_mf"]

logger = logging.getLogger(__name__)
MEDIAN_SCORE: Final = 0.116
"""Score that half of ordinary traffic reaches, as with the published checkpoints."""
PAIR: Final = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
TRAFFIC_SOURCE: Final = "arena55k"
SLOPE: Final = 0.65
"""Log-odds of a strict win per standard deviation of the opinion; docs/training-notes.md says where it comes from."""
DIMENSION: Final = 256


@dataclass(frozen=True, eq=False)
class Sources:
    """All that is trained on.

    Attributes:
        pool: licensed rows of the training pool.
        judged: judged labels.
        judged_sources: the source of each judged row.
        difficulty: measured difficulties.
        traffic: prompts that stand for ordinary traffic, in eleven languages.
    """

    pool: Pool
    judged: JudgedRows
    judged_sources: list[str]
    difficulty: DifficultyRows
    traffic: list[str]


def load_sources(*, choosing: bool = False) -> Sources:
    """Load the training data.

    Args:
        choosing: leave out the rows that candidates are compared on.
    """
    pool, frame = load_pool(), judged_frame()
    traffic = traffic_prompts(pool, frame)
    if choosing:
        categories = dict(zip(pool.prompts["prompt_id"], pool.prompts["category"], strict=True))
        frame = frame[~held_out(frame, categories)]
        pool = _without_held_out(pool)
    frame = frame.reset_index(drop=True)
    judged = judged_rows(frame)
    kept = frame[frame["prompt"].isin(set(judged.prompts))]
    return Sources(pool, judged, kept["source"].tolist(), difficulty_rows(pool, by_category=False), traffic)


def traffic_prompts(pool: Pool, frame: Any) -> list[str]:
    """Real chat prompts, and a third as many translated ones: three languages for each translated chat prompt."""
    english = pool.prompts.loc[pool.prompts["source"] == TRAFFIC_SOURCE, "prompt"].tolist()
    translated = frame[frame["translated"] & (frame["guide"] == "judge_score")]
    languages = sorted(translated["lang"].unique())
    place = {key: number for number, key in enumerate(sorted(translated["prompt_id"].unique()))}
    rank = translated["lang"].map(languages.index) + 3 * translated["prompt_id"].map(place)
    chosen = translated[rank % len(languages) < 3]
    return [*english, *chosen["prompt"].tolist()]


def train_shipped_mf(
    sources: Sources, embedder: Embedder, folder: Path, *, static: Path = STATIC_FOLDER
) -> dict[str, Any]:
    """Write one shipped router, with its card: the embedder's opinion, made a probability.

    The slope is a constant; the intercept puts the median of ordinary traffic at 0.116. Every shipped embedder has the
    same opinions, those of the asset in ``static``.

    Returns:
        the facts recorded under ``training`` in ``routing.json``.
    """
    opinion = StaticEmbedder(folder=static).embed(sources.traffic)[:, -2].astype(np.float64)
    intercept = float(np.log(MEDIAN_SCORE / (1 - MEDIAN_SCORE)) - SLOPE * np.median(opinion))
    vector = np.zeros(embedder.dimension)
    vector[-2:] = SLOPE, intercept
    scores = 1.0 / (1.0 + np.exp(-(SLOPE * opinion + intercept)))
    licences, measured = set(sources.pool.prompts["data_licence"]), sources.difficulty.unit.tolist()
    facts = {
        "command": f"python -m research.shipped {folder.name}",
        "labels": "difficulty judged by an LLM from the prompt (no outcome of any model), and measured difficulty",
        "rows": len(sources.judged.prompts) + len(sources.difficulty.texts),
        "rows_by_source": {
            **{f"{name} (judged)": count for name, count in sorted(Counter(sources.judged_sources).items())},
            **{f"{name} (measured)": count for name, count in sorted(Counter(measured).items())},
        },
        "licences": sorted(licences | {"CC-BY-4.0 (prompts of cje_arena)", "this project's own"}),
        "random_seed": None,
        "slope": SLOPE,
        "median_score_on_reference_traffic": MEDIAN_SCORE,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    checkpoint = CheckpointFacts(
        embedder=embedder.name,
        strong_model=PAIR[0],
        weak_model=PAIR[1],
        reference_quantiles=reference_quantiles(scores),
        reference_traffic=f"{len(scores)} chat prompts of LMSYS Chatbot Arena ({TRAFFIC_SOURCE}, Apache-2.0), "
        "a quarter of them translated into ten languages",
        training=facts,
    )
    write_checkpoint(folder, vector, checkpoint)
    write_card(folder, checkpoint)
    logger.info("wrote %s", folder.name)
    return facts


def _without_held_out(pool: Pool) -> Pool:
    frame = pool.prompts.assign(translated=False)
    categories = dict(zip(frame["prompt_id"], frame["category"], strict=True))
    away = set(frame.loc[held_out(frame, categories), "prompt_id"])

    def left(part: Any) -> Any:
        return part[~part["prompt_id"].isin(away)].reset_index(drop=True)

    return Pool(prompts=left(pool.prompts), scores=left(pool.scores), pairs=left(pool.pairs))


def build_static(sources: Sources, folder: Path = STATIC_FOLDER) -> None:
    """Distil the table, count what tokens count for, and fit moments, word weights and heads."""
    model = minilm_folder()
    existing = folder / "model.safetensors"
    if existing.is_file():  # the table depends on MiniLM alone, and takes minutes
        tensors = load_file(existing)
        table = tensors["table"].astype(np.float32) * tensors["scale"][:, None]
    else:
        table = principal_table(token_vectors(model), dimension=DIMENSION)
    vocabulary, content = len(table), content_dimension()
    config = {
        "name": "static-v2",
        "dimension": DIMENSION,
        "distilled_from": "sentence-transformers/all-MiniLM-L6-v2",
        "source_sha256": MINILM_SHA256,
        "labels": "difficulty judged by an LLM from the prompt (no outcome of any model), and measured difficulty",
        "licence": "Apache-2.0",
    }

    def write(fitted: dict[str, npt.NDArray[np.floating]]) -> ContentReader:
        write_static(folder, table=table, tokenizer_json=slim_tokenizer(model), fitted=fitted, config=config)
        ContentReader.forget()
        return ContentReader(folder)

    fitted: dict[str, npt.NDArray[np.floating]] = {
        "word_weights": np.zeros(vocabulary),
        "means": np.zeros(content),
        "scales": np.ones(content),
        "heads.weights": np.zeros((3, DIMENSION + content + 1)),
        "heads.biases": np.zeros(3),
        "heads.moments": np.array([0.0, 1.0]),
    }
    reader = write(fitted)
    raw = reader.raw_features(sources.traffic)
    # A feature that ordinary prompts (nearly) never show keeps a scale that lets it matter little.
    fitted |= {"means": raw.mean(axis=0), "scales": np.maximum(raw.std(axis=0), 0.01)}
    reader = write(fitted)
    judged = reader.read(sources.judged.prompts)
    fitted["word_weights"] = word_weights(sources.judged, judged.ids, vocabulary)
    evidence = Evidence(
        judged=sources.judged,
        judged_read=_static_read(judged),
        difficulty=sources.difficulty,
        difficulty_read=_static_read(reader.read(sources.difficulty.texts)),
        traffic_read=_static_read(reader.read(sources.traffic)),
        misspelt_read=_static_read(reader.read(_misspelt(sources.traffic))),
    )
    heads = fit_opinion_heads(evidence, fitted["word_weights"].astype(np.float16))
    fitted |= {f"heads.{name}": array for name, array in heads.items()}
    write(fitted)
    logger.info("wrote %s", folder.name)


def _misspelt(prompts: list[str]) -> list[str]:
    return [with_typos(prompt, rate=0.015, seed=1) for prompt in prompts]


def _static_read(content: Content) -> Read:
    return Read(np.hstack([content.semantic, content.features]).astype(np.float64), content.ids)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Regenerate the shipped assets.")
    parser.add_argument("asset", choices=["static", "mf_static", "mf_minilm", "sw_ranking", "all"])
    asset = parser.parse_args(arguments).asset
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = load_sources()
    if asset in ("static", "all"):
        build_static(sources)
    if asset in ("mf_static", "all"):
        train_shipped_mf(sources, StaticEmbedder(), ASSETS / "mf_static")
    if asset in ("mf_minilm", "all"):
        train_shipped_mf(sources, MiniLMEmbedder(), ASSETS / "mf_minilm")
    if asset in ("sw_ranking", "all"):
        train_shipped_sw(sources.judged, StaticEmbedder(), ASSETS / "sw_ranking")


if __name__ == "__main__":
    main()
