"""From evidence to opinions: the linear heads that an embedder ends in.

Five regressions, each on one kind of evidence, are standardised over ordinary traffic and added. Separate fits added up
beat one fit of everything, because chat and exams pull a common direction apart (docs/training-notes.md):

    lead         foreseen lead of the strong answer in chat, on meaning and content
    words        the same, on which words occur
    exam         foreseen lead in exams, the meaning penalised heavily
    exam_content the same, on content alone
    difficulty   measured difficulty over many models, with the random effects of ``matrix_factorization``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.difficulty import FitOptions, fit_direction, unit_information
from research.judged import JudgedRows
from research.targets import DifficultyRows
from routellm_core._optional import import_extra
from routellm_core.embeddings.content import CONTENT_NAMES

__all__ = ["CHAT_MIX", "EXAM_MIX", "Evidence", "Read", "fit_opinion_heads", "word_scores", "word_weights"]

CHAT_MIX: Final = {"lead": 1.0, "words": 1.0, "difficulty": 0.3, "exam_content": 0.3}
EXAM_MIX: Final = {"exam": 1.0, "exam_content": 1.0, "difficulty": 1.0}
_FREE: Final = 1e9
_PENALTIES: Final = {
    "lead": (1500.0, 1500.0),
    "exam": (10_000.0, 300.0),
    "exam_content": (_FREE, 1000.0),
    "chat": (1000.0, 1000.0),
}
"""λ of the semantic components and of the content features."""
_DIFFICULTY: Final = (3000.0, 0.01, 0.8)
"""λ, τ and the prior mean on the number of words, as chosen in the first round."""
_WORD_PENALTY: Final = 300.0
_MIN_OCCURRENCES: Final = 3
_TRANSLATION_WEIGHT: Final = 0.1
"""Of a translated row: ten translations of a prompt weigh as much as the prompt."""
_GATE_SHARPNESS: Final = 8.0
_POOL_WEIGHT: Final = 0.3
"""Of an exam of the pool in the gate, so that chat and exams weigh about the same."""
_TYPO_WEIGHT: Final = 2.0
_SHIFT_WEIGHT: Final = 30.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Read:
    """What an embedder reads of n prompts: ``values`` (n, d) with the content features last, and the tokens."""

    values: Floats
    ids: list[list[int]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that is trained on, read by one embedder.

    Attributes:
        judged: labels, aligned with ``judged_read``.
        difficulty: measured difficulties, aligned with ``difficulty_read``.
        traffic_read: ordinary prompts, over which everything is standardised.
        misspelt_read: the same prompts with typing errors.
    """

    judged: JudgedRows
    judged_read: Read
    difficulty: DifficultyRows
    difficulty_read: Read
    traffic_read: Read
    misspelt_read: Read


def word_scores(ids: list[list[int]], weights: npt.NDArray[np.floating]) -> Floats:
    """Sum of the weights of the distinct tokens over the root of their number, shape (n,)."""
    distinct = [list(set(tokens or [0])) for tokens in ids]
    return np.array([weights.take(tokens).sum() / np.sqrt(len(tokens)) for tokens in distinct], dtype=np.float64)


