"""``python -m examples.router_chat`` against a running server, and without one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve


def run_example(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.router_chat", "--no-browser", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=repository)


def test_the_address_opens_the_page_with_these_choices(page: ChatPage, serve: Serve, repository: Path) -> None:
    server = serve(routers=["mf", "random"])
    done = run_example(repository, "--router", "random", "--threshold", "0.4", "--server", server)
    assert done.stdout.strip() == f"{server}#router=random&threshold=0.4"
    page.open(done.stdout.strip())
    assert page.one("#model-name").text == "router-random-0.4"
    share = run_example(repository, "--router", "mf", "--threshold", "25%", "--server", server).stdout.strip()
    page.open(share)
    assert page.one("#share").text == "About 25 % of ordinary traffic goes to strong."
    default = run_example(repository, "--server", server).stdout.strip()
    page.open(default)
    assert page.one("#model-name").text == "router-mf-0.116"


def test_a_router_that_the_server_has_not_is_refused_with_those_it_has(serve: Serve, repository: Path) -> None:
    done = run_example(repository, "--router", "bert", "--server", serve())
    assert done.returncode == 1
    assert "has no router 'bert'; it has mf, and 'auto'" in done.stderr


def test_without_a_server_it_says_how_to_start_one(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run_example(repository, "--router", "mf", "--server", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"No server answers at http://127.0.0.1:{port}" in done.stderr
    assert "routellm serve --strong-model" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_server_and_a_wrong_threshold_are_told_apart(local_models: object, repository: Path) -> None:
    done = run_example(repository, "--server", local_models.base_url)  # type: ignore[attr-defined]
    assert "has no chat page (404)" in done.stderr
    wrong = run_example(repository, "--threshold", "7")
    assert wrong.returncode == 2
    assert "threshold" in wrong.stderr
