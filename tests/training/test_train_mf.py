"""Adapting a router: on made-up data whose answer is known, and end to end with the shipped one."""

import json

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.routers.mf.router import MatrixFactorizationRouter
from routellm_core.rows.labelled import PairRows
from routellm_core.testing.contract import RouterContract
from routellm_core.training.base import Provenance
from routellm_core.training.comparisons import comparisons_of
from routellm_core.training.crossfit import grouped_folds
from routellm_core.training.mf_vectors import constant_direction
from routellm_core.training.regression import calibrated_scale, fitted_regression, prior_of
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


def fitted(rows, embeddings, prior=None):
    """The regression and its scale, as training a pair puts them together; scores held out and by the final fit."""
    compared = comparisons_of(rows, strong_model="s", weak_model="w")
    folds = grouped_folds(compared.group)
    regression, crossed = fitted_regression(compared, embeddings, prior_of(compared, prior, embeddings), folds)
    gain = regression.gains(crossed.held_out)
    scale = calibrated_scale(gain, compared.gain, compared.weights, both_ways=False)
    utilities = regression.utilities()
    final = utilities.of(embeddings)
    return (
        utilities.directions[0] - utilities.directions[1],
        scale.scores(gain),
        scale.scores(final[:, 0] - final[:, 1]),
    )


def test_the_signal_is_found_and_calibrated():
    embeddings, rows = problem()
    direction, held_out, _ = fitted(rows, embeddings)
    assert direction[0] > 4 * np.abs(direction[1:6]).max()
    assert np.corrcoef(held_out, embeddings[:, 0])[0, 1] > 0.95
    high = held_out > 0.5
    assert rows.wins[high].mean() == pytest.approx(held_out[high].mean(), abs=0.08)


def test_a_good_prior_helps_when_rows_are_few():
    embeddings, rows = problem(n=80, seed=3)
    prior = np.array([1.5, 0, 0, 0, 0, 0, -1.0])
    informed, uninformed = (
        direction[0] / np.linalg.norm(direction[:6])
        for direction in (fitted(rows, embeddings, start)[0] for start in (prior, None))
    )
    assert informed > uninformed
    assert informed > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_show_nothing_leave_the_prior_s_ranking_and_small_differences(seed):
    generator = np.random.default_rng(seed)
    embeddings = np.column_stack([generator.normal(size=(200, 250)), np.ones(200)]).astype(np.float32)
    rows = make_rows(generator.random(200) < 0.3, np.zeros(200))
    prior = np.zeros(251)
    prior[0] = 2.0
    _, _, scores = fitted(rows, embeddings, prior)
    assert np.corrcoef(scores, embeddings[:, 0])[0, 1] > 0.6
    assert 0.002 < scores.std() < 0.12
    assert scores.mean() == pytest.approx(0.3, abs=0.06)


def test_a_direction_that_the_rows_contradict_is_given_up():
    embeddings, rows = problem(n=600)
    direction, _, _ = fitted(rows, embeddings, np.array([-1.5, 0, 0, 0, 0, 0, 0]))
    assert direction[0] > 0


def test_weights_count():
    embeddings, rows = problem(400)
    flipped = make_rows(
        np.concatenate([rows.wins, ~rows.wins]),
        np.zeros(800),
        weights=np.concatenate([np.ones(400), np.full(400, 1e-3)]),
    )
    direction, _, _ = fitted(flipped, np.vstack([embeddings, embeddings]))
    assert direction[0] > 0.1


def test_weights_are_relative():
    embeddings, rows = problem(200)
    halved = make_rows(rows.strong, rows.weak, weights=np.full(200, 0.5))
    np.testing.assert_allclose(fitted(halved, embeddings)[2], fitted(rows, embeddings)[2], rtol=1e-9)


def test_the_slope_of_a_probability_is_positive_even_where_held_out_gains_are_reversed():
    generator = np.random.default_rng(0)
    gain = (generator.random(300) < 0.3).astype(float)
    scale = calibrated_scale(-gain, gain, np.ones(300), both_ways=False)
    assert scale.slope > 0.1
    assert scale.scores(np.array([-1.0]))[0] < scale.scores(np.array([0.0]))[0]


def test_equal_embeddings_are_refused():
    rows = make_rows(np.arange(60) % 2, np.zeros(60))
    with pytest.raises(ConfigError, match="the same embedding"):
        fitted(rows, np.ones((60, 4), dtype=np.float32))


def test_a_constant_is_made_where_there_is_none():
    generator = np.random.default_rng(0)
    embeddings = (generator.normal(size=(500, 8)) * 0.1 + np.arange(1, 9)).astype(np.float32)
    np.testing.assert_allclose(embeddings @ constant_direction(embeddings), 1.0, atol=0.1)


