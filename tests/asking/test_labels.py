"""Labelling against the local models over HTTP: labels, resuming, failures, judges that cannot judge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from routellm_core.asking.calls import CallLimits
from routellm_core.asking.judges import comparison_messages, parse_verdict
from routellm_core.asking.labels import LabelRun
from routellm_core.asking.prompts import (
    LabelModels,
    LabelParameters,
    LabelPrompt,
    estimate_calls,
    read_label_prompts,
)
from routellm_core.backends.base import ModelSettings
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.errors import ConfigError
from routellm_core.rows.labelled import PairRows, load_rows
from routellm_core.testing.local_models import LocalModelServer


def model(name: str, server: LocalModelServer, **settings: Any) -> ModelSettings:
    return ModelSettings(model=f"openai/{name}", api_base=server.base_url, api_key="none", **settings)


def pair(server: LocalModelServer, strong: str = "strong", weak: str = "weak", judge: str = "judge") -> LabelModels:
    return LabelModels(model(strong, server), model(weak, server), model(judge, server))


def prompts(count: int = 4, reference: str | None = None) -> list[LabelPrompt]:
    return [LabelPrompt(f"What is {n}?", f"prompts.jsonl, line {n + 1}", reference) for n in range(count)]


def run(models: LabelModels, output: Path, **limits: Any) -> LabelRun:
    quick = CallLimits(**{"attempts": 2, "wait_initial": 0.0, "wait_max": 0.0, **limits})
    return LabelRun(models, LiteLLMBackend(), output, limits=quick)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_rows_are_what_training_reads(local_models: LocalModelServer, tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    outcome = await run(pair(local_models), output).label(prompts())
    assert outcome.winners == {"strong": 4, "weak": 0, "tie": 0}  # "strong answers: …" is two letters longer
    assert (outcome.done, outcome.reused, outcome.disagreements, outcome.is_complete) == (4, 0, 0, True)
    row = next(row for row in lines(output) if row["prompt"] == "What is 2?")
    assert (row["strong_answer"], row["weak_answer"]) == ("strong answers: What is 2?", "weak answers: What is 2?")
    assert row["verdicts"] == ["strong", "strong"]
    assert [text[-5:] for text in row["judgements"]] == ["[[A]]", "[[B]]"]  # the order was swapped
    rows = load_rows([output])
    assert isinstance(rows, PairRows)
    assert rows.gain.tolist() == [1.0] * 4


async def test_the_reference_decides(local_models: LocalModelServer, tmp_path: Path) -> None:
    asked = [*prompts(1, "weak answers"), *prompts(2, "answers")[1:]]
    output = tmp_path / "labelled.jsonl"
    outcome = await run(pair(local_models), output).label(asked)
    assert outcome.winners == {"strong": 0, "weak": 1, "tie": 1}
    assert outcome.disagreements == 0


async def test_a_judge_that_changes_its_mind_with_the_order_gives_a_tie(
    local_models: LocalModelServer, tmp_path: Path
) -> None:
    output = tmp_path / "labelled.jsonl"
    outcome = await run(pair(local_models, judge="judge-first"), output).label(prompts(3))
    assert outcome.winners == {"strong": 0, "weak": 0, "tie": 3}
    assert outcome.disagreements == 3
    assert lines(output)[0]["verdicts"] == ["strong", "weak"]
    assert (lines(output)[0]["strong"], lines(output)[0]["weak"]) == (0.5, 0.5)


async def test_a_rerun_asks_only_what_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    with LocalModelServer() as server:
        await run(pair(server), output).label(prompts(2))
        assert len(server.requests) == 8
        outcome = await run(pair(server), output).label(prompts(3))
        assert len(server.requests) == 12
        assert (outcome.done, outcome.reused, sum(outcome.winners.values())) == (1, 2, 3)
        await run(pair(server, judge="judge-first"), output).label(prompts(1))  # another judge, another label
        assert len(server.requests) == 16
    assert len({row["id"] for row in lines(output)}) == 4


async def test_a_line_cut_off_by_a_kill_is_labelled_again(local_models: LocalModelServer, tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    await run(pair(local_models), output).label(prompts(3))
    whole = output.read_bytes()
    output.write_bytes(whole[:-25])
    outcome = await run(pair(local_models), output).label(prompts(3))
    assert (outcome.done, outcome.reused) == (1, 2)
    assert len(load_rows([output])) == 3


async def test_a_failing_model_leaves_its_prompts_for_the_next_run(tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    kept = output.with_name("labelled.jsonl.failures")
    with LocalModelServer() as server:
        outcome = await run(pair(server, weak="fail-500"), output).label(prompts(2))
        assert outcome.failures.keys() == {"prompts.jsonl, line 1", "prompts.jsonl, line 2"}
        assert not outcome.is_complete
        assert not output.exists()
        strong_calls = [body for body in server.requests if body["model"] == "strong"]
        assert len(strong_calls) == 2
        assert len(server.requests) == 6  # two attempts of each weak call; the strong model never stands in
        assert {"error", "answers", "place", "id"} <= lines(kept)[0].keys()
        await run(pair(server, weak="fail-500"), output).label(prompts(2))
        assert len([body for body in server.requests if body["model"] == "strong"]) == 2  # was paid for already


async def test_what_failed_once_is_finished_later(tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    with LocalModelServer() as server:
        models = pair(server, weak="flaky-503")
        first = await run(models, output, attempts=1).label(prompts(1))
        assert list(first.failures) == ["prompts.jsonl, line 1"]
        assert output.with_name("labelled.jsonl.failures").exists()
        second = await run(models, output, attempts=1).label(prompts(1))
    assert second.is_complete
    assert not output.with_name("labelled.jsonl.failures").exists()


async def test_rate_limits_are_waited_out(local_models: LocalModelServer, tmp_path: Path) -> None:
    outcome = await run(pair(local_models, strong="flaky-429"), tmp_path / "l.jsonl", attempts=6).label(prompts(3))
    assert outcome.is_complete


@pytest.mark.parametrize(("judge", "said"), [("judge-vague", "gave no verdict"), ("garbage", "garbage")])
async def test_a_judge_that_judges_nothing_labels_nothing(
    local_models: LocalModelServer, tmp_path: Path, judge: str, said: str
) -> None:
    output = tmp_path / "labelled.jsonl"
    outcome = await run(pair(local_models, judge=judge), output).label(prompts(1))
    assert said in outcome.failures["prompts.jsonl, line 1"]
    assert not output.exists()
    answers = lines(output.with_name("labelled.jsonl.failures"))[0]["answers"]
    assert answers["strong"]["text"] == "strong answers: What is 0?"
    assert (await run(pair(local_models, judge=judge), output).label(prompts(1))).tokens.keys() <= {"judge"}


async def test_a_wrong_key_stops_the_run(tmp_path: Path) -> None:
    with LocalModelServer(api_key="right") as server:
        outcome = await run(pair(server), tmp_path / "l.jsonl", concurrency=1).label(prompts(20))
        assert outcome.stopped is not None
        assert "refuses every call" in outcome.stopped
        assert "401" in outcome.stopped
        assert (len(outcome.failures), outcome.left) == (1, 19)
        assert len(server.requests) == 0


async def test_stopping_keeps_what_was_paid_for(tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    with LocalModelServer() as server:
        labelling = run(pair(server, weak="slow-30"), output)
        task = asyncio.create_task(labelling.label(prompts(1)))
        async with asyncio.timeout(20):
            while not labelling._calls.tokens:
                assert not task.done(), "the run ended before it was stopped"
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    record = lines(output.with_name("labelled.jsonl.failures"))[0]
    assert record["answers"]["strong"]["text"] == "strong answers: What is 0?"


async def test_money_is_counted_and_bounded(local_models: LocalModelServer, tmp_path: Path) -> None:
    prices = {"input_cost_per_token": 1.0, "output_cost_per_token": 10.0}
    models = LabelModels(
        model("strong", local_models, **prices),
        model("weak", local_models, input_cost_per_token=0.0, output_cost_per_token=0.0),
        model("judge", local_models, input_cost_per_token=0.0, output_cost_per_token=0.0),
    )
    output = tmp_path / "labelled.jsonl"
    # 10 characters are 2 tokens and 3 for the message; "strong answers: What is 0?" has 26 characters, 6 tokens
    outcome = await run(models, output, concurrency=1, max_cost=100.0).label(prompts(5))
    assert lines(output)[0]["dollars"] == 5 * 1.0 + 6 * 10.0
    assert lines(output)[0]["tokens"]["strong"] == {"input": 5.0, "output": 6.0}
    assert outcome.dollars == 130.0  # the second prompt was begun at 65
    assert (outcome.done, outcome.left, outcome.is_complete) == (2, 3, False)


async def test_unknown_prices_are_not_taken_for_zero(local_models: LocalModelServer, tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    outcome = await run(pair(local_models), output).label(prompts(1))
    assert outcome.dollars is None
    assert lines(output)[0]["dollars"] is None


def test_the_estimate_by_hand(local_models: LocalModelServer) -> None:
    prices = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2}
    models = LabelModels(model("strong", local_models, **prices), model("w", local_models), model("j", local_models))
    strong, weak, judge = estimate_calls([LabelPrompt("x" * 40, "line 1")] * 3, models, answer_tokens=100)
    assert (strong.calls, weak.calls, judge.calls) == (3, 3, 6)
    assert (strong.input_tokens, strong.output_tokens) == (3 * 14.0, 300.0)  # 40 / 4 and 4 for the message
    assert strong.dollars == pytest.approx(42 * 1e-3 + 300 * 1e-2)
    assert weak.dollars is None
    shown = sum(len(message["content"]) / 4 + 4 for message in comparison_messages(_one("x" * 40), "", ""))
    assert judge.input_tokens == pytest.approx(6 * (shown + 200))
    assert judge.output_tokens == 6 * 200


def _one(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_conversations_are_cut_after_the_users_last_message(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
    ]
    rows = [{"messages": talk}, {"messages": talk[:3]}, {"messages": talk[1:2]}, {"messages": talk[:1]}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_label_prompts(tmp_path / "p.jsonl")
    assert [len(prompt.messages) for prompt in found.prompts] == [3, 1]
    assert (found.repeated, found.without_text) == (1, 1)


def test_a_reference_column_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,gold\nWhy?,42\nHow?,\n")
    found = read_label_prompts(tmp_path / "p.csv", reference_column="gold")
    assert [prompt.reference for prompt in found.prompts] == ["42", None]
    with pytest.raises(ConfigError, match="no column 'golden'"):
        read_label_prompts(tmp_path / "p.csv", reference_column="golden")


def test_one_file_holds_one_pair(local_models: LocalModelServer, tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    asyncio.run(run(pair(local_models), output).label(prompts(1)))
    with pytest.raises(ConfigError, match=r"line 1: holds labels of openai/strong against openai/weak, not of"):
        run(pair(local_models, weak="other"), output)
    output.write_text('{"prompt": "mine"}\n')
    with pytest.raises(ConfigError, match="line 1: not a row of `routellm data label`"):
        run(pair(local_models), output)


def test_the_key_depends_on_all_that_is_sent(local_models: LocalModelServer) -> None:
    models, prompt = pair(local_models), LabelPrompt("Why?", "line 1")
    keys = {
        prompt.key(models, LabelParameters()),
        LabelPrompt("How?", "line 1").key(models, LabelParameters()),
        LabelPrompt("Why?", "line 1", "42").key(models, LabelParameters()),
        prompt.key(models, LabelParameters(answers={"max_tokens": 5})),
        prompt.key(pair(local_models, judge="judge-first"), LabelParameters()),
    }
    assert len(keys) == 5
    assert LabelPrompt("Why?", "line 9").key(models, LabelParameters()) in keys


@pytest.mark.parametrize(
    ("text", "verdict"), [("[[A]]", "A"), ("Not [[A]] but [[ B ]].", "B"), ("A is better", None), ("[[D]]", None)]
)
def test_verdicts(text: str, verdict: str | None) -> None:
    assert parse_verdict(text) == verdict
