"""Similarity indexes from a user's rows, and the one that ships."""

import json

import numpy as np
import pytest

from research.judged import JUDGED_LICENCES
from routellm_core._files import ASSETS
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.rows.labelled import MixedRows, PairRows, PreferenceRows
from routellm_core.training.train_sw import train_similarity_index


def labels(n):
    hard = [row % 2 == 0 for row in range(n)]
    prompts = [
        f"Compute {row} * {row + 7}." if is_hard else f"Say hello to guest {row}." for row, is_hard in enumerate(hard)
    ]
    return prompts, np.array(hard)


def common(prompts):
    n = len(prompts)
    return {"prompts": tuple(prompts), "weights": np.ones(n), "places": tuple(map(str, range(n))), "licences": ()}


def test_pair_rows_become_an_index_that_has_learned(tmp_path):
    prompts, hard = labels(120)
    rows = PairRows(**common(prompts), strong=np.ones(120), weak=(~hard).astype(float))
    trained = train_similarity_index(rows, output=tmp_path / "index", strong_model="large", weak_model="small")
    router = SimilarityWeightedRouter(checkpoint_path=tmp_path / "index")
    sums, greetings = router.score(["Compute 300 * 17.", "Say hello to guest 900."])
    assert sums > greetings
    assert router.reference_quantiles.shape == (1001,)
    assert trained.facts["held_out"]["apgr"]["trained"]["value"] > 0.7
    assert "prompt length" in (tmp_path / "index/README.md").read_text()
    assert json.loads((tmp_path / "index/training.json").read_text())["rows"] == 120


def battles(weights=None):
    """120 battles of a pair, and 60 of a third model, which loses."""
    prompts, hard = labels(120)
    fields = common(prompts + prompts[:60])
    return PreferenceRows(
        **{**fields, **({} if weights is None else {"weights": weights})},
        model_a=("large",) * 180,
        model_b=("small",) * 120 + ("third",) * 60,
        outcome=np.concatenate([np.where(hard, 1.0, 0.5), np.ones(60)]),
    )


def trained(rows, folder, **options):
    train_similarity_index(rows, output=folder, strong_model="large", weak_model="small", **options)
    return SimilarityWeightedRouter(checkpoint_path=folder)


def test_battles_of_every_model_are_used(tmp_path):
    router = trained(battles(), tmp_path / "index", num_tiers=3)
    assert router.describe()["battles"] == 180
    assert json.loads((tmp_path / "index/training.json").read_text())["rows"] == 120


def test_weights_move_the_scores_and_equal_ones_do_not(tmp_path):
    prompts = ["Compute 300 * 17.", "Say hello to guest 900."]
    plain = trained(battles(), tmp_path / "plain", num_tiers=3).score(prompts)
    equal = trained(battles(np.full(180, 0.5)), tmp_path / "equal", num_tiers=3).score(prompts)
    np.testing.assert_array_equal(plain, equal)
    hard = np.tile([4.0, 1.0], 90)  # the strong model's wins count four times as much as the ties
    weighted = trained(battles(hard), tmp_path / "weighted", num_tiers=3).score(prompts)
    assert (weighted > plain + 0.02).all()


def test_votes_and_judged_rows_make_one_index(tmp_path):
    prompts, hard = labels(200)
    judged = PairRows(**common(prompts[120:]), strong=np.ones(80), weak=(~hard[120:]).astype(float))
    router = trained(MixedRows((battles(), judged)), tmp_path / "index", num_tiers=3)
    assert router.describe()["battles"] == 260
    assert json.loads((tmp_path / "index/training.json").read_text())["rows"] == 200


def test_the_shipped_index_is_small_licensed_and_ordered():
    folder = ASSETS / "sw_ranking"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_400_000
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) < 12_000_000
    facts = json.loads((folder / "training.json").read_text())
    assert set(facts["licences"]) <= JUDGED_LICENCES
    card = (folder / "README.md").read_text()
    assert facts["command"] in card
    assert "MT-Bench" in card
    router = SimilarityWeightedRouter()
    greeting, proof = router.score(["hi", "Prove that $\\sum 1/n^2 = \\pi^2/6$ and state which theorem you use."])
    assert proof > greeting
    quantiles = router.reference_quantiles
    assert quantiles[-1] - quantiles[0] > 0.01


@pytest.mark.parametrize("column", ["model_a", "outcome"])
def test_the_shipped_battles_are_balanced(column):
    index = SimilarityWeightedRouter()._state.index
    block = index.blocks[0]
    if column == "outcome":
        assert np.bincount(block.outcome).tolist() == [index.rows // 2, index.rows // 2]
    else:
        assert set(block.model_a) == {index.models.index("strong-tier")}
