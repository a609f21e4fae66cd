"""The benchmarks as questions to new models: what is asked, and what a right answer is."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from routellm_core.asking.answers import Question
from routellm_core.asking.grading import LETTERS, final_number
from routellm_core.asking.judges import REFERENCED_CATEGORIES
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks import load_benchmark
from routellm_core.evals.benchmarks.files import repository_rows
from routellm_core.evals.benchmarks.mmlu import SUBJECTS
from routellm_core.evals.benchmarks.mt_bench import read_questions
from routellm_core.evals.benchmarks.registry import canonical_name
from routellm_core.rows.files import read_table

_MMLU_INSTRUCTION = "Answer this multiple-choice question about {subject} with the letter of the right option only."
_GSM8K_INSTRUCTION = "Solve the problem step by step. End with a line '#### ' followed by the final number alone."
# FastChat's temperatures; the categories that are left out are asked at 0.
_MT_BENCH_TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}


def load_questions(benchmark: str, *, data_dir: Path, answer_key: Path | None = None, shots: int = 0) -> list[Question]:
    """Return the decontaminated questions of ``mmlu``, ``gsm8k`` or ``mt-bench``.

    MMLU needs ``answer_key``, see :func:`load_answer_key`; ``shots`` worked examples are shown before each GSM8K
    problem (RouteLLM shows 8).

    Raises:
        ConfigError: another benchmark, or a file is missing.
    """
    name = canonical_name(benchmark)
    if name == "mmlu":
        return _mmlu_questions(data_dir, answer_key)
    if name == "gsm8k":
        return _gsm8k_questions(data_dir, shots)
    if name == "mt-bench":
        return _mt_bench_questions(data_dir)
    raise ConfigError(f"answers can be generated for mmlu, gsm8k and mt-bench, not for {benchmark!r}")


def _mmlu_questions(data_dir: Path, answer_key: Path | None) -> list[Question]:
    if answer_key is None:
        raise ConfigError(
            "MMLU's right answers are not among RouteLLM's files. Pass --answer-key with the folder of the published "
            "test CSV files (hendrycks/test) or a parquet file of the data set cais/mmlu"
        )
    data = load_benchmark("mmlu", data_dir=data_dir)
    key = load_answer_key(answer_key, data_dir=data_dir)
    return [
        Question(
            id=prompt_id,
            turns=(f"{_MMLU_INSTRUCTION.format(subject=subject.replace('_', ' '))}\n\n{prompt}",),
            right=key[prompt_id],
        )
        for prompt_id, subject, prompt in zip(data.prompt_ids, data.groups, data.prompts, strict=True)
    ]


def _gsm8k_questions(data_dir: Path, shots: int) -> list[Question]:
    data = load_benchmark("gsm8k", data_dir=data_dir)
    solutions = repository_rows(data_dir, "gsm8k/test.jsonl")
    examples: tuple[tuple[str, str], ...] = ()
    if shots:
        train = repository_rows(data_dir, "gsm8k/train.jsonl")[:shots]
        examples = tuple((_gsm8k_turn(record["question"]), str(record["answer"])) for record in train)
    questions = []
    for prompt_id, prompt in zip(data.prompt_ids, data.prompts, strict=True):
        solution = solutions[int(prompt_id) - 1]
        if solution["question"] != prompt:
            raise ConfigError(f"gsm8k: row {prompt_id} of test.jsonl is another problem than in gsm8k_responses.csv")
        right = str(final_number(str(solution["answer"])))
        questions.append(Question(id=prompt_id, turns=(_gsm8k_turn(prompt),), right=right, examples=examples))
    return questions


def _gsm8k_turn(problem: str) -> str:
    return f"{_GSM8K_INSTRUCTION}\n\n{problem}"


def _mt_bench_questions(data_dir: Path) -> list[Question]:
    kept = set(load_benchmark("mt-bench", data_dir=data_dir).prompt_ids)
    return [
        Question(
            id=str(record["question_id"]),
            turns=tuple(record["turns"]),
            references=tuple(record.get("reference") or ()) if record["category"] in REFERENCED_CATEGORIES else (),
            temperature=_MT_BENCH_TEMPERATURES.get(record["category"], 0.0),
        )
        for record in read_questions(data_dir)
        if str(record["question_id"]) in kept
    ]


def load_answer_key(path: Path, *, data_dir: Path) -> dict[str, str]:
    """Read MMLU's right answers: prompt id (``subject/number``) to letter.

    Questions are matched by subject and position, which both sources keep, and the match is verified on the questions'
    beginnings.

    Args:
        path: a folder with ``<subject>_test.csv`` files (question, four options, letter; hendrycks/test unpacked, with
            or without a header), or one file with the columns ``subject``, ``question`` and ``answer`` (a letter or 0
            to 3; cais/mmlu).
        data_dir: folder of the benchmark files.

    Raises:
        ConfigError: a subject is missing, has another number of questions, or other questions.
    """
    by_subject = _key_from_folder(path) if path.is_dir() else _key_from_file(path)
    key: dict[str, str] = {}
    for subject in SUBJECTS:
        entries = by_subject.get(subject, [])
        rows = repository_rows(data_dir, f"mmlu/responses/mmlu_{subject}.csv")
        if len(entries) != len(rows):
            raise ConfigError(
                f"{path} has {len(entries)} answers for {subject}; the benchmark has {len(rows)} questions"
            )
        for number, (row, (question, letter)) in enumerate(zip(rows, entries, strict=True), start=1):
            if _beginning(question) != _beginning(row["prompt"])[: len(_beginning(question))]:
                raise ConfigError(f"{path}: question {number} of {subject} is not the benchmark's: {question[:60]!r}")
            key[f"{subject}/{number}"] = letter
    return key


def _beginning(text: str) -> str:
    return "".join(text.split())[:40]


def _key_from_folder(folder: Path) -> dict[str, list[tuple[str, str]]]:
    key: dict[str, list[tuple[str, str]]] = {}
    for subject in SUBJECTS:
        found = sorted(folder.rglob(f"{subject}_test.csv"))
        if not found:
            raise ConfigError(f"{subject}_test.csv is missing under {folder}")
        with found[0].open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
        if rows[0][-1].strip().lower() == "answer":
            rows = rows[1:]
        key[subject] = [
            (row[0], _letter(row[-1], f"{found[0]}, row {number}")) for number, row in enumerate(rows, start=1)
        ]
    return key


def _key_from_file(path: Path) -> dict[str, list[tuple[str, str]]]:
    key: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for place, row in read_table(path):
        missing = [column for column in ("subject", "question", "answer") if row.get(column) is None]
        if missing:
            raise ConfigError(f"{place}: no {missing[0]!r}")
        key[str(row["subject"])].append((str(row["question"]), _letter(row["answer"], place)))
    return key


def _letter(answer: object, place: str) -> str:
    text = str(answer).strip().upper()
    letters: Sequence[str] = LETTERS
    if text in letters and len(text) == 1:
        return text
    if text in ("0", "1", "2", "3"):
        return LETTERS[int(text)]
    raise ConfigError(f"{place}: answer {answer!r} is neither a letter from A to D nor 0 to 3")
