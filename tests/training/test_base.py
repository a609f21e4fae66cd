"""The registry of trainers, and routers that are refused."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from typer.testing import CliRunner

from routellm_core.cli._app import app
from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import HeldOut
from routellm_core.training import base
from routellm_core.training.base import available_trainers, load_trainer, measured, recorded_facts, register_trainer
from routellm_core.training.checks import check_rows


def held_out(scores, gain):
    return HeldOut("h", {"trained": scores}, scores, gain, np.zeros(len(gain)), ("s", "w"))


def test_a_constant_router_is_refused():
    with pytest.raises(ConfigError, match="the same score"):
        measured(held_out(np.full(100, 0.4), np.tile([1.0, 0.0], 50)))


def test_a_reversed_router_is_refused():
    gain = np.repeat([1.0, 0.0], 100)
    with pytest.raises(ConfigError, match=r"worse than chance \(APGR 0\.25"):
        measured(held_out(1.0 - gain, gain))
    assert measured(held_out(1.0 - gain, gain), refuse=False)["apgr"]["trained"]["high"] < 0.5
    assert measured(held_out(gain, gain))["apgr"]["trained"]["value"] > 0.7


def test_the_shipped_trainers():
    assert available_trainers() == ["bert", "causal_llm", "mf", "sw_ranking"]
    with pytest.raises(ConfigError, match="no trainer for a router named 'mff'.*Did you mean 'mf'"):
        load_trainer("mff")
    with pytest.raises(ConfigError, match="exists already"):
        register_trainer("mf", "a:B")
    with pytest.raises(ConfigError, match="must be a class or a string"):
        register_trainer("new", "a.B")


@dataclass(frozen=True)
class WordsOptions:
    letter: str = field(default="z", metadata={"help": "The letter to count."})
    most: int = field(default=3, metadata={"names": ("--most-letters",), "min": 1})


class WordsTrainer:
    summary = "Count a letter."
    Options = WordsOptions

    def train(self, request, options, *, on_progress=None):
        scores = np.array([prompt.count(options.letter) / options.most for prompt in request.rows.prompts])
        found = HeldOut(
            "Nothing is fitted", {"trained": scores}, scores, request.rows.strong, request.rows.weak, ("s", "w")
        )
        facts = recorded_facts(request.rows, request.provenance, [], seed=request.seed) | {"held_out": measured(found)}
        request.output.mkdir()
        return base.TrainedRouter(request.output, check_rows(request.rows), facts, found)


def test_a_third_party_s_router_has_a_command(monkeypatch, tmp_path):
    monkeypatch.setattr(base, "_registered", {})
    register_trainer("words", WordsTrainer)
    runner = CliRunner(env={"COLUMNS": "200"})
    assert "Count a letter." in runner.invoke(app, ["train", "--help"]).output
    shown = runner.invoke(app, ["train", "words", "--help"]).output
    assert "The letter to count." in shown
    assert "--most-letters" in shown
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(
            f'{{"prompt": "{"y" * (row % 3)} {row}", "strong": 1, "weak": {int(row % 3 == 0)}}}\n' for row in range(60)
        )
    )
    words = ["train", "words", "--data", str(file), "--output", str(tmp_path / "out"), "--letter", "y"]
    done = runner.invoke(app, [*words, "--most-letters", "2"])
    assert done.exit_code == 0, done.output
    assert "60 rows" in done.output
    assert (tmp_path / "out").is_dir()
    assert runner.invoke(app, [*words, "--most-letters", "0"]).exit_code == 2
