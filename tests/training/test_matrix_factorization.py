import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from research.cards import card_text, write_card
from research.difficulty import (
    FitOptions,
    calibrate_slope,
    fit_direction,
    unit_information,
    within_group_correlation,
)
from research.targets import DifficultyRows
from routellm_core.errors import ConfigError
from routellm_core.routers.mf.router import MfCheckpoint
from routellm_core.training.matrix_factorization import (
    CheckpointFacts,
    reference_quantiles,
    write_checkpoint,
)


def make_rows(target, unit, group=None, noise=1.0):
    return DifficultyRows(
        prompt_ids=[str(row) for row in range(len(target))],
        texts=[str(row) for row in range(len(target))],
        target=np.asarray(target, dtype=np.float64),
        noise=np.full(len(target), noise),
        group=np.asarray(group if group is not None else unit),
        unit=np.asarray(unit),
    )


def make_facts(**changes):
    facts = {
        "embedder": "static-v2",
        "strong_model": "gpt-4-1106-preview",
        "weak_model": "mixtral-8x7b-instruct-v0.1",
        "reference_quantiles": reference_quantiles(np.linspace(0, 1, 50)),
        "reference_traffic": "fifty prompts",
        "training": {"rows_by_source": {"exam": 3}},
    }
    return CheckpointFacts(**{**facts, **changes})


def test_ridge_by_hand():
    # x = (-1, 1), y = (-2, 2): XᵀX = 2, Xᵀy = 4; with λ = 2 and no random effect θ = 4 / (2 + 2)
    information = unit_information(np.array([[-1.0], [1.0]], np.float32), make_rows([-2, 2], ["a", "a"]))
    direction = fit_direction(information.values(), FitOptions(penalty=2.0, unit_spread=0.0))
    np.testing.assert_allclose(direction, [1.0])


def test_random_effect_by_hand():
    # Marginal precision of the unit: 1 / (1/2 + τ²) with τ² = 1/2, that is 1; its estimate is 2; prior 0 with λ = 1
    information = unit_information(np.array([[-1.0], [1.0]], np.float32), make_rows([-2, 2], ["a", "a"]))
    direction = fit_direction(information.values(), FitOptions(penalty=1.0, unit_spread=np.sqrt(0.5)))
    np.testing.assert_allclose(direction, [1.0])


def test_without_data_the_prior_stands():
    information = unit_information(np.zeros((2, 3), np.float32), make_rows([-1, 1], ["a", "a"]))
    options = FitOptions(penalty=5.0, prior_mean=np.array([0.0, 0.5, 0.0]))
    np.testing.assert_allclose(fit_direction(information.values(), options), [0.0, 0.5, 0.0])


def test_a_large_unit_does_not_dictate():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(10_100, 1)).astype(np.float32)
    unit = ["large"] * 10_000 + ["small"] * 100
    target = np.concatenate([-x[:10_000, 0], x[10_000:, 0]])
    information = unit_information(x, make_rows(target, unit))
    plain = fit_direction(information.values(), FitOptions(penalty=1.0, unit_spread=0.0))[0]
    bounded = fit_direction(information.values(), FitOptions(penalty=1.0, unit_spread=1.0))[0]
    assert plain < -0.9
    assert abs(bounded) < 0.1


def test_differences_between_groups_do_not_count():
    x = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    rows = make_rows([0, 1, 50, 51], ["a"] * 4, group=["g", "g", "h", "h"])
    (gram, moment) = unit_information(x, rows)["a"]
    np.testing.assert_allclose([gram[0, 0], moment[0]], [1.0, 1.0])


def test_noise_lowers_the_weight():
    x = np.array([[-1.0], [1.0]], np.float32)
    noisy = unit_information(x, make_rows([-1, 1], ["a", "a"], noise=4.0))["a"]
    np.testing.assert_allclose([noisy[0][0, 0], noisy[1][0]], [0.5, 0.5])


def test_no_rows_is_an_error():
    with pytest.raises(ConfigError, match="no rows"):
        fit_direction([], FitOptions())


def test_training_repeats_exactly():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(300, 20)).astype(np.float32)
    rows = make_rows(generator.normal(size=300), np.repeat(["a", "b", "c"], 100))
    first, second = (fit_direction(unit_information(x, rows).values(), FitOptions()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_slope_of_known_logits_is_found():
    generator = np.random.default_rng(4)
    difficulty = generator.normal(size=20_000)
    stratum = np.repeat(["a", "b"], 10_000)
    logit = 0.7 * difficulty + np.where(stratum == "a", -2.0, 0.5)
    wins = generator.random(20_000) < 1 / (1 + np.exp(-logit))
    slope, error = calibrate_slope(difficulty, wins, stratum)
    assert slope == pytest.approx(0.7, abs=3 * error)
    assert 0.01 < error < 0.03


def test_correlation_ignores_group_means():
    rows = make_rows([0, 1, 100, 101], ["a"] * 4, group=["g", "g", "h", "h"])
    assert within_group_correlation(np.array([5.0, 6.0, 0.0, 1.0]), rows) == 1.0


def test_quantiles_are_1001_ascending_numbers():
    quantiles = reference_quantiles(np.array([0.3, 0.1, 0.2]))
    assert len(quantiles) == 1001
    assert quantiles[0] == 0.1
    assert quantiles[500] == 0.2
    assert quantiles[-1] == 0.3
    assert (np.diff(quantiles) >= 0).all()


def test_the_checkpoint_has_the_published_layout_and_scores_the_vector(tmp_path):
    vector = np.array([0.5, -1.0, 2.0])
    write_checkpoint(tmp_path, vector, make_facts())
    weights = load_file(tmp_path / "model.safetensors")
    assert {key: array.shape for key, array in weights.items()} == {
        "P.weight": (64, 2),
        "classifier.0.weight": (1, 2),
        "text_proj.0.weight": (2, 3),
    }
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"dim": 2, "num_classes": 1, "num_models": 64, "text_dim": 3, "use_proj": True}
    checkpoint = MfCheckpoint.load(tmp_path)
    np.testing.assert_allclose(checkpoint.fold(*checkpoint.pair), vector, rtol=1e-6)
    assert checkpoint.embedder == "static-v2"
    assert checkpoint.pair == ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert checkpoint.reference_quantiles is not None


def test_other_models_than_the_published_ones_are_the_rows(tmp_path):
    write_checkpoint(tmp_path, np.array([0.5, -1.0, 2.0]), make_facts(strong_model="acme/large", weak_model="small"))
    checkpoint = MfCheckpoint.load(tmp_path)
    assert checkpoint.models == checkpoint.pair == ("acme/large", "small")
    np.testing.assert_allclose(checkpoint.fold("acme/large", "small"), [0.5, -1.0, 2.0], rtol=1e-6)


def test_a_pair_of_one_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="both 'same'"):
        write_checkpoint(tmp_path, np.ones(3), make_facts(strong_model="same", weak_model="same"))


def test_the_card_names_data_and_benchmarks(tmp_path):
    write_card(tmp_path, make_facts())
    assert "| exam | 3 |" in (tmp_path / "README.md").read_text()
    figures = {"apgr": {"MMLU": {"apgr": 0.6, "low": 0.58, "high": 0.62, "length": 0.59}}}
    assert "| MMLU | 0.600 | 0.580 to 0.620 | 0.590 |" in card_text("mf", make_facts(), figures)
