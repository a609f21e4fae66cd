from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


def test_the_package_leaves_it_out(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["routellm_core"]


@pytest.mark.parametrize("name", ["results_page", "shipped", "report", "gold"])
def test_commands_run_from_a_checkout(repository: Path, name: str) -> None:
    command = [sys.executable, "-m", f"research.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, check=False)
    assert done.returncode == 0, done.stderr
    assert f"research.{name}" in (repository / "research" / "README.md").read_text(encoding="utf-8")


def test_missing_benchmark_files_say_how_to_get_them(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "research.results_page", "--data-dir", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, check=False)
    assert done.returncode == 2
    assert "routellm data download" in done.stderr
