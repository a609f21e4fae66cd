"""Every command takes every kind of source and every shape of row, and finds the same in all of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core import cli
from routellm_core.rows.labelled import TrainingRows, pair_rows
from routellm_core.testing.local_models import LocalModelServer

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {
        "prompt": f'Compute {n} * {n + 7}, "exactly".\nThen check.' if n % 2 else f"Say hello to guest {n}.",
        "strong": 1,
        "weak": int(n % 3 != 1),
    }
    for n in range(60)
]
PAIR = ("--strong-model", "openai/big", "--weak-model", "openai/small")


def separated(rows: Rows, delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(rows: Rows) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def packed(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


def write_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow; install routellm-core[eval]")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(ROWS), path)


def write_hub(folder: Path) -> None:
    pytest.importorskip("datasets", reason="needs the extra [hub]")
    (folder / "me" / "rows").mkdir(parents=True)
    (folder / "me" / "rows" / "train.jsonl").write_text(lines(ROWS))
    (folder / "me" / "rows" / "test.jsonl").write_text(lines(ROWS[:1]))


def write_saved(folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra [hub]")
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")


def write_folder(folder: Path) -> None:
    (folder / "many").mkdir()
    (folder / "many" / "train-0.csv").write_text(separated(ROWS[:20], ","), newline="")
    (folder / "many" / "train-1.CSV.GZ").write_bytes(gzip.compress(separated(ROWS[20:], ",").encode()))
    (folder / "many" / "test.csv").write_text(separated(ROWS[:3], ","), newline="")


SOURCES: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": lambda folder: (folder / "rows.jsonl").write_text(lines(ROWS)),
    "ROWS.JSONL": lambda folder: (folder / "ROWS.JSONL").write_text(lines(ROWS)),
    "rows.ndjson": lambda folder: (folder / "rows.ndjson").write_text(lines(ROWS)),
    "rows.json": lambda folder: (folder / "rows.json").write_text(json.dumps(ROWS, indent=2)),
    "lines.json": lambda folder: (folder / "lines.json").write_text(lines(ROWS)),
    "rows.csv": lambda folder: (folder / "rows.csv").write_text("\ufeff" + separated(ROWS, ","), newline=""),
    "rows.TSV": lambda folder: (folder / "rows.TSV").write_text(separated(ROWS, "\t"), newline=""),
    "rows.parquet": lambda folder: write_parquet(folder / "rows.parquet"),
    "rows.npz": lambda folder: np.savez(
        folder / "rows.npz", **{name: np.array([row[name] for row in ROWS]) for name in ROWS[0]}
    ),
    "rows.jsonl.gz": lambda folder: packed(folder / "rows.jsonl.gz", lines(ROWS)),
    "rows.json.gz": lambda folder: packed(folder / "rows.json.gz", json.dumps(ROWS)),
    "rows.Csv.gz": lambda folder: packed(folder / "rows.Csv.gz", separated(ROWS, ",")),
    "nameless": lambda folder: (folder / "nameless").write_text(lines(ROWS)),
    "many": write_folder,
    "saved": write_saved,
    "hf:me/rows": write_hub,
}


def shaped(shape: Callable[[str, int, int], dict[str, Any]]) -> Rows:
    return [shape(row["prompt"], row["strong"], row["weak"]) for row in ROWS]


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def winner(strong: int, weak: int) -> str:
    return "model_a" if strong > weak else "tie"


SHAPES: dict[str, Rows] = {
    "text": shaped(lambda text, s, w: {"text": text, "strong": s, "weak": w}),
    "question": shaped(lambda text, s, w: {"question": text, "strong": bool(s), "weak": bool(w)}),
    "messages": shaped(lambda text, s, w: {"messages": turns(text), "strong": s, "weak": w}),
    "conversation": shaped(lambda text, s, w: {"conversation": turns(text), "strong": s, "weak": w}),
    "turns": shaped(lambda text, s, w: {"turns": ["Hi.", text], "strong": s, "weak": w}),
    "label's own": shaped(
        lambda text, s, w: {"id": text, "prompt": turns(text), "strong": s, "weak": w, "winner": "tie", "tokens": {}}
    ),
    "turns as JSON": shaped(lambda text, s, w: {"prompt": json.dumps(["Hi.", text]), "strong": s, "weak": w}),
    "quality names": shaped(lambda text, s, w: {"prompt": text, "strong_quality": s, "weak_quality": w}),
    "models' names": shaped(lambda text, s, w: {"prompt": text, "openai/big": s, "openai/small": w}),
    "preferences": shaped(
        lambda text, s, w: {
            "prompt": text,
            "model_a": "openai/big",
            "model_b": "openai/small",
            "winner": winner(s, w),
        }
    ),
    "arena": shaped(
        lambda text, s, w: {
            "prompt": json.dumps(["Hi.", text]),
            "model_a": "openai/big",
            "model_b": "openai/small",
            "winner_model_a": int(s > w),
            "winner_model_b": 0,
            "winner_tie": int(s <= w),
        }
    ),
    "quality rows": [
        {"prompt": row["prompt"], "model": model, "score": score}
        for row in ROWS
        for model, score in (("openai/big", row["strong"]), ("openai/small", row["weak"]), ("other", 1))
    ],
}


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run_here(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["routellm", *arguments])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as left:
            status = int(left.code or 0)
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run_here


def check_route(run: Any, location: str, rows: int, *options: str) -> None:
    done = run("route", "--file", location, "--json", *options)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["score"] for line in done.stdout.splitlines()]
    expected = scores()
    assert len(found) == rows
    np.testing.assert_allclose(found[:: rows // 60], expected, atol=1e-6)


def scores() -> list[float]:
    from routellm_core import load_router

    return [float(score) for score in load_router("mf").score([row["prompt"] for row in ROWS])]


def check_calibrate(run: Any, location: str, _rows: int, *options: str) -> None:
    calibrate = ("calibrate", "--routers", "mf", "--prompts", location, "--no-curve", "--no-cache", *PAIR, *options)
    done = run(*calibrate, "--strong-model-pct", "0.5")
    assert done.returncode == 0, done.stderr
    assert "(60 prompts" in done.stdout
    highest = sorted(scores(), reverse=True)
    threshold = float(re.findall(r"threshold = (\S+)", done.stdout)[0])
    assert highest[30] <= threshold + 1e-5
    assert threshold - 1e-5 <= highest[29]
    done = run(*calibrate, "--min-quality", "0.5")
    assert done.returncode == 0, done.stderr
    assert "For at least 50.0% of the strong model's quality for mf" in done.stdout


def check_evaluate(run: Any, location: str, _rows: int, *options: str) -> None:
    done = run("evaluate", "--routers", "random", "--data", location, "--no-plots", "--no-cache", *PAIR, *options)
    assert done.returncode == 0, done.stderr
    assert "60 prompts" in done.stdout
    assert "strong calls 60/60" in done.stdout


def check_train(
    run: Any, location: str, _rows: int, *options: str, seen: list[TrainingRows], prompts: bool = True
) -> None:
    run("train", "mf", "--data", location, "--output", "out", *PAIR, *options)
    pairs = pair_rows(seen.pop(), strong_model="openai/big", weak_model="openai/small")
    if prompts:
        assert pairs.prompts == tuple(row["prompt"] for row in ROWS)
    np.testing.assert_array_equal(pairs.wins, [row["strong"] > row["weak"] for row in ROWS])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[TrainingRows]:
    """The rows that training was given; it stops there."""
    from routellm_core.training import train_mf

    rows: list[TrainingRows] = []

    def stop(**given: Any) -> None:
        rows.append(given["rows"])
        raise SystemExit(0)

    monkeypatch.setattr(train_mf, "train_matrix_factorization", lambda rows, **rest: stop(rows=rows, **rest))
    return rows


def check_label(run: Any, location: str, _rows: int, *options: str, server: LocalModelServer) -> None:
    Path("config.yaml").write_text(
        f"models:\n  strong: {{model: openai/big, api_base: {server.base_url}, api_key: none}}\n"
        f"  weak: {{model: openai/small, api_base: {server.base_url}, api_key: none}}\n"
    )
    words = ["data", "label", "--config", "config.yaml", "--prompts", location, "--output", "labelled.jsonl", "--yes"]
    judge = ["--judge-model", "openai/judge", "--judge-api-base", server.base_url, "--judge-api-key", "none"]
    done = run(*words, *judge, "--limit", "2", "--attempts", "1", *options)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in Path("labelled.jsonl").read_text().splitlines()]
    asked = {row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"] for row in rows}
    assert asked == {row["prompt"] for row in ROWS[:2]}


@pytest.fixture
def check(seen: list[TrainingRows], local_models: LocalModelServer) -> Callable[..., None]:
    checks: dict[str, Callable[..., None]] = {
        "route": check_route,
        "calibrate": check_calibrate,
        "evaluate": check_evaluate,
        "train": lambda *given: check_train(*given, seen=seen),
        "label": lambda *given: check_label(*given, server=local_models),
    }
    return lambda command, *given: checks[command](*given)


COMMANDS = ["route", "calibrate", "evaluate", "train", "label"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("location", SOURCES)
def test_every_source(run: Any, check: Callable[..., None], tmp_path: Path, command: str, location: str) -> None:
    SOURCES[location](tmp_path)
    check(command, run, location, 60)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(run: Any, check: Callable[..., None], tmp_path: Path, command: str, shape: str) -> None:
    (tmp_path / "rows.jsonl").write_text(lines(SHAPES[shape]))
    check(command, run, "rows.jsonl", len(SHAPES[shape]))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_named_column(run: Any, check: Callable[..., None], tmp_path: Path, command: str) -> None:
    rows = [{"prompt": "not this", "ask": row["prompt"], "strong": row["strong"], "weak": row["weak"]} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    check(command, run, "rows.jsonl", 60, "--column", "ask")


BROKEN = {
    "line.jsonl": (b'{"prompt": "a", "strong": 1, "weak": 0}\n{broken\n', "line 2: not JSON"),
    "cut.json": (
        b'[{"prompt": "a", "strong": 1, "weak": 0},\n {"prompt": "b"',
        "cut.json: not JSON (Expecting ',' delimiter: line 2",
    ),
    "columns.json": (b'{"prompt": ["a", "b"], "strong": [1, 1], "weak": [0, 1]}', "holds one object of columns"),
    "fields.csv": (b'prompt,strong,weak\na,1,0\nb,1,0,"x"\n', "line 3: the number of fields differs"),
    "twice.csv": (b"prompt,prompt,strong,weak\na,b,1,0\n", "names 'prompt' twice"),
    "latin.txt": ("Müller\n".encode("latin-1"), "is not UTF-8"),
    "cut.jsonl.gz": (gzip.compress(lines(ROWS).encode())[:-20], "cannot be read"),
    "fake.csv.gz": (b"prompt\nx\n", "cannot be read"),
    "cut.parquet": (b"PAR1 no", "cannot be read"),
    "pickled.npz": (b"PK\x03\x04 no", "cannot be read"),
    "rows.xlsx": (b"PK\x03\x04", "is a .xlsx file; readable are .txt, .jsonl"),
    "deep.json": (b"[" * 200_000, "deep.json: not JSON (maximum recursion depth"),
    "none.jsonl": (b"", ""),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_has_one_text_and_one_exit_status(
    run: Any, tmp_path: Path, seen: list[TrainingRows], command: str, name: str
) -> None:
    content, said = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    words = {
        "route": ["route", "--file", name],
        "calibrate": ["calibrate", "--strong-model-pct", "0.5", "--prompts", name],
        "evaluate": ["evaluate", "--data", name],
        "train": ["train", "mf", "--output", "out", "--data", name],
        "label": ["data", "label", "--judge-model", "j", "--output", "out.jsonl", "--prompts", name, "--yes"],
    }[command]
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not seen


def test_an_array_of_300_rows_is_300_prompts(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps([{"prompt": f"question {n}"} for n in range(300)]))
    done = run("calibrate", "--strong-model-pct", "0.5", "--prompts", "m.json", "--save", "c.json")
    assert done.returncode == 0, done.stderr
    assert "on m.json (300 prompts, sha256" in done.stdout
    assert json.loads((tmp_path / "c.json").read_text())["sample_size"] == 300