def benchmark_rows(shared, name):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [train]")
    table = parquet.read_table(shared / "data" / "routellm_benchmarks" / f"{name}.parquet").to_pydict()
    kept = [row for row, is_known in enumerate(table["contaminated"]) if not is_known]
    strong, weak = (
        np.array([table[model][row] for row in kept], dtype=float)
        for model in ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    )
    return [table["prompt"][row] for row in kept], strong, weak


@pytest.fixture(scope="module")
def gsm8k(shared):
    return benchmark_rows(shared, "gsm8k")


def part_of(data, chosen):
    prompts, strong, weak = data
    return make_rows(strong[chosen], weak[chosen], [prompts[row] for row in chosen])


def exact_apgr(scores, gain):
    ranks = np.argsort(np.argsort(scores)) / len(scores) - 0.5
    return 0.5 + (ranks * gain).mean() / gain.mean()


@pytest.mark.parametrize("seed", range(8))
def test_two_hundred_rows_of_gsm8k_never_give_a_constant_router(gsm8k, seed, tmp_path):
    """Seeds 0, 1, 2, 4 and 6 once did; on average the adapted router is the better one."""
    order = np.random.default_rng(seed).permutation(len(gsm8k[0]))
    train_matrix_factorization(part_of(gsm8k, order[:200]), output=tmp_path / "a", strong_model="s", weak_model="w")
    rest = [gsm8k[0][row] for row in order[200:]]
    gain = (gsm8k[1] - gsm8k[2])[order[200:]]
    scores = MatrixFactorizationRouter(checkpoint_path=tmp_path / "a").score(rest)
    assert scores.std() > 0.005
    shipped = exact_apgr(MatrixFactorizationRouter().score(rest), gain)
    assert exact_apgr(scores, gain) > shipped - 0.03


def test_permuted_labels_give_about_the_shipped_ranking_or_a_refusal(gsm8k, tmp_path):
    covered, similar = 0, []
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(len(gsm8k[0]))[:300]
        rows = part_of(gsm8k, order)
        shuffled = np.random.default_rng(seed).permutation(300)
        rows = make_rows(rows.strong[shuffled], rows.weak[shuffled], rows.prompts)
        folder = tmp_path / str(seed)
        try:
            trained = train_matrix_factorization(rows, output=folder, strong_model="s", weak_model="w", seed=seed)
        except ConfigError:
            assert not folder.exists()
            continue
        found = trained.facts["held_out"]["apgr"]["trained"]
        covered += found["low"] is None or found["low"] <= 0.5 <= found["high"]
        shipped = MatrixFactorizationRouter().score(rows.prompts)
        similar.append(
            np.corrcoef(MatrixFactorizationRouter(checkpoint_path=folder).score(rows.prompts), shipped)[0, 1]
        )
    assert covered >= 10  # 95 % each
    assert np.mean(similar) > 0.35


def test_labels_that_contradict_each_other_are_refused(tmp_path):
    """Every prompt's near twin has the opposite label, so what is learned is wrong on what is held out."""
    generator = np.random.default_rng(0)
    wins = generator.permutation(np.repeat([0.0, 1.0], 150))
    topics = [f"{word} {number}" for number, word in enumerate(generator.permutation(np.repeat(list("abcdef"), 50)))]
    vectors = {topic: generator.normal(size=40).astype(np.float32) for topic in topics}
    prompts, labels = [], []
    for topic, win in zip(topics, wins, strict=True):
        for twin in (0.0, 1.0):
            prompts.append(f"{topic} twin {twin}")
            labels.append(abs(win - twin))

    class Twins:
        name, dimension = "twins", 40

        def embed(self, texts):
            if not texts:
                return np.empty((0, 40), dtype=np.float32)
            return np.stack([vectors[text.split(" twin ")[0]] for text in texts])

    rows = make_rows(labels, np.zeros(600), prompts)
    with pytest.raises(ConfigError, match="worse than chance"):
        train_matrix_factorization(
            rows, output=tmp_path / "x", strong_model="s", weak_model="w", start=None, embedder=Twins()
        )
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "mine"
    return train_matrix_factorization(
        topical_rows(),
        output=folder,
        strong_model="acme/large",
        weak_model="acme/small",
        provenance=Provenance(command="routellm train mf", data=("rows.jsonl",)),
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


class TestContract(RouterContract):
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _folder(self, trained):
        self.folder = trained.folder

    def make_router(self):
        return MatrixFactorizationRouter(checkpoint_path=self.folder)
