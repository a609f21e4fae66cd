"""A vector per model: the fit against a dense solution, and checkpoints from which any pair is routed."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file

from routellm_core.errors import ConfigError
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.rows.labelled import MixedRows, PairRows, PreferenceRows, QualityRows
from routellm_core.testing.contract import RouterContract
from routellm_core.training.comparisons import Comparisons, comparisons_of, models_named
from routellm_core.training.crossfit import cross_fit
from routellm_core.training.regression import GainRegression, Utilities, calibrated_scale
from routellm_core.training.train_mf import train_matrix_factorization

ABILITY = {"large": (0.95, 0.95), "medium": (0.55, 0.95), "small": (0.15, 0.9), "tiny": (0.05, 0.4)}
"""Probability of a right answer to a sum and to a greeting."""


def common(prompts, weights=None):
    n = len(prompts)
    return {
        "prompts": tuple(prompts),
        "weights": np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64),
        "places": tuple(f"rows.jsonl, line {row + 1}" for row in range(n)),
        "licences": ("MIT",),
    }


def answers(models, n, seed=0):
    generator = np.random.default_rng(seed)
    table = []
    for row in range(n):
        hard = row % 2 == 0
        prompt = f"Compute {row} * {row + 7} + {seed}." if hard else f"Say hello to guest number {row} of {seed}."
        table += [(prompt, model, float(generator.random() < ABILITY[model][not hard])) for model in models]
    prompts, names, scores = zip(*table, strict=True)
    return QualityRows(**common(prompts), models=names, scores=np.array(scores))


def votes(rows):
    """The same answers as battles between neighbours of the list."""
    by_prompt = {}
    for prompt, model, score in zip(rows.prompts, rows.models, rows.scores, strict=True):
        by_prompt.setdefault(prompt, []).append((model, score))
    battles = [(prompt, first, second) for prompt, given in by_prompt.items() for first, second in pairwise(given)]
    return PreferenceRows(
        **common([prompt for prompt, _, _ in battles]),
        model_a=tuple(first for _, (first, _), _ in battles),
        model_b=tuple(second for _, _, (second, _) in battles),
        outcome=np.array([0.5 + 0.5 * np.sign(a - b) for _, (_, a), (_, b) in battles]),
    )


def comparisons_by_number(*rows, prompts=("p", "q", "r")):
    """Battles given as (prompt, model_a, model_b, gain, weight), all by number."""
    table = np.array(rows, dtype=np.float64)
    indices = [table[:, column].astype(np.intp) for column in range(3)]
    models = tuple("abcdef"[: int(table[:, 1:3].max()) + 1])
    return Comparisons(models, prompts, *indices, table[:, 3], table[:, 4], np.arange(len(prompts)))


def test_every_two_answers_to_a_prompt_are_compared_with_the_weight_of_one_effect_per_prompt():
    scores = np.array([1.0, 0.0, 0.5, 0.25, 1.0])
    rows = QualityRows(
        **common(["p", "p", "p", "q", "q"], [1, 1, 1, 2, 4]), models=("a", "b", "c", "a", "b"), scores=scores
    )
    battles = comparisons_of(rows, strong_model="a", weak_model="b")
    assert len(battles) == 4
    on_p = battles.prompt == 0
    np.testing.assert_allclose(battles.weights * 1.8, [2 / 3, 2 / 3, 2 / 3, 3.0])  # 1.8 is the mean row's
    # for residuals r, the weighted squares of all differences, halved, are the squares around the prompt's mean
    squares = (battles.weights * 1.8 * battles.gain**2)[on_p].sum() / 2
    assert squares == pytest.approx(((scores[:3] - scores[:3].mean()) ** 2).sum())


def test_very_many_answers_are_compared_with_some():
    names = tuple(f"m{number}" for number in range(20))
    rows = QualityRows(**common(["p"] * 20), models=names, scores=np.linspace(0, 1, 20))
    battles = comparisons_of(rows, strong_model="m0", weak_model="m1")
    assert len(battles) == 80
    assert battles.weights.sum() == pytest.approx(19.0)  # as of all 190 pairs with 2/20 each
    assert set(battles.prompts_by_model().values()) == {1}


def test_the_named_pair_takes_the_strong_weak_rows():
    pairs = PairRows(**common(["p"], [0.5]), strong=np.array([1.0]), weak=np.array([0.0]))
    battles = comparisons_of(
        MixedRows((votes(answers(("large", "medium", "small"), 2)), pairs)), strong_model="small", weak_model="tiny"
    )
    assert battles.models == ("large", "medium", "small", "tiny")
    assert battles.gain[-1] == 1.0
    assert battles.weights[-1] == pytest.approx(battles.weights[0] / 2)
    assert models_named(pairs) == ()


def test_rare_models_are_left_out_and_islands_refused():
    seen = [(row, 0, 1, 1.0, 1.0) for row in range(30)]
    prompts = tuple(f"p{row}" for row in range(30))
    battles, left_out = comparisons_by_number(*seen, (0, 1, 2, 1.0, 1.0), prompts=prompts).without_rare()
    assert battles.models == ("a", "b")
    assert left_out == {"c": 1}
    with pytest.raises(ConfigError, match="'c' was compared on 1 prompts; at least 20"):
        comparisons_by_number(*seen, (0, 1, 2, 1.0, 1.0), prompts=prompts).without_rare(needed=["c"])
    with pytest.raises(ConfigError, match="no chain of rows compares a, b with c, d"):
        comparisons_by_number(*seen, *((row, 2, 3, 1.0, 1.0) for row in range(30)), prompts=prompts).without_rare()


def random_comparisons(models=4, prompts=60, n=300, seed=0):
    generator = np.random.default_rng(seed)
    a = generator.integers(0, models, n)
    b = (a + generator.integers(1, models, n)) % models
    rows = zip(
        generator.integers(0, prompts, n), a, b, generator.normal(size=n), generator.uniform(0.5, 2, n), strict=True
    )
    compared = comparisons_by_number(*rows, prompts=tuple(map(str, range(prompts))))
    embeddings = generator.normal(size=(prompts, 5)).astype(np.float32)
    prior = Utilities(generator.normal(size=(models, 5)), generator.normal(size=models))
    return compared, embeddings, prior


def dense_solution(compared, embeddings, prior, kept, fitted):
    """The penalised least squares written out, one column per fitted model's level and feature."""
    values = embeddings.astype(np.float64)
    variance = values.var(axis=0)
    features = (values - values.mean(axis=0)) / np.sqrt(variance + 0.02 * np.median(variance))
    signs = (np.eye(len(fitted))[compared.model_a] - np.eye(len(fitted))[compared.model_b]) * fitted
    columns = np.column_stack([np.ones(len(features)), features])[compared.prompt]
    whole = np.einsum("nm,nc->nmc", signs, columns).reshape(len(compared), -1)
    believed = prior.of(values)
    believed -= believed.mean(axis=0) * fitted  # a fitted model's own level does not count
    target = compared.gain - believed[compared.prompt, compared.model_a] + believed[compared.prompt, compared.model_b]
    rows = kept[compared.prompt]
    weighted = whole[rows] * compared.weights[rows, None]
    penalty = np.tile([0.01, *[2 * 5 * 0.97 / 0.03] * 5], len(fitted))
    solution = np.linalg.solve(weighted.T @ whole[rows] + np.diag(penalty), weighted.T @ target[rows])
    by_model = solution.reshape(len(fitted), -1)[:, 1:]
    return believed + (features @ by_model.T) * fitted


