from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from routellm_core.cli.data import data_app
from routellm_core.errors import ConfigError
from routellm_core.evals.contamination import evaluation_prompts, find_contamination, write_matches

LONG = "a farmer has twelve red hens and each of them lays three eggs a day how many eggs are there"


class AngleEmbedder:
    """Puts a text at the angle (in degrees) that it names; an empty text nowhere."""

    name = "angle"
    dimension = 2

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        angles = np.radians([float(text or 0) for text in texts])
        lengths = np.array([3.0 if text else 0.0 for text in texts])
        return np.stack([np.cos(angles) * lengths, np.sin(angles) * lengths], axis=1).astype(np.float32)


def test_exact_but_for_case_and_punctuation() -> None:
    matches = find_contamination(["x", "What is 2+2?"], ["what is  2 + 2", "other"])
    assert [(match.train_idx, match.eval_idx, match.kind) for match in matches] == [(1, 0, "exact")]
    assert matches[0].eval_prompt == "what is  2 + 2"


def test_texts_without_words_match_nothing() -> None:
    assert find_contamination(["?!", ""], ["...", ""]) == []


def test_shared_ngrams() -> None:
    half = " ".join(LONG.split()[:14])
    matches = find_contamination(["nothing alike in here at all whatever you do", half], [LONG], ngram=5)
    assert [(match.train_idx, match.kind) for match in matches] == [(1, "ngram")]
    words = len(LONG.split())
    assert matches[0].similarity == pytest.approx((14 - 4) / (words - 4))
    assert find_contamination([half], [LONG], ngram=5, ngram_share=0.9) == []


def test_near_in_meaning_with_the_references_threshold() -> None:
    # cos 18 degrees is 0.951, cos 19 degrees 0.946.
    found = find_contamination(["90", "18", "5", ""], ["0", "37"], embedder=AngleEmbedder())
    assert [(match.train_idx, match.eval_idx, match.kind) for match in found] == [(2, 0, "embedding")]
    assert found[0].similarity == pytest.approx(np.cos(np.radians(5)), abs=1e-6)


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from routellm_core.evals import contamination

    train, evaluated = [str(a) for a in range(0, 360, 7)], [str(a) for a in range(0, 360, 5)]
    whole = find_contamination(train, evaluated, embedder=AngleEmbedder())
    monkeypatch.setattr(contamination, "_EVAL_BLOCK", 4)
    monkeypatch.setattr(contamination, "_TRAIN_BLOCK", 3)
    assert find_contamination(train, evaluated, embedder=AngleEmbedder()) == whole


def test_bad_thresholds() -> None:
    for wrong in ({"similarity_threshold": 0.0}, {"ngram_share": 1.5}, {"ngram": 0}):
        with pytest.raises(ConfigError, match="must be in"):
            find_contamination([], [], **wrong)  # type: ignore[arg-type]


def test_finds_the_prompts_that_routellm_lists(data_dir: Path) -> None:
    """RouteLLM's own lists name the training prompts; most of its matches are found without any embedding."""
    for benchmark, folder in (("gsm8k", "gsm8k"), ("mt-bench", "mt_bench"), ("mmlu", "mmlu")):
        path = data_dir / "routellm" / "evals" / folder / "contaminated_prompts.jsonl"
        listed = [json.loads(line) for line in path.read_text().splitlines()]
        prompts = evaluation_prompts(benchmark, data_dir=data_dir)
        assert all(prompts[record["eval_idx"]] == record["eval_prompt"] for record in listed)
        matches = find_contamination([record["train_prompt"] for record in listed], prompts)
        found = {match.eval_prompt for match in matches}
        wanted = {record["eval_prompt"] for record in listed}
        assert len(found & wanted) >= 0.8 * len(wanted)


def test_command(data_dir: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    prompts = evaluation_prompts("mt-bench", data_dir=data_dir)
    train.write_text(json.dumps({"prompt": prompts[3]}) + "\n" + json.dumps({"prompt": "something else"}) + "\n")
    output = tmp_path / "list.jsonl"
    arguments = ["contamination", "--train", str(train), "--benchmark", "mt-bench", "--output", str(output)]
    result = CliRunner().invoke(data_app, [*arguments, "--data-dir", str(data_dir)])
    assert result.exit_code == 0, result.output
    assert "1 evaluation prompts are contaminated" in result.output
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert {(record["train_idx"], record["eval_idx"]) for record in records} == {(0, 3)}


def test_verify_command(data_dir: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(data_app, ["verify", "--data-dir", str(data_dir)])
    assert "65 files verified" in result.output
    result = CliRunner().invoke(data_app, ["verify", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "question.jsonl: missing" in result.output


def test_written_lists_keep_odd_characters(tmp_path: Path) -> None:
    matches = find_contamination(["naïve \ud800 \u2028 text"], ["naïve \ud800 \u2028 text"])
    write_matches(matches, tmp_path / "deep" / "list.jsonl")
    assert len((tmp_path / "deep" / "list.jsonl").read_bytes().split(b"\n")) == 2
