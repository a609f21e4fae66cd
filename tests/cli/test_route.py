from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FIELDS = {"index", "tier", "model", "score", "threshold", "router", "reason", "latency_seconds"}


def test_prompts_become_a_table_with_shares_and_cost(routellm: Run) -> None:
    done = routellm("route", "hi", "Prove Fermat's little theorem.", "--strong-model", "gpt-4-1106-preview")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [column in lines[0] for column in ("index", "score", "thr.", "tier", "model", "reason")] == [True] * 6
    assert lines[1].split()[0] == "0"
    assert "2 prompts: " in done.stdout
    assert "saves" in done.stdout
    assert "all-strong $" in done.stdout


def test_json_is_one_object_a_line(routellm: Run, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('id,prompt\n1,"line one\nline two"\n2,short\n')
    done = routellm("route", "--file", "p.csv", "--json", "--threshold", "0", "--router", "random")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["index"] for row in rows] == [0, 1]
    assert all(set(row) == FIELDS and row["tier"] == "strong" for row in rows)
    assert "2 prompts: 2 strong" in done.stderr


def test_standard_input_is_read(routellm: Run) -> None:
    done = routellm("route", "--json", stdin='{"prompt": "one"}\n{"messages": [{"role": "user", "content": "two"}]}\n')
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_many_prompts_equal_few(routellm: Run, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(f"question number {number}" for number in range(700)))
    scores = [
        [json.loads(line)["score"] for line in routellm("route", "-f", "p.txt", "--json", *size).stdout.splitlines()]
        for size in ([], ["--batch-size", "7"])
    ]
    assert len(scores[0]) == 700
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_an_unpriced_model_is_said_so(routellm: Run) -> None:
    done = routellm("route", "hi", "--weak-model", "my-own")
    assert "No price is known for my-own" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["route"], 2, "no prompts"),
        (["route", "x", "--file", "p.txt"], 2, "not both"),
        (["route", "x", "--router", "mff"], 2, "unknown router 'mff'"),
        (["route", "x", "--threshold", "1.5"], 2, "invalid threshold '1.5'"),
        (["route", "x", "--threshold", "high"], 2, "invalid threshold 'high'"),
        (["route", "--file", "nowhere.txt"], 2, "nowhere.txt cannot be read"),
        (["route", "--file", "empty.txt"], 2, "no prompts"),
        (["route", "--file", "bad.jsonl"], 2, "bad.jsonl, line 2: not JSON"),
        (["route", "x", "--config", "bad.yaml"], 2, "Did you mean 'threshold'"),
        (["route", "x", "--no-such-option"], 2, "No such option"),
        (["rout"], 2, "No such command"),
    ],
)
def test_wrong_usage_has_one_clear_message_and_a_status(
    routellm: Run, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{')
    (tmp_path / "bad.yaml").write_text("treshold: 0.5")
    done = routellm(*arguments)
    assert done.returncode == status, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_megabyte_prompt_is_routed(routellm: Run, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 200_000)
    done = routellm("route", "--file", "long.txt", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] is not None


def test_the_version_is_printed(routellm: Run) -> None:
    assert routellm("--version").stdout.startswith("routellm-core ")
