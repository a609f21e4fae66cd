import numpy as np
import pytest

from research.pool import Pool
from research.targets import difficulty_rows

pandas = pytest.importorskip("pandas", reason="needs the extra [train]")


def make_pool(scores, categories):
    """``scores`` (prompts, models) as a pool with one source."""
    prompts = pandas.DataFrame(
        {
            "prompt_id": [f"p{row}" for row in range(len(scores))],
            "source": "exam",
            "category": categories,
            "prompt": [f"question {row}" for row in range(len(scores))],
        }
    )
    answers = pandas.DataFrame(
        [
            {"prompt_id": f"p{row}", "model": f"m{column}", "score": float(value)}
            for row, values in enumerate(scores)
            for column, value in enumerate(values)
        ]
    )
    return Pool(prompts=prompts, scores=answers, pairs=None)


def test_prompts_that_fewer_models_solve_are_harder():
    scores = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]] * 15)
    rows = difficulty_rows(make_pool(scores, ["c"] * 60))
    first = rows.target[:4]
    assert (np.diff(first) > 0).all()
    assert rows.target.mean() == pytest.approx(0.0, abs=1e-12)


def test_difficulty_is_in_units_of_its_signal():
    generator = np.random.default_rng(0)
    latent = generator.normal(size=4000)
    scores = (generator.normal(size=(4000, 6)) > latent[:, None]).astype(float)  # the probit model
    rows = difficulty_rows(make_pool(scores, ["c"] * 4000))
    reliability = 1.0 / rows.noise[0]
    assert np.corrcoef(rows.target, latent)[0, 1] ** 2 == pytest.approx(reliability, abs=0.03)
    assert rows.target.var() == pytest.approx(rows.noise[0], rel=0.01)


def test_guesses_are_told_from_knowledge():
    generator = np.random.default_rng(1)
    latent = generator.normal(size=500)
    known = (0.3 * generator.normal(size=(500, 5)) > latent[:, None]).astype(float)
    guessed = generator.integers(0, 2, size=(500, 5)).astype(float)
    rows = difficulty_rows(make_pool(np.concatenate([known, guessed]), ["known"] * 500 + ["guessed"] * 500))
    assert rows.noise[0] < 2 < 10 < rows.noise[-1]


def test_categories_are_compared_within_a_source_only_when_asked():
    generator = np.random.default_rng(2)
    latent = generator.normal(size=200) + np.repeat([0.0, 1.0], 100)
    scores = (0.5 * generator.normal(size=(200, 4)) > latent[:, None]).astype(float)
    categories = ["easy"] * 100 + ["hard"] * 100
    within_source = difficulty_rows(make_pool(scores, categories), by_category=False)
    within_category = difficulty_rows(make_pool(scores, categories))
    assert within_source.target[100:].mean() > within_source.target[:100].mean() + 0.5
    assert within_category.target[100:].mean() == pytest.approx(0.0, abs=1e-9)
    assert set(within_source.group) == {"exam"}


def test_select_keeps_rows_aligned():
    rows = difficulty_rows(make_pool(np.array([[1, 0], [0, 1], [0, 0], [1, 1]] * 10), ["c"] * 40))
    some = rows.select(np.arange(40) % 2 == 1)
    assert some.prompt_ids == [f"p{row}" for row in range(1, 40, 2)]
    np.testing.assert_array_equal(some.target, rows.target[1::2])
