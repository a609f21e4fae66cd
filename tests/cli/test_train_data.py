"""``routellm train`` on mixed, weighted and multi-model data, as a user runs it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

RIGHT = {"large": (0.95, 0.95), "medium": (0.6, 0.95), "small": (0.15, 0.9), "tiny": (0.05, 0.4)}


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prompts(count: int, name: str) -> list[tuple[str, bool]]:
    return [
        (f"Compute {n} * {n + 7} + 3." if n % 2 else f"Say hello to guest {n} of {name}.", bool(n % 2))
        for n in range(count)
    ]


def scored(models: list[str], count: int, name: str) -> list[dict[str, Any]]:
    generator = random.Random(name)
    return [
        {"prompt": f"{text} ({name})", "model": model, "score": int(generator.random() < RIGHT[model][not is_hard])}
        for text, is_hard in prompts(count, name)
        for model in models
    ]


def routed(routellm: Any, folder: Path, pair: tuple[str, str], checkpoint: str) -> float:
    settings = {"checkpoint_path": checkpoint, "strong_model": pair[0], "weak_model": pair[1]}
    (folder / "config.yaml").write_text(json.dumps({"router": "mf", "routers": {"mf": settings}}))
    done = routellm("route", "--config", "config.yaml", "--threshold", "50%", "--json", "Compute 31 * 38 + 3.")
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout)["score"])


def test_many_models_and_one_more(routellm: Any, tmp_path: Path) -> None:
    write(tmp_path / "scores.jsonl", scored(["large", "medium", "small"], 200, "a"))
    trained = routellm(
        *["train", "mf", "--from", "default", "--data", "scores.jsonl", "--output", "three"],
        *["--strong-model", "large", "--weak-model", "small"],
    )
    assert trained.returncode == 0, trained.stderr
    assert "200 rows, 200 distinct prompts" in trained.stdout
    card = (tmp_path / "three/README.md").read_text()
    assert "| medium | 200 | 200 |" in card
    assert "| large | medium | 200 | 0." in card
    before = routed(routellm, tmp_path, ("large", "medium"), "three")
    write(tmp_path / "more.jsonl", scored(["tiny", "medium"], 100, "b"))
    added = routellm(
        *["train", "mf", "--from", "three", "--data", "more.jsonl", "--output", "four"],
        *["--strong-model", "medium", "--weak-model", "tiny"],
    )
    assert added.returncode == 0, added.stderr
    assert abs(routed(routellm, tmp_path, ("large", "medium"), "four") - before) < 1e-6
    assert routed(routellm, tmp_path, ("large", "tiny"), "four") > before


def test_votes_and_judged_rows_with_a_weight_each(routellm: Any, tmp_path: Path) -> None:
    votes = [
        {"prompt": text, "model_a": "small", "model_b": "large", "winner": "model_b" if is_hard else "tie"}
        for text, is_hard in prompts(80, "votes")
    ]
    judged = [
        {"prompt": f"{text} Please.", "strong": 1, "weak": 0 if is_hard else 1}
        for text, is_hard in prompts(80, "judged")
    ]
    write(tmp_path / "votes.jsonl", votes)
    write(tmp_path / "judged.jsonl", judged)
    words = ["--data", "votes.jsonl", "--data", "weight=0.5:judged.jsonl"]
    for router in ("mf", "sw_ranking"):
        done = routellm("train", router, *words, "--output", router, "--strong-model", "large", "--weak-model", "small")
        assert done.returncode == 0, done.stderr
        assert "160 rows, 160 distinct prompts: 80 strong better, 80 equal" in done.stdout
        assert "weight=0.5:judged.jsonl" in (tmp_path / router / "README.md").read_text()
    refused = routellm("train", "mf", "--data", "weight=-1:votes.jsonl", "--output", "none")
    assert refused.returncode == 2
    assert "the weight must be a positive number, got '-1'" in refused.stderr
