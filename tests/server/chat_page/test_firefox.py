"""The page in Firefox, driven over WebDriver BiDi, which it speaks itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

websocket = pytest.importorskip("websocket", reason="websocket-client comes with selenium")

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import Serve

PATIENCE = 60.0  # seconds; a time-out, not a measurement


class Firefox:
    """A window that shows one page."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("firefox") or shutil.which("firefox-esr")
        if program is None:
            pytest.skip("Firefox is not installed; on Debian: apt-get install firefox-esr")
        command = [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self._process.stderr is not None
        address = next(line.split()[-1] for line in self._process.stderr if "WebDriver BiDi listening on" in line)
        self._socket = websocket.create_connection(f"{address}/session", timeout=PATIENCE, suppress_origin=True)
        self._number = 0
        self.complaints: list[str] = []
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])
        self._window = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=60)

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.complaints.append(message["params"]["text"])
            if message.get("id") == self._number:
                assert message["type"] == "success", message
                return message["result"]

    def open(self, address: str) -> None:
        self.call("browsingContext.navigate", context=self._window, url=address, wait="complete")
        self.wait("document.getElementById('model-name').textContent")

    def script(self, expression: str) -> Any:
        """Return what an expression gives: a string, a number, or a truth."""
        found = self.call("script.evaluate", expression=expression, target={"context": self._window}, awaitPromise=True)
        assert found["type"] == "success", found
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            if value := self.script(expression):
                return value
            time.sleep(0.05)
        pytest.fail(f"waited for {expression}; the page shows {self.script('document.body.innerText')}")

    def press(self, text: str) -> None:
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.call(
            "input.performActions",
            context=self._window,
            actions=[{"type": "key", "id": "keyboard", "actions": actions}],
        )

    def ask(self, text: str) -> None:
        turns = self.script("document.querySelectorAll('.turn').length")
        self.script("document.getElementById('prompt').focus()")
        self.script(f"document.getElementById('prompt').value = {json.dumps(text)}")
        self.press("\ue007")  # Enter
        self.wait(f"document.querySelectorAll('.turn').length === {turns + 1}")
        self.wait("document.querySelector('.turn:last-child').dataset.state === 'done'")


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    browser = Firefox(tmp_path_factory.mktemp("firefox"))
    yield browser
    browser.close()


def test_the_page_works_there_too(firefox: Firefox, serve: Serve) -> None:
    firefox.open(serve(strong="echo-strong", weak="echo-weak"))
    firefox.ask("Let $x^2$ be\n\n```python\nx = 1  # one\n```")
    assert firefox.wait("document.querySelectorAll('.answer .maths math msup').length") == 1
    assert firefox.wait("document.querySelectorAll('.answer .hljs-comment').length") == 1
    assert firefox.script("document.querySelector('.note .badge').textContent") in ("strong", "weak")
    assert firefox.script("document.getElementById('saved-now').textContent").startswith("Saved $")
    firefox.script("document.querySelector('[aria-label^=\"Ask the\"]').click()")
    firefox.wait("document.querySelectorAll('.turn.compared .vote button').length === 3")
    firefox.wait("document.querySelector('.turn').dataset.state === 'done'")
    side = "[...document.querySelectorAll('.version')].map(e => e.getBoundingClientRect())"
    assert firefox.script(f"{side}[0].right <= {side}[1].left && {side}[0].top === {side}[1].top")
    firefox.script("document.querySelector('[data-vote=tie]').click()")
    firefox.wait("document.querySelectorAll('#chats .chat-link').length === 1")
    time.sleep(0.5)
    firefox.script("location.reload()")
    firefox.wait("document.querySelectorAll('.turn .version').length === 2")
    assert firefox.script("document.querySelector('[data-vote=tie]').ariaPressed") == "true"
    assert firefox.script("document.documentElement.scrollWidth <= innerWidth")
    assert firefox.complaints == []
