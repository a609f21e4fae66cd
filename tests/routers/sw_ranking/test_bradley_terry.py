from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_core.errors import ConfigError
from routellm_core.routers.sw_ranking.bradley_terry import (
    compute_tiers,
    elo_from_strengths,
    elo_ratings,
    fit_strengths,
    win_table,
)

CODES = {"model_a": 0, "model_b": 1, "tie": 2, "tie (bothbad)": 2}


def rate(case):
    return elo_ratings(
        case["names"],
        np.array(case["model_a"]),
        np.array(case["model_b"]),
        np.array([CODES[winner] for winner in case["winner"]]),
        weights=case["weights"],
    )


def test_golden_elo(golden, read_json):
    checked = 0
    for case in read_json(golden / "elo.json")["cases"]:
        ratings = rate(case)
        assert sorted(ratings) == sorted(case["order"])
        if case["exact"] is None:
            continue
        checked += 1
        assert list(ratings) == case["order"]
        np.testing.assert_allclose([ratings[name] for name in case["order"]], case["exact"], atol=1e-6)
        # RouteLLM's solver stops by its gradient: within 1e-3 of the ratings' scale
        np.testing.assert_allclose([ratings[name] for name in case["order"]], case["elo"], rtol=1e-3)
    assert checked >= 7


def test_golden_tiers(golden, read_json):
    for case in read_json(golden / "compute_tiers.json")["cases"]:
        ratings = {str(number): rating for number, rating in enumerate(case["ratings"])}
        assert list(compute_tiers(ratings, case["num_tiers"]).values()) == case["tiers"], case["label"]


def test_two_models_by_hand():
    # a wins 3 of 4: odds 3, so the gap is 400·log10(3); the mean stays at 1000
    ratings = elo_ratings(["a", "b"], np.zeros(4, int), np.ones(4, int), np.array([0, 0, 0, 1]))
    assert ratings["a"] - ratings["b"] == pytest.approx(400 * np.log10(3), abs=1e-9)
    assert sum(ratings.values()) == pytest.approx(2000, abs=1e-9)


def test_a_tie_is_half_a_win_each_way():
    ties = elo_ratings(["a", "b"], np.zeros(2, int), np.ones(2, int), np.array([2, 0]))
    halves = elo_ratings(["a", "b"], np.zeros(3, int), np.ones(3, int), np.array([0, 1, 0]), weights=[0.5, 0.5, 1.0])
    assert ties["a"] == pytest.approx(halves["a"], abs=1e-9)


def test_anchor_model_is_1082():
    ratings = elo_ratings(["llama-2-70b-chat", "b"], np.zeros(3, int), np.ones(3, int), np.array([0, 1, 0]))
    assert ratings["llama-2-70b-chat"] == 1082.0


def test_self_battles_pull_towards_nobody_unless_left_out():
    # RouteLLM: a battle of an item against itself that model_a "wins" is a loss of the item against strength 0
    sums = np.zeros((3, 2, 2))
    sums[0, 0, 1], sums[1, 0, 1] = 3.0, 1.0
    sums[0, 0, 0], sums[1, 0, 0] = 1.0, 3.0
    with_quirk = fit_strengths(win_table(sums)[None])[0]
    assert with_quirk[0] == pytest.approx(np.log(3), abs=1e-9)  # beats nobody 3 to 1
    assert with_quirk[1] == pytest.approx(0.0, abs=1e-9)
    without = fit_strengths(win_table(sums, count_self_battles=False)[None])[0]
    np.testing.assert_allclose(without, [np.log(3) / 2, -np.log(3) / 2], atol=1e-9)


@pytest.mark.parametrize("outcomes", [[0, 0, 0], [1, 1, 1]])
def test_a_model_that_never_loses_has_a_large_finite_rating(outcomes):
    ratings = elo_ratings(["a", "b", "c"], np.array([0, 0, 1]), np.array([1, 2, 2]), np.array(outcomes))
    values = np.array(list(ratings.values()))
    assert np.isfinite(values).all()
    assert 1000 < values.max() - values.min() < 15_000


def test_separated_groups_are_each_centred():
    # a–b and c–d never meet: no rating of one group against the other is determined
    ratings = elo_ratings(["a", "b", "c", "d"], np.array([0, 0, 2, 2]), np.array([1, 1, 3, 3]), np.array([0, 2, 1, 2]))
    assert ratings["a"] + ratings["b"] == pytest.approx(2000, abs=1e-6)
    assert ratings["c"] + ratings["d"] == pytest.approx(2000, abs=1e-6)


def test_models_without_battles_are_not_rated():
    assert set(elo_ratings(["a", "b", "c"], np.array([0]), np.array([2]), np.array([2]))) == {"a", "c"}


def test_all_weights_zero_rates_all_alike():
    ratings = elo_ratings(["a", "b"], np.array([0]), np.array([1]), np.array([0]), weights=[0.0])
    assert set(ratings.values()) == {1000.0}


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_bad_weights(weight):
    with pytest.raises(ConfigError, match="weights"):
        elo_ratings(["a", "b"], np.array([0]), np.array([1]), np.array([0]), weights=[weight])


tables = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).gamma(0.5, size=(4, 3, 6, 6)) * np.exp(np.linspace(-3, 3, 4))[:, None, None, None]
    )
)


@settings(deadline=None, max_examples=30)
@given(tables)
def test_gradient_vanishes_and_batch_equals_single(sums):
    wins = win_table(sums)
    strengths = fit_strengths(wins)
    full = np.concatenate([strengths, np.zeros((4, 1))], axis=1)
    expected = 1 / (1 + np.exp(full[:, None, :] - full[:, :, None]))
    gradient = (wins - (wins + wins.transpose(0, 2, 1)) * expected).sum(axis=2)[:, :-1]
    assert np.abs(gradient).max() < 1e-8 * wins.sum()
    for row in range(4):
        np.testing.assert_allclose(fit_strengths(wins[row : row + 1])[0], strengths[row], atol=1e-10)


@settings(deadline=None, max_examples=30)
@given(tables, st.floats(1e-6, 1e6), st.permutations(range(6)))
def test_scale_and_order_do_not_matter(sums, scale, order):
    expected = fit_strengths(win_table(sums))
    np.testing.assert_allclose(fit_strengths(win_table(sums * scale)), expected, atol=1e-8)
    permuted = sums[:, :, order][:, :, :, order]
    np.testing.assert_allclose(fit_strengths(win_table(permuted)), expected[:, order], atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_sparse_tables_stay_finite(seed, share):
    rng = np.random.default_rng(seed)
    sums = rng.gamma(0.3, size=(3, 3, 7, 7)) * (rng.random((3, 3, 7, 7)) < share)
    strengths = fit_strengths(win_table(sums))
    assert np.isfinite(strengths).all()
    assert np.abs(elo_from_strengths(strengths)).max() < 60_000


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-500, 500), min_size=1, max_size=12), st.integers(1, 6))
def test_tiers_are_runs_of_the_ranking(values, count):
    ratings = {str(place): float(value) for place, value in enumerate(sorted(values, reverse=True))}
    tiers = list(compute_tiers(ratings, count).values())
    assert tiers[0] == 0
    assert tiers == sorted(tiers)
    assert len(tiers) == len(values)
    assert max(tiers) < count


def test_tiers_need_models_and_a_positive_number():
    with pytest.raises(ConfigError, match="num_tiers is 0"):
        compute_tiers({"a": 1.0}, 0)
    with pytest.raises(ConfigError, match="empty"):
        compute_tiers({}, 3)