@pytest.mark.parametrize("fitted", [(True, True, True, True), (False, False, True, True)])
def test_the_fit_is_the_penalised_least_squares(fitted):
    compared, embeddings, prior = random_comparisons()
    regression = GainRegression(compared, embeddings, prior, fitted=np.array(fitted))
    part, every = np.arange(60) % 3 > 0, np.ones(60, dtype=bool)
    for kept, found, tolerance in (
        (every, regression.utilities().of(embeddings), 1e-5),
        (part, regression.predicted(part), 2e-3),
    ):
        errors = found - dense_solution(compared, embeddings, prior, kept, np.array(fitted))
        # levels of a part are those of the fit to all, so differences are compared around their mean
        for first in range(4):
            gap = errors[:, first] - errors[:, 3]
            np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=tolerance)


def test_models_that_are_not_fitted_stay():
    compared, embeddings, prior = random_comparisons()
    fitted = np.array([False, False, True, True])
    regression = GainRegression(compared, embeddings, prior, fitted=fitted)
    utilities = regression.utilities()
    np.testing.assert_array_equal(utilities.directions[:2], prior.directions[:2])
    np.testing.assert_array_equal(utilities.offsets[:2], prior.offsets[:2])
    everything = regression.predicted(np.ones(60, dtype=bool))
    np.testing.assert_allclose(everything, utilities.of(embeddings), atol=2e-3)


