"""New models answer the benchmarks through litellm, against an OpenAI-compatible process, and are graded."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from routellm_core.asking.answers import Question, generate_answers, grade_answers
from routellm_core.asking.calls import CallLimits
from routellm_core.asking.grading import graded_quality, mean_grade, model_folder, records_of
from routellm_core.asking.store import RecordFile
from routellm_core.backends.base import ModelSettings
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.cli.evaluate import evaluate_app
from routellm_core.errors import BackendError, ConfigError
from routellm_core.evals import load_benchmark
from routellm_core.evals.benchmarks.mmlu import SUBJECTS
from routellm_core.evals.questions import load_answer_key, load_questions
from routellm_core.types import ModelPair

LIMITS = CallLimits(concurrency=8, attempts=10, wait_initial=0.01, wait_max=0.05)


@pytest.fixture(scope="module")
def gsm8k(data_dir: Path) -> list[Question]:
    return load_questions("gsm8k", data_dir=data_dir)


@pytest.fixture(scope="module")
def mt_bench(data_dir: Path) -> list[Question]:
    return load_questions("mt-bench", data_dir=data_dir)


@pytest.fixture(scope="module")
def server(gsm8k: list[Question], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a process that knows the answers of GSM8K and calls every MMLU option A right."""
    right = tmp_path_factory.mktemp("server") / "right.json"
    known = {question.turns[0]: question.right for question in gsm8k} | {"multiple-choice question": "A"}
    right.write_text(json.dumps(known))
    script = Path(__file__).with_name("answering_server.py")
    with subprocess.Popen([sys.executable, str(script), str(right)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


def settings(model: str, server: str) -> ModelSettings:
    return ModelSettings(model=f"openai/{model}", api_base=server, api_key="none")


async def answer(questions: list[Question], benchmark: str, model: str, server: str, folder: Path) -> Any:
    chosen = settings(model, server)
    backend = LiteLLMBackend()
    done = await generate_answers(
        questions, benchmark=benchmark, model=chosen, backend=backend, folder=folder, limits=LIMITS
    )
    graded = await grade_answers(
        questions,
        benchmark=benchmark,
        model=chosen.model,
        folder=folder,
        judge=settings("judge", server),
        backend=backend,
        limits=LIMITS,
    )
    return done, graded


async def test_gsm8k_with_a_new_pair_end_to_end(
    gsm8k: list[Question], data_dir: Path, server: str, tmp_path: Path
) -> None:
    few = gsm8k[:60]
    for model, quality in (("shaky", 1.0), ("bad", 0.0)):
        done, _ = await answer(few, "gsm8k", model, server, tmp_path)
        assert (done.reused, done.done, done.failures) == (0, 60, {})
        assert mean_grade(tmp_path, benchmark="gsm8k", model=f"openai/{model}") == (60, quality)
        again, _ = await answer(few, "gsm8k", model, server, tmp_path)
        assert (again.reused, again.done) == (60, 0)
    pair = ModelPair("openai/shaky", "openai/bad")
    with pytest.raises(ConfigError, match=r"1247 of 1307 prompts of gsm8k are not graded"):
        load_benchmark("gsm8k", data_dir=data_dir, pair=pair, answers_dir=tmp_path)


async def test_mt_bench_both_turns_are_judged(
    mt_bench: list[Question], data_dir: Path, server: str, tmp_path: Path
) -> None:
    for model in ("good", "bad"):
        done, graded = await answer(mt_bench, "mt-bench", model, server, tmp_path)
        assert (done.done, graded.done, graded.failures) == (72, 72, {})
    records = records_of(tmp_path, "judgements", benchmark="mt-bench", model="openai/good").read()
    assert all(record["ratings"] == [9.0, 9.0] for record in records.values())
    pair = ModelPair("openai/good", "openai/bad")
    benchmark = load_benchmark("mt-bench", data_dir=data_dir, pair=pair, answers_dir=tmp_path)
    assert (benchmark.strong_mean, benchmark.weak_mean) == (9.0, 3.0)


async def test_another_answer_is_judged_anew(mt_bench: list[Question], server: str, tmp_path: Path) -> None:
    two = mt_bench[:2]
    await answer(two, "mt-bench", "good", server, tmp_path)
    changed = {"id": two[0].id, "answers": ["bad says: x", "bad says: y"], "protocol": "edited by hand"}
    records_of(tmp_path, "answers", benchmark="mt-bench", model="openai/good").append(changed)
    graded = await grade_answers(
        two,
        benchmark="mt-bench",
        model="openai/good",
        folder=tmp_path,
        judge=settings("judge", server),
        backend=LiteLLMBackend(),
    )
    assert (graded.reused, graded.done) == (1, 1)
    assert mean_grade(tmp_path, benchmark="mt-bench", model="openai/good") == (2, 6.0)


async def test_a_wrong_key_stops_at_once(gsm8k: list[Question], server: str, tmp_path: Path) -> None:
    done, _ = await answer(gsm8k, "gsm8k", "rude", server, tmp_path)
    assert "401" in done.stopped
    assert len(done.failures) <= LIMITS.concurrency
    assert done.left == len(gsm8k) - len(done.failures)


def test_references_and_temperatures_of_mt_bench(mt_bench: list[Question]) -> None:
    assert len(mt_bench) == 72
    assert {question.temperature for question in mt_bench} == {0.0, 0.1, 0.7}
    assert all(len(question.turns) == 2 for question in mt_bench)
    assert 20 < sum(bool(question.references) for question in mt_bench) <= 30


def write_key(folder: Path, data_dir: Path, *, letter: str = "A", header: bool = False) -> Path:
    """Write MMLU's published layout with the benchmark's own questions."""
    (folder / "test").mkdir(parents=True)
    for subject in SUBJECTS:
        path = data_dir / "routellm" / "evals" / "mmlu" / "responses" / f"mmlu_{subject}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            questions = [row["prompt"].rpartition("\nA. ")[0] for row in csv.DictReader(file)]
        with (folder / "test" / f"{subject}_test.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([["question", "A", "B", "C", "D", "answer"]] if header else [])
            writer.writerows([question, "w", "x", "y", "z", letter] for question in questions)
    return folder


@pytest.mark.parametrize(("letter", "header"), [("A", False), ("0", True)])
def test_mmlu_answer_keys_and_questions(data_dir: Path, tmp_path: Path, letter: str, header: bool) -> None:
    key = write_key(tmp_path / "key", data_dir, letter=letter, header=header)
    questions = load_questions("mmlu", data_dir=data_dir, answer_key=key)
    assert len(questions) == 14_037
    assert {question.right for question in questions} == {"A"}
    assert "about high school european history with the letter" in questions[0].turns[0]


def test_wrong_answer_keys(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--answer-key"):
        load_questions("mmlu", data_dir=data_dir)
    key = write_key(tmp_path / "key", data_dir)
    path = key / "test" / "anatomy_test.csv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[:-1]))
    with pytest.raises(ConfigError, match="134 answers for anatomy; the benchmark has 135"):
        load_answer_key(key, data_dir=data_dir)
    path.write_text("Another question,w,x,y,z,A\n" + "".join(rows[1:]))
    with pytest.raises(ConfigError, match="question 1 of anatomy is not the benchmark's"):
        load_answer_key(key, data_dir=data_dir)
    path.write_text("".join(rows[1:]) + "q,w,x,y,z,E\n")
    with pytest.raises(ConfigError, match="'E' is neither"):
        load_answer_key(key, data_dir=data_dir)
    path.unlink()
    with pytest.raises(ConfigError, match=r"anatomy_test.csv is missing"):
        load_answer_key(key, data_dir=data_dir)


class ScriptedBackend:
    """Answers from a function and remembers when each call started."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.starts: list[float] = []
        self.calls: list[dict[str, Any]] = []

    def complete(self, model: ModelSettings, parameters: Any) -> Any:
        raise NotImplementedError

    async def acomplete(self, model: ModelSettings, parameters: Any) -> Any:
        self.starts.append(time.monotonic())
        self.calls.append(dict(parameters))
        content = self.reply(parameters)
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=content))])


async def generate(backend: Any, tmp_path: Path, questions: list[Question], **options: Any) -> Any:
    model = ModelSettings(model="m")
    return await generate_answers(
        questions, benchmark="gsm8k", model=model, backend=backend, folder=tmp_path, **{"limits": LIMITS, **options}
    )


def simple_questions(count: int) -> list[Question]:
    return [Question(id=str(number), turns=(f"question {number}",), right="1") for number in range(count)]


async def test_failures_of_single_questions_are_counted_and_tried_again(tmp_path: Path) -> None:
    def filtered(parameters: Any) -> str:
        if parameters["messages"][-1]["content"] == "question 3":
            raise BackendError("content filter", model="m", status_code=400, retryable=False)
        return "#### 1"

    first = await generate(ScriptedBackend(filtered), tmp_path, simple_questions(5))
    assert (first.done, list(first.failures)) == (4, ["3"])
    second = await generate(ScriptedBackend(lambda _: "#### 1"), tmp_path, simple_questions(5))
    assert (second.reused, second.done) == (4, 1)


async def test_other_parameters_are_another_run(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda _: "1")
    await generate(backend, tmp_path, simple_questions(2))
    changed = await generate(backend, tmp_path, simple_questions(2), parameters={"max_tokens": 5})
    assert changed.done == 2
    assert backend.calls[-1]["max_tokens"] == 5
    assert backend.calls[0]["temperature"] == 0.0
    await generate(backend, tmp_path, simple_questions(2), send_temperature=False)
    assert "temperature" not in backend.calls[-1]


async def test_the_rate_is_kept(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda _: "1")
    limits = CallLimits(concurrency=8, requests_per_minute=60 / 0.03)
    await generate(backend, tmp_path, simple_questions(8), limits=limits)
    starts = sorted(backend.starts)
    assert starts[-1] - starts[0] >= 7 * 0.03 - 0.005


async def test_calls_run_concurrently(tmp_path: Path) -> None:
    running, most = 0, 0

    class Slow(ScriptedBackend):
        async def acomplete(self, model: ModelSettings, parameters: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await super().acomplete(model, parameters)

    await generate(Slow(lambda _: "1"), tmp_path, simple_questions(20))
    assert most == LIMITS.concurrency


async def test_examples_become_earlier_turns(tmp_path: Path, data_dir: Path) -> None:
    backend = ScriptedBackend(lambda _: "#### 1")
    questions = load_questions("gsm8k", data_dir=data_dir, shots=8)[:1]
    await generate(backend, tmp_path, questions)
    assert [message["role"] for message in backend.calls[0]["messages"]] == ["user", "assistant"] * 8 + ["user"]


async def test_a_judge_without_a_rating_is_a_failure(tmp_path: Path) -> None:
    question = Question(id="1", turns=("a", "b"))
    await generate(ScriptedBackend(lambda _: "answer"), tmp_path, [question])
    arguments = {"benchmark": "gsm8k", "model": "m", "folder": tmp_path}
    with pytest.raises(ConfigError, match="judge"):
        await grade_answers([question], **arguments)
    judge = ScriptedBackend(lambda _: "I cannot say")
    outcome = await grade_answers([question], **arguments, judge=ModelSettings(model="j"), backend=judge)
    assert list(outcome.failures) == ["1"]


def test_record_files_survive_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    file = RecordFile(path, writer="routellm evaluate generate")
    file.append({"id": 1, "text": "\u2028 odd \ud800"})
    with path.open("ab") as raw:
        raw.write(b'{"id": 2, "te')
    assert list(file.read()) == ["1"]
    file.append({"id": 3})
    assert list(file.read()) == ["1", "3"]
    assert len(path.read_bytes().splitlines()) == 2  # what was cut off is gone
    with path.open("ab") as raw:
        raw.write(b'{"no": "id"}\n')
    with pytest.raises(ConfigError, match="line 3: not a row of `routellm evaluate generate`"):
        file.read()


def test_model_folders_never_collide(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "a:b", "../a", ".a", "a"]
    folders = {model_folder(tmp_path, benchmark="x", model=name) for name in names}
    assert len(folders) == len(names)
    assert all(folder.parent == tmp_path / "x" for folder in folders)


def test_missing_grades_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="routellm evaluate generate"):
        graded_quality(["1"], benchmark="gsm8k", model="m", published=["x"], folder=tmp_path)


def test_command(data_dir: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    arguments = ["generate", "--benchmark", "gsm8k", "--model", "openai/good", "--api-base", server, "--limit", "20"]
    arguments += ["--answers-dir", str(tmp_path / "answers"), "--data-dir", str(data_dir)]
    result = CliRunner().invoke(evaluate_app, arguments)
    assert result.exit_code == 0, result.output
    assert "answers: 20 new, 0 from before, 0 failed" in result.output
    assert "graded: 20, mean quality 1.0000" in result.output
    result = CliRunner().invoke(evaluate_app, arguments)
    assert "answers: 0 new, 20 from before" in result.output


def test_command_needs_a_judge_for_mt_bench(data_dir: Path) -> None:
    arguments = ["generate", "--benchmark", "mt-bench", "--model", "m", "--data-dir", str(data_dir)]
    result = CliRunner().invoke(evaluate_app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "--judge-model" in str(result.exception)
