"""Held-out figures: by hand, against brute force, and their bias and coverage on made-up routers."""

import numpy as np
import pytest

from routellm_core.metrics.held_out import HeldOut, compare_held_out, fold_ranks, interval_text
from routellm_core.training.crossfit import cross_fit


def held_out(scores, gain, **more):
    n = len(gain)
    return HeldOut(
        how="by hand",
        scores=scores,
        expected_gain=next(iter(scores.values())) - 0.5,
        strong=np.ones(n),
        weak=1.0 - gain,
        models=("large", "small"),
        **more,
    )


def test_the_comparison_by_hand():
    gain = np.repeat([1.0, 0.0], 100)
    perfect, useless = np.repeat([0.9, 0.1], 100), np.tile([0.4, 0.6], 100)
    figures = compare_held_out(held_out({"trained": perfect, "prompt length": useless}, gain))
    # all of the gain is recovered at half the calls: a triangle of 1/4 and a square of 1/2
    assert figures["apgr"]["trained"]["value"] == pytest.approx(0.75, abs=0.01)
    assert figures["apgr"]["prompt length"]["value"] == pytest.approx(0.5, abs=0.01)
    assert figures["lead"]["prompt length"]["low"] > 0
    single = figures["best_single"]
    assert (single["model"], single["quality"], single["strong_share"], single["value"]) == ("large", 1.0, 0.5, 0.0)
    assert -0.02 < single["low"] < 0 < single["high"] < 0.02
    assert figures["verdicts"][0].startswith("- Better than prompt length")


def test_ranks_within_a_fold_estimate_the_covariance_without_bias():
    """The mean over all ways to draw a fold of four from twelve is the covariance over all pairs of the twelve."""
    from itertools import combinations

    generator = np.random.default_rng(0)
    scores, gain = generator.integers(0, 6, 12).astype(float), generator.normal(size=12)
    whole = (fold_ranks(scores, np.zeros(12, dtype=int)) * gain).mean()
    drawn = [
        (fold_ranks(scores[list(rows)], np.zeros(4, dtype=int)) * gain[list(rows)]).mean()
        for rows in combinations(range(12), 4)
    ]
    assert np.mean(drawn) == pytest.approx(whole)


def test_an_unknown_gap_has_no_interval():
    generator = np.random.default_rng(0)
    gain = generator.permutation(np.repeat([1.0, -1.0], 50))
    gain[0] = 1.0
    figures = compare_held_out(held_out({"trained": generator.random(100), "length": generator.random(100)}, gain))
    assert figures["apgr"]["trained"]["low"] is None
    assert "do not tell which model is better" in interval_text(figures["apgr"]["trained"])
    assert figures["verdicts"][0].startswith("- Not distinguishable")


def test_copies_of_rows_do_not_narrow_an_interval_of_groups():
    generator = np.random.default_rng(0)
    scores, gain = generator.random(120), (generator.random(120) < 0.3).astype(float)
    once = compare_held_out(held_out({"trained": scores}, gain))
    groups = np.repeat(np.arange(120), 5)
    copied = compare_held_out(held_out({"trained": np.repeat(scores, 5)}, np.repeat(gain, 5), groups=groups))
    assert copied["groups"] == 120
    first, second = (figures["apgr"]["trained"] for figures in (once, copied))
    assert second["value"] == pytest.approx(first["value"], abs=0.01)
    assert second["high"] - second["low"] == pytest.approx(first["high"] - first["low"], rel=0.03)


def simulated(kind, seed, n=200, d=20):
    """A linear fit by least squares with much noise, on outcomes that depend on the first column, or on nothing."""
    generator = np.random.default_rng(seed)
    effect = {"null": 0.0, "weak": 0.25, "strong": 1.0}[kind]
    columns, many = generator.normal(size=(n, d)), generator.normal(size=(4000, d))
    gain = (generator.random(n) < 1 / (1 + np.exp(0.8 - effect * columns[:, 0]))).astype(float)
    prior = np.zeros(d)
    prior[1] = 0.05

    def direction(kept):
        level = gain[kept].mean()
        return level, prior + np.linalg.solve(
            columns[kept].T @ columns[kept] + 200 * np.eye(d), columns[kept].T @ (gain[kept] - level)
        )

    def scored(kept):
        level, found = direction(kept)
        return level + columns @ found  # with the fold's own level, as sw_ranking's scores have

    crossed = cross_fit(scored, generator.permutation(n) % 10)
    expected = 1 / (1 + np.exp(0.8 - effect * many[:, 0]))

    def truth(scores):
        ranks = np.argsort(np.argsort(scores)) / 4000 - 0.5
        return 0.5 + (ranks * expected).mean() / expected.mean()

    figures = compare_held_out(
        held_out(
            {"trained": crossed.held_out, "shipped": columns[:, 1]},
            gain,
            folds=crossed.folds,
            refitted=crossed.refitted,
        )
    )
    trained = truth(many @ direction(np.ones(n, dtype=bool))[1])
    return figures, trained, trained - truth(many[:, 1])


@pytest.mark.parametrize("kind", ["null", "weak", "strong"])
def test_intervals_cover_and_figures_are_unbiased(kind):
    """150 samples: below 88.7 %, or a mean error of .02, is three standard errors from what is promised."""
    runs = [simulated(kind, seed) for seed in range(150)]
    for figure, truths in (
        ([figures["apgr"]["trained"] for figures, _, _ in runs], [truth for _, truth, _ in runs]),
        ([figures["lead"]["shipped"] for figures, _, _ in runs], [lead for _, _, lead in runs]),
    ):
        covered = np.mean([row["low"] <= truth <= row["high"] for row, truth in zip(figure, truths, strict=True)])
        assert covered > 0.887
        assert abs(np.mean([row["value"] - truth for row, truth in zip(figure, truths, strict=True)])) < 0.02
    if kind == "strong":
        assert np.mean([figures["lead"]["shipped"]["low"] > 0 for figures, _, _ in runs]) > 0.8
