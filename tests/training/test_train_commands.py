"""``routellm train bert`` and ``causal_llm`` as a user runs them, on real rows, through to routed prompts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from research.pool import licence_allows
from routellm_core.cli._app import app
from routellm_core.errors import ConfigError
from routellm_core.routers.base import checked_scores
from routellm_core.routers.registry import load_router

pytestmark = pytest.mark.usefixtures("one_thread")
TRANSFORMERS = ["bert", "causal_llm"]


@pytest.fixture(scope="module")
def real_rows(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 questions, by GPT-4o and Mixtral, whose licence allows training."""
    pandas = pytest.importorskip("pandas", reason="needs the extra [train]")
    folder = shared / "data" / "pool_train"
    prompts = pandas.read_parquet(folder / "prompts.parquet")
    prompts = prompts[prompts["data_licence"].map(licence_allows)]
    pairs = pandas.read_parquet(folder / "pairs.parquet")
    pairs = pairs[pairs["strong"].str.startswith("gpt-4o") & pairs["weak"].str.startswith("Mixtral-8x7B")]
    rows = pairs.merge(prompts[["prompt_id", "prompt", "data_licence"]], on="prompt_id").head(160)
    file = tmp_path_factory.mktemp("rows") / "labelled.jsonl"
    with file.open("w") as lines:
        for row in rows.itertuples():
            labels = {"strong": row.strong_score, "weak": row.weak_score, "licence": row.data_licence}
            lines.write(json.dumps({"prompt": row.prompt, **labels}) + "\n")
    return file


@pytest.fixture
def options(encoder: Path, language_model: Path, messages: Path) -> dict[str, list[str]]:
    common = ["--epochs", "2", "--learning-rate", "1e-3", "--token-budget", "1000", "--device", "cpu"]
    return {
        "bert": ["--base", str(encoder), "--from-scratch", *common],
        "causal_llm": ["--base", str(language_model), "--messages", str(messages), *common],
    }


def run(*arguments: str):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


@pytest.mark.parametrize("router", TRANSFORMERS)
def test_from_real_rows_to_routed_prompts(router, real_rows, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("train", router, "--data", str(real_rows), "--output", "mine", *options[router])
    assert done.exit_code == 0, done.output
    assert "160 rows, 160 distinct prompts" in done.stdout
    assert "A tenth of the prompts, not trained on, 16 rows" in done.stdout
    assert "epoch 2: held-out loss" in done.stderr
    card = (tmp_path / "mine" / "README.md").read_text()
    assert f"routellm train {router} --data labelled.jsonl --output mine --seed 0" in card
    assert "--learning-rate 0.001" in card
    assert "Licences of the rows: MIT" in card
    everything = "".join(file.read_text() for file in (tmp_path / "mine").glob("*.json"))
    assert str(real_rows.parent) not in card + everything
    assert "/tmp" not in card  # no folder of this machine
    assert not (tmp_path / "mine" / "training_state").exists()

    prompts = [json.loads(line)["prompt"] for line in real_rows.read_text().splitlines()]
    loaded = load_router(router, {"checkpoint_path": str(tmp_path / "mine"), "device": "cpu"})
    scores = checked_scores(loaded, prompts)
    assert np.std(scores) > 0

    (tmp_path / "c.yaml").write_text(
        json.dumps({"router": router, "threshold": "50%", "routers": {router: {"checkpoint_path": "mine"}}})
    )
    routed = run("route", "--config", "c.yaml", "--file", str(real_rows), "--json")
    assert routed.exit_code == 0, routed.output
    decisions = [json.loads(line) for line in routed.stdout.splitlines()]
    np.testing.assert_allclose([decision["score"] for decision in decisions], scores, atol=1e-5)
    assert 0.2 < np.mean([decision["tier"] == "strong" for decision in decisions]) < 0.8
    calibrated = run("calibrate", "--routers", router, "--strong-model-pct", "0.5", "--config", "c.yaml")
    assert calibrated.exit_code == 0, calibrated.output
    assert "reference traffic" in calibrated.stderr


@pytest.mark.parametrize("router", TRANSFORMERS)
def test_a_bad_row_is_named_before_anything_is_loaded(router, options, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a", "strong": 1, "weak": 0}\n{"prompt": "b", "strong": 1, "weak": "x"}\n')
    done = run("train", router, "--data", str(file), "--output", str(tmp_path / "mine"), *options[router])
    assert isinstance(done.exception, ConfigError)
    assert "bad.jsonl, line 2: weak must be a number, true or false, got 'x'" in str(done.exception)
    assert not (tmp_path / "mine").exists()


def test_causal_llm_has_no_base_to_guess(real_rows, tmp_path):
    done = run("train", "causal_llm", "--data", str(real_rows), "--output", str(tmp_path / "mine"))
    assert done.exit_code == 2
    assert "--base" in done.stderr


@pytest.mark.parametrize("router", TRANSFORMERS)
def test_a_killed_process_s_training_goes_on(router, real_rows, options, tmp_path):
    arguments = ["train", router, "--data", str(real_rows), *options[router]]
    arguments += ["--epochs", "4", "--patience", "4", "--save-steps", "1"]
    assert run(*arguments, "--output", str(tmp_path / "whole")).exit_code == 0
    state = tmp_path / "killed" / "training_state" / "state.json"
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("routellm")), *arguments, "--output", str(tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 100
        while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert state.is_file(), "the process ended before it was killed"
    resumed = run(*arguments, "--output", str(tmp_path / "killed"))
    assert resumed.exit_code == 0, resumed.output
    assert "going on with the interrupted training after step" in resumed.stderr
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert first == second


def test_every_training_shares_the_options_of_rows():
    for router in ("mf", "sw_ranking", *TRANSFORMERS):
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", router, "--help"]).output
        for option in (
            "--data",
            "--output",
            "--strong-model",
            "--weak-model",
            "--test",
            "--column",
            "--licence",
            "--seed",
        ):
            assert option in shown, (router, option)
        assert ("--restart" in shown) == (router in TRANSFORMERS)
