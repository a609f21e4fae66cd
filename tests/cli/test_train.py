"""``routellm train`` as a user runs it."""

import json

import pytest


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    with file.open("w") as lines:
        for row in range(160):
            hard = row % 2 == 0
            prompt = f"Compute {row} * {row + 7}." if hard else f"Say hello to guest number {row}."
            lines.write(json.dumps({"prompt": prompt, "strong": 1, "weak": int(not hard or row % 6 == 0)}) + "\n")
    return file


def test_adapting_the_shipped_router(routellm, rows, tmp_path):
    done = routellm(
        *f"train mf --data {rows} --from default --output mine --strong-model acme/l --weak-model acme/s".split(),
        *["--licence", "CC-BY-4.0"],
    )
    assert done.returncode == 0, done.stderr
    assert "160 rows, 160 distinct prompts" in done.stdout
    assert "Better than the router 'shipped'" in done.stdout
    assert "160 rows are few" in done.stderr
    card = (tmp_path / "mine/README.md").read_text()
    assert "routellm train mf --data rows.jsonl --output mine" in card
    assert "--seed 0 --from default" in card
    assert "CC-BY-4.0" in card
    assert str(tmp_path) not in card
    (tmp_path / "config.yaml").write_text("router: mf\nrouters:\n  mf:\n    checkpoint_path: mine\n")
    routed = routellm("route", "--config", "config.yaml", "Compute 31 * 38.")
    assert routed.returncode == 0, routed.stderr


def test_an_index(routellm, rows, tmp_path):
    done = routellm(*f"train sw_ranking --data {rows} --output index --dtype int8".split())
    assert done.returncode == 0, done.stderr
    assert "prompt length" in done.stdout
    assert (tmp_path / "index/index.safetensors").is_file()


def test_nonsense_is_refused_with_its_line(routellm, tmp_path):
    (tmp_path / "bad.jsonl").write_text(
        '{"prompt": "a", "strong": 1, "weak": 0}\n{"prompt": "b", "strong": 1, "weak": "x"}\n'
    )
    done = routellm("train", "mf", "--data", "bad.jsonl", "--output", "mine")
    assert done.returncode == 2
    assert "line 2: weak must be a number" in done.stderr
    assert not (tmp_path / "mine").exists()
