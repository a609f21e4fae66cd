from __future__ import annotations

import csv
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from routellm_core.asking.grading import choice_letter, final_number, is_same_number
from routellm_core.asking.judges import parse_rating, rating_messages


def reference_number(answer: str) -> Decimal | None:
    """The last run of digits, commas removed: how RouteLLM graded the published answers."""
    digits = re.findall(r"\d+", answer.replace(",", ""))
    return Decimal(digits[-1]) if digits else None


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" c", None),
        ("(D) because", "D"),
        ("A.", "A"),
        ("**B**", "B"),
        ("B) the second", "B"),
        ("The answer is C.", "C"),
        ("the correct answer is: (b)", "B"),
        ("First A seems right, but the answer is option D", "D"),
        (r"So \boxed{C}", "C"),
        (r"\boxed{\text{B}}", "B"),
        ("After thought, it must be B", "B"),
        ("Between A and B I cannot say", None),
        ("Answers vary", None),
        ("A lesion of the nerve", "A"),
        ("", None),
        ("E", None),
    ],
)
def test_choice_letter(answer: str, letter: str | None) -> None:
    assert choice_letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("#### 18", "18"),
        ("#### $1,234.50", "1234.50"),
        ("so 3 + 4 = 7\n#### 7\nCheck: 8 is wrong", "7"),
        (r"thus \boxed{42}", "42"),
        (r"thus \boxed{\text{42}}", "42"),
        ("The answer is $20.00.", "20"),
        ("It is 2.5", "2.5"),
        ("It is -3 degrees", "-3"),
        ("He has **12** left.", "12"),
        ("50%", "50"),
        ("1,000 and 2,000", "2000"),
        ("no number", None),
        ("", None),
    ],
)
def test_final_number(answer: str, number: str | None) -> None:
    found = final_number(answer)
    assert (found is None) if number is None else is_same_number(found, Decimal(number))


def test_nothing_is_not_the_same_as_nothing() -> None:
    assert not is_same_number(None, None)


def test_the_references_rule_reproduces_every_published_label(data_dir: Path) -> None:
    """And ours differs from it only where the last run of digits is not the answer."""
    folder = data_dir / "routellm" / "evals" / "gsm8k"
    solutions = [json.loads(line)["answer"] for line in (folder / "test.jsonl").read_text().splitlines()]
    with (folder / "gsm8k_responses.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for model, differing in (("gpt-4-1106-preview", 42), ("mistralai/Mixtral-8x7B-Instruct-v0.1", 11)):
        labels = [row[model] == "True" for row in rows]
        answers = [row[f"{model}_response"] for row in rows]
        reference = [
            is_same_number(reference_number(answer), reference_number(solution))
            for answer, solution in zip(answers, solutions, strict=True)
        ]
        assert reference == labels
        ours = [
            is_same_number(final_number(answer), final_number(solution))
            for answer, solution in zip(answers, solutions, strict=True)
        ]
        assert sum(mine != label for mine, label in zip(ours, labels, strict=True)) == differing


def test_judge_sees_what_it_has_to() -> None:
    first = rating_messages(["q1", "q2"], ["a1"])
    assert [message["role"] for message in first] == ["system", "user"]
    assert "q1" in first[1]["content"]
    assert "a1" in first[1]["content"]
    assert "q2" not in first[1]["content"]
    assert "[[5]]" in first[1]["content"]
    second = rating_messages(["q1", "q2"], ["a1", "a2"], references=["r1", "r2"])[1]["content"]
    assert all(text in second for text in ("q1", "q2", "a1", "a2", "r1", "r2"))


@pytest.mark.parametrize(
    ("judgement", "rating"),
    [
        ("Good. Rating: [[8]]", 8.0),
        ("[[3]] no: [[7.5]]", 7.5),
        ("Rating: [6]", 6.0),
        ("[[11]]", None),
        ("Rating: 8", None),
        ("", None),
    ],
)
def test_rating(judgement: str, rating: float | None) -> None:
    assert parse_rating(judgement) == rating