def test_rows_left_out_do_not_count():
    compared, embeddings, prior = random_comparisons()
    kept = np.arange(60) % 2 == 0
    changed = replace(compared, gain=compared.gain + 100.0 * (~kept)[compared.prompt])
    first, second = (GainRegression(each, embeddings, prior).predicted(kept) for each in (compared, changed))
    np.testing.assert_allclose(first - first.mean(axis=0), second - second.mean(axis=0), atol=1e-12)


def test_ties_take_their_margin_from_wins():
    """Comparisons drawn from Rao and Kupper's model with a slope of 2 and a margin of 1."""
    generator = np.random.default_rng(0)
    n = 6000
    embeddings = generator.normal(size=(n, 2)).astype(np.float32)
    strength = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -0.5]])
    a = generator.integers(0, 3, n)
    b = (a + generator.integers(1, 3, n)) % 3
    logits = 2.0 * (embeddings * (strength[a] - strength[b])).sum(axis=1)
    draw = generator.random(n)
    gain = np.where(draw < 1 / (1 + np.exp(1 - logits)), 1.0, np.where(draw > 1 / (1 + np.exp(-1 - logits)), -1.0, 0.0))
    names = tuple(map(str, range(n)))
    compared = Comparisons(("a", "b", "c"), names, np.arange(n), a, b, gain, np.ones(n), np.arange(n))
    regression = GainRegression(compared, embeddings, Utilities(np.zeros((3, 2)), np.zeros(3)))
    crossed = cross_fit(regression.predicted, np.arange(n) % 5)
    scale = calibrated_scale(regression.gains(crossed.held_out), gain, np.ones(n), both_ways=True)
    assert scale.tie_margin == pytest.approx(1.0, abs=0.1)
    scores = scale.scores(regression.gains(regression.utilities().of(embeddings)))
    np.testing.assert_allclose(np.mean(scores), np.mean(gain > 0), atol=0.01)
    likely = scores > 0.6
    np.testing.assert_allclose(scores[likely].mean(), (gain > 0)[likely].mean(), atol=0.03)


MODELS = ("large", "medium", "small")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_matrix_factorization(
        answers(MODELS, 300),
        output=tmp_path_factory.mktemp("models") / "three",
        strong_model="large",
        weak_model="small",
    )


SUM, GREETING = "Compute 31 * 17 + 5.", "Say hello to guest number 900."


def scores(folder, strong, weak):
    return MatrixFactorizationRouter(checkpoint_path=folder, strong_model=strong, weak_model=weak).score(
        [SUM, GREETING]
    )


def test_any_pair_is_routed(trained):
    assert MfCheckpoint.load(trained.folder).trained_models == MODELS
    for strong, weak, least in (("large", "small", 0.4), ("large", "medium", 0.1), ("medium", "small", 0.1)):
        hard, easy = scores(trained.folder, strong, weak)
        assert hard > easy + least
        assert (scores(trained.folder, strong, weak) + scores(trained.folder, weak, strong) < 1.0).all()  # ties
    np.testing.assert_allclose(scores(trained.folder, "large", "small"), [0.8, 0.05], atol=0.12)


