"""RouteLLM's sw_ranking algorithm, restated: what it computes per prompt, with the tools it uses.

Norms of all battle embeddings are computed again for every prompt, in float64, and a scikit-learn logistic regression
over two rows per battle is fitted from scratch. Only for benchmarks; the library never imports this.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

LOG_BASE = math.log(10)


class ReferenceSimilarityWeighted:
    """The published algorithm over a table of battles between tiers.

    Args:
        tier_a: shape (n,), tier of model_a.
        tier_b: likewise.
        winner: n of ``model_a``, ``model_b``, ``tie``.
        embeddings: shape (n, d), float64 as the published code loads them.
        strong_tier: tier of the strong model.
        weak_tier: tier of the weak model.
    """

    def __init__(
        self,
        tier_a: np.ndarray,
        tier_b: np.ndarray,
        winner: np.ndarray,
        embeddings: np.ndarray,
        strong_tier: int,
        weak_tier: int,
    ) -> None:
        self.battles = pd.DataFrame({"model_a": tier_a, "model_b": tier_b, "winner": winner})
        self.embeddings = embeddings
        self.strong_tier, self.weak_tier = strong_tier, weak_tier

    def score(self, embedding: np.ndarray) -> float:
        """Return the strong model's win rate for one embedded prompt."""
        lengths = np.linalg.norm(self.embeddings, axis=1) * np.linalg.norm(embedding)
        similarities = self.embeddings @ embedding / lengths
        ratings = fit_ratings(self.battles, 10 * 10 ** (similarities / similarities.max()))
        return float(1 - 1 / (1 + 10 ** ((ratings[self.strong_tier] - ratings[self.weak_tier]) / 400)))


def fit_ratings(battles: pd.DataFrame, weights: np.ndarray) -> pd.Series:
    """Fit Elo ratings by logistic regression, every battle entered twice and a tie won once by each side."""
    players = pd.concat([battles["model_a"], battles["model_b"]]).unique()
    column = pd.Series(np.arange(len(players)), index=players)
    twice = pd.concat([battles, battles], ignore_index=True)
    rows = np.arange(len(twice))
    design = np.zeros((len(twice), len(players)))
    design[rows, column[twice["model_a"]]] = LOG_BASE
    design[rows, column[twice["model_b"]]] = -LOG_BASE
    won = np.zeros(len(twice))
    won[twice["winner"] == "model_a"] = 1.0
    is_tie = (twice["winner"] == "tie") | (twice["winner"] == "tie (bothbad)")
    is_tie[len(twice) // 2 :] = False
    won[is_tie] = 1.0
    # C=inf is scikit-learn's current spelling of "no penalty".
    regression = LogisticRegression(fit_intercept=False, C=np.inf)
    regression.fit(design, won, sample_weight=np.concatenate([weights, weights]))
    return pd.Series(400 * regression.coef_[0] + 1000, index=players).sort_values(ascending=False)
