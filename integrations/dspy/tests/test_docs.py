"""The README's Python runs, and so does the example. (``docs/dspy.md`` runs with the other pages of ``docs``.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from routellm_core.testing.local_models import LocalModelServer

REPOSITORY = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(local_models: LocalModelServer, folder: Path, *arguments: str) -> str:
    local = {
        "OPENAI_API_KEY": "local",
        "OPENAI_API_BASE": local_models.base_url,
        "DSPY_CACHEDIR": str(folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True, text=True, timeout=100, env={**os.environ, **local}, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_python_runs(local_models: LocalModelServer, tmp_path: Path) -> None:
    page = (REPOSITORY / "integrations" / "dspy" / "README.md").read_text(encoding="utf-8")
    printed = run(local_models, tmp_path, "-c", "\n".join(BLOCK.findall(page)))
    assert "answers: What is the capital of France?" in printed
    assert "{'openai/gpt-5.4-nano': 1}" in printed
    assert "1.0 0.0 1.0" in printed


def test_the_example_runs(local_models: LocalModelServer, tmp_path: Path) -> None:
    printed = run(local_models, tmp_path, "-m", "examples.dspy_program")
    assert "strong 100%, weak 67%, the better of both 100%" in printed
    assert "routed and optimised: 100% right" in printed
    assert "12 * 12 = 144" in printed
