"""The README's Python runs, and so does the example. (``docs/langchain.md`` runs with the other pages of ``docs``.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from routellm_core.testing.local_models import LocalModelServer

REPOSITORY = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(local_models: LocalModelServer, *arguments: str) -> str:
    local = {"OPENAI_API_KEY": "local", "OPENAI_API_BASE": local_models.base_url}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **local},
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_python_runs(local_models: LocalModelServer) -> None:
    page = (REPOSITORY / "integrations" / "langchain" / "README.md").read_text(encoding="utf-8")
    assert "answers: What is the capital of France?" in run(local_models, "-c", "\n".join(BLOCK.findall(page)))


def test_the_example_runs(local_models: LocalModelServer) -> None:
    printed = run(local_models, "-m", "examples.langchain_rag_and_agent")
    assert "routed on the question alone: weak" in printed
    assert "ai local-weak    ['get_weather']" in printed
    assert " local-strong answers: Prove that there are infinitely many primes" in printed