def test_the_default_pair_does_as_well_as_trained_alone(trained, tmp_path):
    alone = train_matrix_factorization(
        answers(MODELS, 300),
        output=tmp_path / "pair",
        strong_model="large",
        weak_model="small",
        models=("large", "small"),
    )
    assert MfCheckpoint.load(alone.folder).models == ("large", "small")
    together, apart = (run.facts["held_out"]["apgr"]["trained"]["value"] for run in (trained, alone))
    assert together > apart - 0.02
    assert together > 0.65


def test_routellm_reads_the_same_numbers(trained):
    """RouteLLM's forward pass, written out; it has no margin for ties, which changes no order."""
    tensors = load_file(trained.folder / "model.safetensors")
    router = MatrixFactorizationRouter(checkpoint_path=trained.folder, strong_model="medium", weak_model="small")
    checkpoint = MfCheckpoint.load(trained.folder)
    rows = tensors["P.weight"] / np.linalg.norm(tensors["P.weight"], axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(tensors["P.weight"], axis=1), 1.0, rtol=1e-6)
    embeddings = router._embedder.embed([SUM, GREETING])
    projected = embeddings @ tensors["text_proj.0.weight"].T
    medium, small = (rows[checkpoint.models.index(model)] for model in ("medium", "small"))
    logits = ((medium - small) * projected) @ tensors["classifier.0.weight"][0]
    expected = 1 / (1 + np.exp(checkpoint.tie_margin - logits))
    np.testing.assert_allclose(router.score([SUM, GREETING]), expected, rtol=1e-4)
    assert json.loads((trained.folder / "config.json").read_text())["num_models"] == 3


def test_every_pair_has_its_quantiles(trained):
    prompts = list(dict.fromkeys(answers(MODELS, 300).prompts))
    for pair in (("large", "small"), ("medium", "small")):
        router = MatrixFactorizationRouter(checkpoint_path=trained.folder, strong_model=pair[0], weak_model=pair[1])
        expected = np.quantile(router.score(prompts), np.linspace(0, 1, 1001))
        np.testing.assert_allclose(router.reference_quantiles, expected, atol=1e-4)


def test_the_card_lists_models_and_pairs(trained):
    card = (trained.folder / "README.md").read_text()
    assert "A vector for each of 3 models" in card
    assert "| medium | 300 | 300 |" in card
    measured = {(row["strong"], row["weak"]): row for row in trained.facts["pairs"]}
    assert measured.keys() == {("large", "medium"), ("medium", "small")}
    assert measured["medium", "small"]["apgr"]["value"] > 0.6
    assert "| medium | small | 300 | 0." in card
    assert str(trained.folder.parent) not in card + (trained.folder / "routing.json").read_text()


def test_battles_train_models_as_well(tmp_path):
    run = train_matrix_factorization(
        votes(answers(MODELS, 300)),
        output=tmp_path / "votes",
        strong_model="large",
        weak_model="medium",
    )
    assert run.facts["comparisons"] == 600
    hard, easy = scores(run.folder, "large", "small")  # never compared: follows from the chain
    assert hard > easy + 0.3


def test_weights_count(tmp_path):
    """Rows that say the opposite, with next to no weight and with a lot."""
    told = votes(answers(MODELS, 200))
    opposite = PreferenceRows(
        **{**common(told.prompts), "weights": told.weights * 0.01},
        model_a=told.model_b,
        model_b=told.model_a,
        outcome=told.outcome,
    )
    heavy = PreferenceRows(**common(told.prompts, told.weights * 100), **_battles(opposite))
    for added, is_right in ((opposite, True), (heavy, False)):
        rows = PreferenceRows(
            **common((*told.prompts, *added.prompts), np.concatenate([told.weights, added.weights])),
            model_a=told.model_a + added.model_a,
            model_b=told.model_b + added.model_b,
            outcome=np.concatenate([told.outcome, added.outcome]),
        )
        run = train_matrix_factorization(
            rows, output=tmp_path / str(is_right), strong_model="large", weak_model="medium", seed=1
        )
        hard, _ = scores(run.folder, "large", "small") - scores(run.folder, "small", "large")
        assert (hard > 0) == is_right


