"""Learning curves: what 100, 300 and 1,000 labels of one's own are worth, from the shipped router's opinion.

    python -m research.own_labels

In-domain by definition, so a figure of its own and never a headline. Mean of several random draws, APGR on all other
rows.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from routellm_core.training.adaptation import adapt

from research.board import evaluation_sets
from research.report import apgr
from routellm_core.embeddings.static import StaticEmbedder
from routellm_core.routers.mf.router import MfCheckpoint
from routellm_core.rows.labelled import PairRows

__all__ = ["learning_curve", "main"]

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
_SIZES = (100, 300, 1000)


def learning_curve(
    prompts: list[str], gain: Floats, *, draws: int, prior: Floats, sizes: tuple[int, ...] = _SIZES
) -> Mapping[int, tuple[float, float, float]]:
    """For each number of labels: mean APGR of the adapted router, its spread over draws, and the prior's mean APGR.

    Args:
        prompts: n prompts.
        gain: shape (n,), quality of the strong minus the weak model.
        draws: random draws.
        prior: v of the router to start from, shape (d,).
        sizes: numbers of labels; those above half of n are left out.
    """
    embeddings = StaticEmbedder().embed(prompts)
    found = {}
    for size in (one for one in sizes if one <= len(prompts) / 2):
        adapted, start = [], []
        for draw in range(draws):
            order = np.random.default_rng(draw).permutation(len(prompts))
            mine, rest = order[:size], order[size:]
            rows = PairRows(
                prompts=tuple(prompts[row] for row in mine),
                weights=np.ones(size),
                places=tuple(str(row) for row in mine),
                licences=(),
                strong=np.maximum(gain[mine], 0.0),
                weak=np.maximum(-gain[mine], 0.0),
            )
            fit = adapt(rows, embeddings[mine], prior=prior, semantic=256, seed=draw).fit
            adapted.append(apgr(fit.expected_gain(embeddings[rest]), gain[rest]))
            start.append(apgr(embeddings[rest] @ prior, gain[rest]))
        found[size] = (float(np.mean(adapted)), float(np.std(adapted)), float(np.mean(start)))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line: print a table."""
    parser = argparse.ArgumentParser(description="Learning curves of training on one's own labels.")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--sets", nargs="*", default=["MMLU", "GSM8K", "sysbench", "pfmt_fin_ja"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    checkpoint = MfCheckpoint.load("default")
    prior = np.asarray(checkpoint.fold(*checkpoint.pair), dtype=np.float64)
    sets = evaluation_sets()
    for name in options.sets:
        curve = learning_curve(*sets[name], draws=options.draws, prior=prior)
        cells = [f"{size}: {start:.3f} → {mean:.3f} ± {spread:.3f}" for size, (mean, spread, start) in curve.items()]
        logger.info("%s | %s", name, " | ".join(cells))


if __name__ == "__main__":
    main()
