from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core import calibrate_threshold, cli, load_router
from routellm_core.calibration import Calibration, threshold_for_share

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PRICES = ("--strong-price", "10,30", "--weak-price", "0.6,0.6")


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command's main in this process, which saves the time of starting one for each case."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(main: Callable[[], None], *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["routellm", *arguments])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


@pytest.fixture
def here(in_process: Run) -> Run:
    return partial(in_process, cli.main)


@pytest.fixture
def hub(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder that the ``datasets`` library takes for the data set of that id."""
    pytest.importorskip("datasets", reason="needs the extra [hub]")

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir(parents=True)
        return tmp_path / name

    return folder


def rows(count: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [
        {
            "prompt": " ".join(generator.choice(["prove", "sum", "hello", "why", "code", "integral"], 8))
            + f" {number}",
            "strong": int(generator.random() < 0.9),
            "weak": int(generator.random() < 0.8),
        }
        for number in range(count)
    ]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows(3000)))
    return path


def test_the_line_is_routellms(routellm: Run) -> None:
    done = routellm("calibrate", "--routers", "mf", "random", "--strong-model-pct", "0.5")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"For 50\.0% strong model calls for mf, threshold = 0\.\d{5}", first)
    assert second == "For 50.0% strong model calls for random, threshold = 0.50000"
    assert "reference traffic" in done.stderr


def test_the_module_has_routellms_flags(in_process: Run, tmp_path: Path) -> None:
    run = partial(in_process, calibrate_threshold.main)
    config = tmp_path / "config.yaml"
    config.write_text("random:\n  seed: 3\n")
    done = run("--routers", "mf", "random", "--strong-model-pct", "0.07", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "For 7.0% strong model calls for random, threshold = 0.93000"
    missing = run("--routers", "mf")
    assert missing.returncode == 2
    assert "--strong-model-pct is missing" in missing.stderr
    done = subprocess.run(
        [sys.executable, "-m", "routellm_core.calibrate_threshold", "--strong-model-pct", "0.5"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "For 50.0% strong model calls for random, threshold = 0.50000\n"


def test_generate_writes_what_calibrate_reads(in_process: Run, tmp_path: Path) -> None:
    run = partial(in_process, calibrate_threshold.main)
    battles = tmp_path / "battles.jsonl"
    turns = [json.dumps([f"question {number}", "and then?"]) for number in range(101)]
    battles.write_text("\n".join(json.dumps({"prompt": text, "winner": "model_a"}) for text in turns))
    scores = tmp_path / "scores.jsonl"
    generate = ["--task", "generate", "--battles_dataset", str(battles), "--output", str(scores)]
    assert run(*generate, "--routers", "mf", "random").returncode == 0
    table = [json.loads(line) for line in scores.read_text().splitlines()]
    assert [set(row) for row in table] == [{"mf", "random"}] * 101
    first = load_router("mf").score([f"question {number}" for number in range(101)])
    np.testing.assert_allclose([row["mf"] for row in table], first)  # RouteLLM scores the first turn
    calibrate = ["--strong-model-pct", "0.3", "--thresholds", str(scores)]
    expected = np.quantile([row["mf"] for row in table], 0.7)
    done = run(*calibrate, "--routers", "mf")
    assert done.stdout == f"For 30.0% strong model calls for mf, threshold = {expected:.5f}\n"
    done = run(*calibrate, "--routers", "bert")
    assert done.returncode == 2
    assert "no column 'bert'" in done.stderr


def test_own_prompts_give_intervals_and_a_curve_and_resume(routellm: Run, labelled: Path) -> None:
    calibrate = ("calibrate", "--routers", "mf", "--prompts", labelled.name, "--cache", "scores.sqlite3", *PRICES)
    done = routellm(*calibrate, "--strong-model-pct", "0.3", "--save", "c.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"For 30\.0% strong model calls for mf, threshold = 0\.\d{5}", lines[0])
    assert re.match(r"on mine.jsonl \(3,000 prompts, sha256 [0-9a-f]{16}\)", lines[1])
    shown = done.stdout
    for part in ("99% interval", "strong calls", "the next 3,000", "$ per 1,000 requests", "Share curve", "quality of"):
        assert part in shown
    saved = Calibration.load(labelled.parent / "c.json")
    assert (saved.router, saved.sample_size) == ("mf", 3000)
    assert saved.result is not None
    assert saved.result.target.value == 0.3
    assert saved.result.cost is not None
    again = routellm(*calibrate, "--strong-model-pct", "0.3", "--no-curve")
    assert again.stdout.splitlines()[:2] == lines[:2]
    assert "Share curve" not in again.stdout
    routed = routellm(
        "route", "prove it", "--threshold", "30%", "--json", environment={"ROUTELLM_CALIBRATION": "c.json"}
    )
    assert json.loads(routed.stdout)["threshold"] == pytest.approx(threshold_for_share(saved.quantiles, 0.3))


def test_a_budget_and_a_quality(here: Run, labelled: Path) -> None:
    calibrate = ("calibrate", "--routers", "mf", "--prompts", labelled.name, "--no-curve", *PRICES)
    done = here(*calibrate, "--max-cost", "3.50")
    assert done.returncode == 0, done.stderr
    assert re.match(r"For at most \$3\.50 per 1,000 requests for mf, threshold = 0\.\d{5}\n", done.stdout)
    done = here(*calibrate, "--min-quality", "0.95")
    assert done.returncode == 0, done.stderr
    assert re.match(r"For at least 95\.0% of the strong model's quality for mf, threshold = 0\.\d{5}\n", done.stdout)
    assert "$ per 1,000 requests" in done.stdout


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".txt"])
def test_every_kind_of_file_gives_the_same(here: Run, labelled: Path, suffix: str) -> None:
    table = [json.loads(line) for line in labelled.read_text().splitlines()][:400]
    labelled.write_text("\n".join(json.dumps(row) for row in table))
    other = labelled.with_suffix(suffix)
    if suffix == ".csv":
        other.write_text("prompt\n" + "\n".join(f'"{row["prompt"]}"' for row in table))
    elif suffix == ".txt":
        other.write_text("\n".join(row["prompt"] for row in table))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow; install routellm-core[eval]")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(table), other)
    heads = {
        here(
            "calibrate", "--routers", "mf", "--strong-model-pct", "0.5", "--prompts", name.name, "--no-cache"
        ).stdout.splitlines()[0]
        for name in (labelled, other)
    }
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one target"),
        (["--strong-model-pct", "0.5", "--max-cost", "3"], "give one target"),
        (["--max-cost", "3"], "--max-cost needs --prompts"),
        (["--min-quality", "0.9"], "--min-quality needs --prompts"),
        (["--strong-model-pct", "50"], "share of strong calls 50"),
        (["--strong-model-pct", "0.5", "--save", "c.json"], "--save keeps the calibration"),
        (["--strong-model-pct", "0.5", "--prompts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--strong-model-pct", "0.5", "--prompts", "p.txt", "--save", "p.txt/c.json"], "can be written"),
        (
            ["--strong-model-pct", "0.5", "--prompts", "p.txt", "--strong-price", "1,2", "--weak-model", "y"],
            "'y'; give",
        ),
        (["--strong-model-pct", "0.5", "--prompts", "empty.txt"], "holds no prompt"),
        (["--min-quality", "0.9", "--prompts", "p.txt"], "columns 'strong' and 'weak'"),
        (["--min-quality", "0.9", "--prompts", "partly.jsonl"], "1 of 2 rows have no quality"),
        (["--min-quality", "0.9", "--prompts", "words.jsonl"], "line 1: strong must be a number"),
        (["--min-quality", "0.9", "--prompts", "few.jsonl"], "would take about"),
        (["--max-cost", "3", "--prompts", "p.txt", "--strong-model", "my-own"], "a budget needs prices"),
        (["--max-cost", "0.001", "--prompts", "p.txt", *PRICES], "weak model already costs"),
        (["--strong-model-pct", "0.5", "--routers", "mff"], "Did you mean 'mf'"),
    ],
)
def test_what_cannot_be_done_is_said(here: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    (tmp_path / "partly.jsonl").write_text('{"prompt": "a", "strong": 1, "weak": 0}\n{"prompt": "b"}')
    (tmp_path / "words.jsonl").write_text('{"prompt": "a", "strong": "good", "weak": "bad"}')
    (tmp_path / "few.jsonl").write_text("\n".join(json.dumps(row) for row in rows(40)))
    done = here("calibrate", *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_rows_without_text_are_left_out_and_said(here: Run, tmp_path: Path) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
    lines = [{"messages": image}, *({"messages": [{"role": "user", "content": f"say {n}"}]} for n in range(20))]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = here("calibrate", "--routers", "mf", "--strong-model-pct", "0.5", "--prompts", "m.jsonl")
    assert done.returncode == 0, done.stderr
    assert "(20 prompts" in done.stdout
    assert "1 rows without text" in done.stderr


def test_a_data_set_on_the_hub_is_read(here: Run, hub: Callable[[str], Path]) -> None:
    (hub("me/mine") / "train.json").write_text(json.dumps(rows(50)))
    done = here("calibrate", "--routers", "mf", "--strong-model-pct", "0.5", "--prompts", "hf:me/mine")
    assert done.returncode == 0, done.stderr
    assert "on hf:me/mine (50 prompts, fingerprint " in done.stdout


def test_published_checkpoints_take_published_scores_without_loading(
    here: Run, hub: Callable[[str], Path], tmp_path: Path
) -> None:
    scores = [{"mf": number / 100, "sw_ranking": number / 200} for number in range(101)]
    (hub("routellm/lmsys-arena-human-preference-55k-thresholds") / "train.jsonl").write_text(
        "\n".join(map(json.dumps, scores))
    )
    (tmp_path / "config.yaml").write_text(
        "mf:\n  checkpoint_path: routellm/mf_gpt4_augmented\n"
        "sw_ranking:\n  arena_battle_datasets: [lmsys/lmsys-arena-human-preference-55k, routellm/gpt4_judge_battles]\n"
    )
    done = here("calibrate", "--routers", "mf", "sw_ranking", "--strong-model-pct", "0.2", "--config", "config.yaml")
    assert done.stdout.splitlines() == [
        "For 20.0% strong model calls for mf, threshold = 0.80000",
        "For 20.0% strong model calls for sw_ranking, threshold = 0.40000",
    ]
    assert "on the scores in routellm/lmsys-arena-human-preference-55k-thresholds" in done.stderr


def test_the_published_routers_are_published_by_default(here: Run, hub: Callable[[str], Path]) -> None:
    pytest.importorskip("transformers", reason="needs transformers; install routellm-core[torch]")
    (hub("routellm/lmsys-arena-human-preference-55k-thresholds") / "train.jsonl").write_text(
        "\n".join(json.dumps({"causal_llm": number / 100}) for number in range(101))
    )
    done = here("calibrate", "--routers", "causal_llm", "--strong-model-pct", "0.2")
    assert done.stdout == "For 20.0% strong model calls for causal_llm, threshold = 0.80000\n"


def test_a_saved_calibration_answers_for_its_checkpoint_alone(here: Run, labelled: Path, tmp_path: Path) -> None:
    calibrate = ("calibrate", "--routers", "random", "--strong-model-pct", "0.5")
    assert here(*calibrate, "--prompts", labelled.name, "--save", "c.json").returncode == 0
    (tmp_path / "config.yaml").write_text("calibration: c.json\nrandom:\n  by: prompt\n")
    done = here(*calibrate, "--config", "config.yaml")
    assert done.returncode == 2
    assert "another checkpoint" in done.stderr
    (tmp_path / "config.yaml").write_text("calibration: c.json\n")
    done = here(*calibrate, "--config", "config.yaml")
    assert "mine.jsonl (3,000 prompts" in done.stderr


def test_a_stopped_run_goes_on(here: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from routellm_core.routers.mf.router import MatrixFactorizationRouter as Mf

    score, scored = Mf.score, []

    def counted(self: Mf, prompts: list[str]) -> Any:
        scored.append(len(prompts))
        if sum(scored) > 2000:
            raise KeyboardInterrupt
        return score(self, prompts)

    monkeypatch.setattr(Mf, "score", counted)
    calibrate = ("calibrate", "--routers", "mf", "--strong-model-pct", "0.5", "--prompts", labelled.name)
    assert here(*calibrate).returncode == 130
    done_before = sum(scored[:-1])
    scored.clear()
    scored.append(-10_000)
    assert here(*calibrate).returncode == 0
    assert sum(scored[1:]) == 3000 - done_before
