"""Adapting a router: on made-up data whose answer is known, and end to end with the shipped one."""

import json

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import HeldOut, compare_held_out
from routellm_core.routers.mf.router import MatrixFactorizationRouter
from routellm_core.rows.labelled import PairRows
from routellm_core.testing.contract import RouterContract
from routellm_core.training.adaptation import adapt, constant_direction, folds_by_prompt
from routellm_core.training.outcome import Provenance
from routellm_core.training.train_mf import train_matrix_factorization


def make_rows(strong, weak, prompts=None, weights=None):
    n = len(strong)
    return PairRows(
        prompts=tuple(prompts or (f"question {row}" for row in range(n))),
        weights=np.ones(n) if weights is None else weights,
        places=tuple(str(row) for row in range(n)),
        licences=("MIT",),
        strong=np.asarray(strong, dtype=np.float64),
        weak=np.asarray(weak, dtype=np.float64),
    )


def problem(n=600, seed=0):
    """Embeddings of 6 columns and a constant; the strong model wins where the first column is large."""
    generator = np.random.default_rng(seed)
    embeddings = np.column_stack([generator.normal(size=(n, 6)), np.ones(n)]).astype(np.float32)
    wins = generator.random(n) < 1 / (1 + np.exp(-(1.5 * embeddings[:, 0] - 1.0)))
    return embeddings, make_rows(wins, np.zeros(n))


def topical_rows(n=240):
    """Sums are won by the strong model, greetings by neither."""
    generator = np.random.default_rng(1)
    prompts, strong, weak = [], [], []
    for row in range(n):
        hard = row % 2 == 0
        prompts.append(f"Compute {row} * {row + 7} + {3 * row}." if hard else f"Say hello to guest number {row}.")
        strong.append(1.0)
        weak.append(float(generator.random() < (0.3 if hard else 0.9)))
    return make_rows(strong, weak, prompts)


def test_the_signal_is_found_and_calibrated():
    embeddings, rows = problem()
    adaptation = adapt(rows, embeddings, prior=None, semantic=None)
    direction = adaptation.fit.direction
    assert direction[0] > 4 * np.abs(direction[1:6]).max()
    assert np.corrcoef(adaptation.held_out_scores, embeddings[:, 0])[0, 1] > 0.95
    high = adaptation.held_out_scores > 0.5
    assert rows.wins[high].mean() == pytest.approx(adaptation.held_out_scores[high].mean(), abs=0.08)


def test_the_vector_gives_the_scores():
    embeddings, rows = problem()
    fit = adapt(rows, embeddings, prior=None, semantic=None).fit
    vector = fit.vector(constant_direction(embeddings))
    np.testing.assert_allclose(1 / (1 + np.exp(-embeddings @ vector)), fit.scores(embeddings), rtol=1e-5)


def test_a_good_prior_helps_when_rows_are_few():
    embeddings, rows = problem(n=80, seed=3)
    prior = np.array([1.5, 0, 0, 0, 0, 0, -1.0])
    directions = [adapt(rows, embeddings, prior=start, semantic=None).fit.direction for start in (prior, None)]
    informed, uninformed = (direction[0] / np.linalg.norm(direction[:6]) for direction in directions)
    assert informed > uninformed
    assert informed > 0.9


def test_noise_gives_nearly_constant_scores():
    generator = np.random.default_rng(5)
    embeddings = np.column_stack([generator.normal(size=(400, 6)), np.ones(400)]).astype(np.float32)
    rows = make_rows(generator.random(400) < 0.3, np.zeros(400))
    scores = adapt(rows, embeddings, prior=None, semantic=None).fit.scores(embeddings)
    assert scores.std() < 0.1
    assert scores.mean() == pytest.approx(0.3, abs=0.06)


def test_weights_count():
    embeddings, rows = problem(400)
    flipped = make_rows(
        np.concatenate([rows.wins, ~rows.wins]),
        np.zeros(800),
        weights=np.concatenate([np.ones(400), np.full(400, 1e-3)]),
    )
    direction = adapt(flipped, np.vstack([embeddings, embeddings]), prior=None, semantic=None).fit.direction
    assert direction[0] > 0.1


