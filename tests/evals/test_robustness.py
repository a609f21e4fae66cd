"""The robustness check by hand, and what it finds of the shipped router."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from research.board import language_table
from research.pool import shared_folder
from routellm_core.cli.evaluate import evaluate_app
from routellm_core.errors import ConfigError
from routellm_core.evals.robustness import CHANGES, check_robustness, rank_correlation, with_typos
from routellm_core.routers.base import Router
from routellm_core.routers.mf.router import MatrixFactorizationRouter

PROMPTS = [
    "Ping.", "How are you today?", "What is the capital of Australia?", "Write a limerick about a lazy cat.",
    "Give me three names for a bakery.", "What does HTTP stand for?", "Translate 'good night' into French.",
    "Summarise the plot of Romeo and Juliet in two sentences.", "Is a tomato a fruit?", "Convert 5 miles to km.",
    "Explain how vaccines work to a ten-year-old.", "Which planet has the most moons?", "List five uses for vinegar.",
    "Prove that there are infinitely many primes congruent to 3 modulo 4.",
    "Write a Rust function that merges overlapping intervals and proves its complexity is O(n log n).",
    "A tank fills in 6 hours by one pipe and in 9 by another, and drains in 12. When is it full with all open?",
    "Derive the posterior of a Gaussian mean under a conjugate prior and discuss the limit of many observations.",
    "Find the bug: def mean(xs): return sum(xs) / len(xs) if xs else None if xs == [] else 0",
    "Design a schema and queries for a hotel booking system that never double-books under concurrent writes.",
    "Compare the tax treatment of stock options in Germany and the United States for a founder who moves between them.",
    "Let G be a finite group whose order is odd and less than 100. Show that G is solvable.",
    "Write a sonnet in iambic pentameter in which the first letters of the lines spell a name.",
]  # fmt: skip
EXACT = [name for name in CHANGES if not name.startswith(("typing", "a page", "line breaks"))]


class Length(Router):
    name = "length"

    def score(self, prompts):
        return np.array([len(prompt) / (len(prompt) + 300.0) for prompt in prompts])


def test_a_length_router_is_seen_through():
    found = check_robustness(Length(), PROMPTS)
    assert found.prompts == len(PROMPTS)
    assert found.length_correlation == pytest.approx(1.0)
    assert found.kept["500 blanks after it"] == 0.5  # all go to the strong model
    assert found.kept["upper case"] == 1.0


@pytest.mark.parametrize("change", EXACT)
def test_what_says_nothing_does_not_move_the_shipped_score(change):
    router = MatrixFactorizationRouter()
    changed = router.score([CHANGES[change](prompt) for prompt in PROMPTS])
    np.testing.assert_array_equal(changed, router.score(PROMPTS))


def test_typing_errors_and_a_page_rarely_move_a_tier():
    found = check_robustness(MatrixFactorizationRouter(), PROMPTS)
    assert found.kept["typing errors, 1 %"] >= 0.9
    assert found.kept["a page after it"] >= 0.9


def test_typing_errors_repeat_and_are_as_many_as_asked():
    text = "the quick brown fox jumps over the lazy dog " * 10
    assert with_typos(text, rate=0.02) == with_typos(text, rate=0.02)
    assert with_typos(text, rate=0.02) != text
    assert with_typos("a 1 !", rate=0.5) == "a 1 !"  # nothing inside a word


def test_rank_correlation_by_hand():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 20, 15])) == pytest.approx(0.5)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([5.0, 5, 9])) == pytest.approx(1.0)  # ties share a rank
    assert rank_correlation(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) == 0.0


def test_one_prompt_is_too_few():
    with pytest.raises(ConfigError, match="at least 2"):
        check_robustness(Length(), ["one"])


def _parity():
    try:
        file = shared_folder() / "data" / "parity" / "parity.jsonl"
    except ConfigError as error:
        pytest.skip(str(error))
    if not file.is_file():
        pytest.skip("the parity prompts are not in the shared data")
    return file


def test_languages_are_told_apart_by_difficulty_and_treated_alike():
    file = _parity()
    table = language_table(MatrixFactorizationRouter(), file)
    assert len(table) == 11
    english = table["en"]
    for row in table.values():
        assert row["auc"] >= 0.8  # .95 is the aim; docs/training-notes.md says how far it is
        assert abs(row["share"] - english["share"]) <= 0.13
        assert abs(row["gap"]) < 1 / 3


def test_the_language_table_by_hand(tmp_path):
    rows = [
        {"id": name, "difficulty": level, "lang": language, "prompt": "x" * length}
        for name, level, language, length in (
            ("a", "easy", "en", 10), ("a", "easy", "de", 20), ("b", "hard", "en", 300), ("b", "hard", "de", 300),
        )
    ]  # fmt: skip
    file = tmp_path / "parity.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    table = language_table(Length(), file)
    assert table["en"] == {"auc": 1.0, "share": 0.5, "gap": 0.0}
    assert table["de"]["gap"] == pytest.approx(np.log(2.0) / 2 / (np.log(30.0) / 2))  # half of the twins moved by log 2


def test_the_command_needs_no_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    done = CliRunner().invoke(evaluate_app, ["--robustness", "--routers", "mf", "random", "--data", str(file)])
    assert done.exit_code == 0, done.output
    assert "| quotes around it | 100.0 % |" in done.output
    assert "rank correlation with length" in done.output
    assert done.output.count("\n|") == len(CHANGES) + 2
