"""The Python blocks of the README and the docs run, page by page, against the local OpenAI-compatible process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from routellm_core.testing.local_models import LocalModelServer

REPOSITORY = Path(__file__).parents[1]
# docs/server.md needs a running server: tests/server/test_guide.py has one.
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> str:
    return "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))


@pytest.fixture
def hub_cache(shared: Path, tmp_path: Path) -> Path:
    """A Hugging Face cache that holds the golden checkpoint under the published one's name."""
    repository = tmp_path / "hub" / "models--routellm--mf_gpt4_augmented"
    revision = "0" * 40
    shutil.copytree(shared / "golden" / "mf_ckpt", repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and page.name != "server.md"], ids=lambda page: page.name
)
def test_the_page_s_python_runs(page: Path, local_models: LocalModelServer, hub_cache: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(hub_cache),
        "OPENAI_API_KEY": "local",
        "OPENAI_API_BASE": local_models.base_url,
        "ANYSCALE_API_KEY": "local",
        "ANYSCALE_API_BASE": local_models.base_url,
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocks(page)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