def test_copies_share_a_fold():
    folds = folds_by_prompt(["Why?", "How?", " why? ", "x", "y", "z"])
    assert folds[0] == folds[2]
    assert set(folds_by_prompt([str(row) for row in range(50)])) == {0, 1, 2, 3, 4}


def test_a_constant_is_made_where_there_is_none():
    generator = np.random.default_rng(0)
    embeddings = (generator.normal(size=(500, 8)) * 0.1 + np.arange(1, 9)).astype(np.float32)
    np.testing.assert_allclose(embeddings @ constant_direction(embeddings), 1.0, atol=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "mine"
    return train_matrix_factorization(
        topical_rows(),
        output=folder,
        strong_model="acme/large",
        weak_model="acme/small",
        provenance=Provenance(command="routellm train mf", data=("rows.jsonl",)),
        compare=compare_held_out,
    )


def test_the_trained_router_loads_and_has_learned(trained):
    router = MatrixFactorizationRouter(checkpoint_path=trained.folder)
    sums, greetings = router.score(["Compute 31 * 17 + 5.", "Say hello to guest number 900."])
    assert sums > 0.5 > greetings
    assert router.describe()["scored_pair"] == "acme/large against acme/small"
    assert len(router.reference_quantiles) == 1001


def test_the_card_says_what_was_measured(trained):
    card = (trained.folder / "README.md").read_text()
    assert "acme/large (strong)" in card
    assert "rows.jsonl; 240 rows of the pair, 240 distinct prompts" in card
    assert "the router 'shipped'" in card
    assert "Better than prompt length" in card
    routing = json.loads((trained.folder / "routing.json").read_text())
    assert routing["models"] == ["acme/large", "acme/small"]
    assert routing["training"]["licences"] == ["MIT"]
    assert routing["training"]["random_seed"] == 0
    assert str(trained.folder.parent) not in card + json.dumps(routing)


def test_training_repeats_exactly(trained, tmp_path):
    again = train_matrix_factorization(
        topical_rows(), output=tmp_path / "again", strong_model="acme/large", weak_model="acme/small"
    )
    first, second = (folder / "model.safetensors" for folder in (trained.folder, again.folder))
    assert first.read_bytes() == second.read_bytes()


def test_a_test_split_must_not_share_prompts(tmp_path):
    rows = topical_rows(100)
    with pytest.raises(ConfigError, match="also trained on"):
        train_matrix_factorization(rows, output=tmp_path, strong_model="a", weak_model="b", test=rows)


def test_from_nothing(tmp_path):
    result = train_matrix_factorization(
        topical_rows(), output=tmp_path / "scratch", strong_model="a", weak_model="b", start=None
    )
    assert set(result.held_out.scores) == {"trained", "shipped", "prompt length"}
    assert result.facts["start"] is None


def test_the_comparison_by_hand():
    strong, weak = np.ones(200), np.repeat([0.0, 1.0], 100)
    perfect, useless = np.repeat([0.9, 0.1], 100), np.tile([0.4, 0.6], 100)
    held_out = HeldOut(
        how="by hand",
        scores={"trained": perfect, "prompt length": useless},
        expected_gain=perfect - 0.5,
        strong=strong,
        weak=weak,
        models=("large", "small"),
    )
    figures = compare_held_out(held_out, resamples=200)
    # all of the gain is recovered at half the calls: a triangle of 1/4 and a square of 1/2
    assert figures["apgr"]["trained"]["value"] == pytest.approx(0.75, abs=0.01)
    assert figures["lead"]["prompt length"]["low"] > 0
    assert figures["best_single"] == {
        "model": "large",
        "quality": 1.0,
        "strong_share": 0.5,
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


class TestContract(RouterContract):
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _folder(self, trained):
        self.folder = trained.folder

    def make_router(self):
        return MatrixFactorizationRouter(checkpoint_path=self.folder)