def word_weights(judged: JudgedRows, ids: list[list[int]], vocabulary: int) -> Floats:
    """Regress the foreseen lead on which tokens occur (weighted by inverse frequency), shape (vocabulary,).

    Tokens seen in fewer than three prompts stay 0.
    """
    sparse = import_extra("scipy.sparse", extra="train", purpose="Fitting word weights")
    linalg = import_extra("scipy.sparse.linalg", extra="train", purpose="Fitting word weights")
    rows = np.flatnonzero(~np.isnan(judged.lead))
    distinct = [sorted(set(ids[row] or [0])) for row in rows]
    sizes = np.array([len(tokens) for tokens in distinct])
    columns = np.concatenate([np.asarray(tokens) for tokens in distinct])
    matrix = sparse.csr_matrix(
        (np.repeat(sizes**-0.5, sizes), (np.repeat(np.arange(len(rows)), sizes), columns)),
        shape=(len(rows), vocabulary),
    )
    occurrences = np.bincount(columns, minlength=vocabulary)
    rarity = np.maximum(np.log(len(rows) / (1.0 + occurrences)), 0.0)
    rarity[occurrences < _MIN_OCCURRENCES] = 0.0
    weights = _row_weights(judged)[rows]
    target = judged.lead[rows] - np.average(judged.lead[rows], weights=weights)
    root = np.sqrt(weights)
    design = sparse.diags(root) @ matrix @ sparse.diags(rarity)
    centre = np.asarray(design.T @ root) / weights.sum()  # centring without filling the matrix
    centred = linalg.LinearOperator(
        design.shape,
        matvec=lambda vector: design @ np.ravel(vector) - root * (centre @ np.ravel(vector)),
        rmatvec=lambda vector: design.T @ np.ravel(vector) - centre * (root @ np.ravel(vector)),
    )
    solution = linalg.lsqr(centred, root * target, damp=_WORD_PENALTY**0.5, atol=1e-9, btol=1e-9, iter_lim=300)[0]
    return np.asarray(solution * rarity)


def fit_opinion_heads(evidence: Evidence, weights: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.float32]]:
    """Fit the heads that :func:`routellm_core.embeddings.opinions.opinions` takes.

    Args:
        evidence: read by the embedder that the heads are for.
        weights: of :func:`word_weights`.
    """
    semantic = evidence.traffic_read.values.shape[1] - len(CONTENT_NAMES)
    judged, values = evidence.judged, evidence.judged_read.values
    targets = {
        "lead": judged.lead,
        "exam": judged.exam_lead,
        "exam_content": judged.exam_lead,
    }
    fitted: dict[str, tuple[Floats, float, float]] = {}
    for name, target in targets.items():
        known = ~np.isnan(target)
        direction, offset = _ridge(values[known], target[known], _row_weights(judged)[known], name, semantic)
        fitted[name] = (direction, 0.0, offset)
    fitted["difficulty"] = (_difficulty_direction(evidence, semantic), 0.0, 0.0)
    fitted["words"] = (np.zeros(values.shape[1]), 1.0, 0.0)
    traffic, traffic_words = evidence.traffic_read.values, word_scores(evidence.traffic_read.ids, weights)
    heads = [_mixed(fitted, mix, traffic, traffic_words) for mix in (CHAT_MIX, EXAM_MIX)]
    gate, offset = _gate(evidence, semantic)
    heads.append((gate * _GATE_SHARPNESS, 0.0, (offset - 0.5) * _GATE_SHARPNESS))
    read = np.column_stack([traffic, traffic_words])
    stacked_weights = np.stack([np.append(direction, word) for direction, word, _ in heads])
    biases = np.array([bias for _, _, bias in heads])
    steady = stacked_weights @ _steadying(evidence, weights).T
    # What the weights lose in spread over ordinary traffic they get back; the mean stays.
    steady *= ((read @ stacked_weights.T).std(axis=0) / (read @ steady.T).std(axis=0))[:, None]
    biases += (stacked_weights - steady) @ read.mean(axis=0)
    chat, exam, odds = (read @ steady.T + biases).T
    share = 1.0 / (1.0 + np.exp(-odds))
    mixture = share * chat + (1.0 - share) * exam
    stacked = {
        "weights": steady,
        "biases": biases,
        "moments": np.array([mixture.mean(), mixture.std()]),
    }
    return {name: np.asarray(array, dtype=np.float32) for name, array in stacked.items()}