def _battles(rows):
    return {"model_a": rows.model_a, "model_b": rows.model_b, "outcome": rows.outcome}


@pytest.fixture(scope="module")
def extended(trained, tmp_path_factory):
    return train_matrix_factorization(
        answers(("medium", "tiny"), 200, seed=3),
        output=tmp_path_factory.mktemp("models") / "four",
        strong_model="medium",
        weak_model="tiny",
        start=trained.folder,
    )


def test_a_model_is_added_without_moving_the_others(trained, extended):
    assert MfCheckpoint.load(extended.folder).trained_models == (*MODELS, "tiny")
    assert extended.facts["added"] == ["tiny"]
    for pair in (("large", "small"), ("large", "medium"), ("small", "medium")):
        np.testing.assert_allclose(scores(extended.folder, *pair), scores(trained.folder, *pair), atol=1e-6)
    # never compared with large: 0.95 · 0.95 = 0.90 of the sums and 0.95 · 0.6 = 0.57 of the greetings are wins
    np.testing.assert_allclose(scores(extended.folder, "large", "tiny"), [0.90, 0.57], atol=0.2)
    assert "| tiny | 200 | 200 |" in (extended.folder / "README.md").read_text()
    assert "Started from: three" in (extended.folder / "README.md").read_text()
    quantiles = MatrixFactorizationRouter(
        checkpoint_path=extended.folder, strong_model="large", weak_model="tiny"
    ).reference_quantiles
    assert quantiles[-1] > quantiles[0] + 0.2


def test_a_second_model_can_be_added(trained, extended, tmp_path):
    rows = answers(("tiny", "large"), 120, seed=5)
    renamed = QualityRows(
        **common(rows.prompts),
        models=tuple("new" if model == "large" else model for model in rows.models),
        scores=rows.scores,
    )
    again = train_matrix_factorization(
        renamed, output=tmp_path / "five", strong_model="new", weak_model="tiny", start=extended.folder
    )
    assert MfCheckpoint.load(again.folder).trained_models == (*MODELS, "tiny", "new")
    np.testing.assert_allclose(
        scores(again.folder, "large", "small"), scores(trained.folder, "large", "small"), atol=1e-6
    )
    hard, easy = scores(again.folder, "new", "small")
    assert hard > easy + 0.3  # as large does


def test_rows_about_known_models_train_the_pair_from_its_own_direction(extended, tmp_path):
    run = train_matrix_factorization(
        answers(("medium", "tiny"), 120, seed=8),
        output=tmp_path / "pair",
        strong_model="medium",
        weak_model="tiny",
        start=extended.folder,
    )
    assert MfCheckpoint.load(run.folder).models == ("medium", "tiny")


def test_a_test_split_measures_every_pair(tmp_path):
    run = train_matrix_factorization(
        answers(MODELS, 200),
        output=tmp_path / "tested",
        strong_model="large",
        weak_model="small",
        test=answers(MODELS, 150, seed=9),
    )
    assert "Rows of a test split" in run.facts["held_out"]["how"]
    assert run.facts["held_out"]["rows"] == 150
    assert {row["rows"] for row in run.facts["pairs"]} == {150}
    with pytest.raises(ConfigError, match="are also trained on"):
        train_matrix_factorization(
            answers(MODELS, 100),
            output=tmp_path / "leaky",
            strong_model="large",
            weak_model="small",
            test=answers(MODELS, 60),
        )


def test_a_pair_that_no_row_compares_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no row compares 'larger' with 'small'; the data name large, medium, small"):
        train_matrix_factorization(answers(MODELS, 60), output=tmp_path, strong_model="larger", weak_model="small")


class TestContract(RouterContract):
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _folder(self, trained):
        self.folder = trained.folder

    def make_router(self):
        return MatrixFactorizationRouter(checkpoint_path=self.folder, strong_model="medium", weak_model="small")