def _steadying(evidence: Evidence, weights: npt.NDArray[np.floating]) -> Floats:
    """The map that makes weights steady, shape (d + 1, d + 1).

    It changes scores of ordinary prompts least while typing errors, and the mean shift of each language from its
    English originals, move them little: ridge regression of the old scores with the shifts as a penalty.
    """

    def read(part: Read) -> Floats:
        return np.column_stack([part.values, word_scores(part.ids, weights)])

    traffic = read(evidence.traffic_read)
    typos = read(evidence.misspelt_read) - traffic
    judged = read(evidence.judged_read)
    originals = {key: row for row, key in enumerate(evidence.judged.ids) if not evidence.judged.translated[row]}
    shifts = []
    for language in np.unique(evidence.judged.languages[evidence.judged.translated]):
        rows = np.flatnonzero(evidence.judged.translated & (evidence.judged.languages == language))
        rows = np.array([row for row in rows if evidence.judged.ids[row] in originals])
        twins = [originals[evidence.judged.ids[row]] for row in rows]
        shifts.append(judged[rows].mean(axis=0) - judged[twins].mean(axis=0))
    centred = traffic - traffic.mean(axis=0)
    gram = centred.T @ centred / len(centred) + 1e-3 * np.eye(centred.shape[1])
    penalty = _TYPO_WEIGHT * typos.T @ typos / len(typos)
    penalty += _SHIFT_WEIGHT * sum(np.outer(shift, shift) for shift in shifts)
    return np.asarray(np.linalg.solve(gram + penalty, gram))


def _row_weights(judged: JudgedRows) -> Floats:
    return np.where(judged.translated, _TRANSLATION_WEIGHT, 1.0)


def _ridge(values: Floats, target: Floats, weights: Floats, name: str, semantic: int) -> tuple[Floats, float]:
    """Weighted ridge regression; returns the direction and the offset."""
    mean, level = np.average(values, axis=0, weights=weights), float(np.average(target, weights=weights))
    centred = values - mean
    penalty = np.repeat(_PENALTIES[name], (semantic, values.shape[1] - semantic))
    gram = (centred * weights[:, None]).T @ centred + np.diag(penalty)
    direction = np.linalg.solve(gram, (centred * weights[:, None]).T @ (target - level))
    return direction, level - float(mean @ direction)


def _difficulty_direction(evidence: Evidence, semantic: int) -> Floats:
    penalty, spread, prior = _DIFFICULTY
    mean = np.zeros(evidence.difficulty_read.values.shape[1])
    mean[semantic + CONTENT_NAMES.index("words")] = prior
    information = unit_information(evidence.difficulty_read.values.astype(np.float32), evidence.difficulty)
    return fit_direction(information.values(), FitOptions(penalty=penalty, prior_mean=mean, unit_spread=spread))


def _gate(evidence: Evidence, semantic: int) -> tuple[Floats, float]:
    """Regress 1 for chat and 0 for exams on what was read, with the pool's exams beside the judged rows."""
    values = np.vstack([evidence.judged_read.values, evidence.difficulty_read.values])
    measured = len(evidence.difficulty.texts)
    target = np.append(~np.isnan(evidence.judged.lead), np.zeros(measured)).astype(np.float64)
    weights = np.append(_row_weights(evidence.judged), np.full(measured, _POOL_WEIGHT))
    return _ridge(values, target, weights, "chat", semantic)


def _mixed(
    fitted: Mapping[str, tuple[Any, float, float]], mix: Mapping[str, float], traffic: Floats, traffic_words: Floats
) -> tuple[Floats, float, float]:
    """Add the standardised regressions of a mix and standardise the sum over traffic."""
    direction, word, bias = np.zeros(traffic.shape[1]), 0.0, 0.0
    for name, share in mix.items():
        part, part_word, _ = fitted[name]
        scores = traffic @ part + part_word * traffic_words
        direction, word = direction + share / scores.std() * part, word + share / scores.std() * part_word
        bias -= share / scores.std() * scores.mean()
    spread = (traffic @ direction + word * traffic_words + bias).std()
    return direction / spread, word / float(spread), bias / float(spread)
