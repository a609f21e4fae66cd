"""The real server in a thread, before local models; and headless Chromium that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from routellm_core import ModelPair, ModelSelector
from routellm_core.config import RouteLLMConfig, build_controller
from routellm_core.server.app import create_app
from routellm_core.testing.local_models import LocalModelServer

PRICES = {"strong": (10e-6, 30e-6), "weak": (1e-6, 2e-6)}
"""Dollars per token, in and out."""

Serve = Callable[..., str]
PATIENCE = 20.0  # seconds; a time-out, not a measurement
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def start_chromium(profile: Path) -> webdriver.Chrome:
    """Start a browser with a profile of its own, or skip the test with the reason why there is none."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "Chromium" if browser is None else "chromedriver"
        pytest.skip(f"{missing} is not installed; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in [*_FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    environment = {**os.environ, "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver, env=environment))


class ChatPage:
    """What a person does and sees."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def look(self, *, width: int = 1360, height: int = 900, scheme: str = "light", motion: str = "reduce") -> None:
        """Set the window's size and the system's preferences."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, address: str, *, ready: bool = True) -> None:
        """Load the page, also where only what follows the # is new, and wait until it has the server's settings."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # what earlier pages said is not this one's
        self.driver.get(address)
        if ready:
            self.wait(lambda: self.one("#model-name").text, "the settings")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Return the condition's value once it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(AssertionError, StaleElementReferenceException):  # not there yet, or just replaced
                if value := condition():
                    return value
            time.sleep(0.02)
        pytest.fail(f"waited {PATIENCE:g} s for {what}; the page shows: {self.one('body').text[-600:]}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """Return the last of the elements that a selector finds: of several turns, the newest."""
        found = self.all(selector)
        assert found, f"nothing on the page is {selector}"
        return found[-1]

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def module(self, code: str, *arguments: Any) -> Any:
        """Run code that may await, such as an import of one of the page's modules; ``args`` holds the arguments."""
        outcome = self.driver.execute_async_script(
            "const args = [...arguments], done = args.pop();"
            f"const run = async () => {{ {code} }};"
            "run().then((value) => done({value}), (error) => done({error: String(error)}));",
            *arguments,
        )
        assert "error" not in outcome, outcome["error"]
        return outcome.get("value")

    def press(self, *keys: str) -> None:
        """Type on whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def write(self, text: str) -> None:
        """Put a text into the message box; its line breaks do not send it."""
        lines = text.split("\n")
        chain = webdriver.ActionChains(self.driver).click(self.one("#prompt"))
        for number, line in enumerate(lines):
            if number:
                chain.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT)
            chain.send_keys(line)
        chain.perform()

    def paste(self, text: str) -> None:
        """Send a text at once, without typing it and without waiting."""
        turns = len(self.all(".turn"))
        self.script("document.getElementById('prompt').value = arguments[0]", text)
        self.one("#prompt").click()
        self.press(Keys.ENTER)
        self.wait(lambda: len(self.all(".turn")) == turns + 1, "the new turn")

    def send(self, text: str) -> None:
        """Send a message, and do not wait."""
        turns = len(self.all(".turn"))
        self.write(text)
        self.press(Keys.ENTER)
        self.wait(lambda: len(self.all(".turn")) == turns + 1, "the new turn")

    def ask(self, text: str) -> WebElement:
        """Send a message, wait for the end of its answer, and return the turn."""
        self.send(text)
        return self.ended()

    def ended(self) -> WebElement:
        """Wait for the end of the newest turn and return it."""
        self.wait(lambda: self.state not in ("waiting", "streaming"), "the end of the answer")
        return self.one(".turn")

    @property
    def state(self) -> str:
        return self.script("return document.querySelector('.turn:last-child').dataset.state")

    @property
    def answer(self) -> str:
        return self.one(".turn:last-child .markdown").text

    @property
    def note(self) -> str:
        return self.one(".turn:last-child .note").text

    @property
    def focused(self) -> str:
        """The id of what has the focus, else its text."""
        return self.script("return document.activeElement.id || document.activeElement.textContent")

    def choose(self, mode: str) -> None:
        self.one(f'input[name="mode"][value="{mode}"]').click()

    def complaints(self) -> list[str]:
        """What the browser's console complained of, refused requests to the API left out."""
        entries = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in entries if "/v1/chat/completions" not in message]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run an application on a free port; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def selector() -> ModelSelector:
    """The server's decisions, made without it."""
    return ModelSelector("mf", ModelPair("openai/echo-strong", "openai/echo-weak"), threshold=0.116)


@pytest.fixture
def prices() -> dict[str, tuple[float, float]]:
    return PRICES


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """The servers of this test; closing it stops them."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(local_models: LocalModelServer, running: ExitStack) -> Serve:
    """Serve a pair of local models by name: ``serve(strong="cut", server={"api_keys": ["k"]})`` gives the address."""

    def start(
        *,
        strong: str = "echo-strong",
        weak: str = "echo-weak",
        priced: bool = True,
        routers: list[str] | None = None,
        **config: Any,
    ) -> str:
        models = {"strong": strong, "weak": weak}
        settings = {
            tier: {"model": f"openai/{name}", "api_base": local_models.base_url, "api_key": "local"}
            | (
                dict(zip(("input_cost_per_token", "output_cost_per_token"), PRICES[tier], strict=True))
                if priced
                else {}
            )
            for tier, name in models.items()
        }
        config.setdefault("fallback", {"attempts": 1, "enabled": False})
        whole = RouteLLMConfig.model_validate({"models": settings, **config})
        return running.enter_context(serving(create_app(build_controller(whole, routers=routers), whole.server)))

    return start


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium: webdriver.Chrome, running: ExitStack) -> Iterator[ChatPage]:  # leaves before its server stops
    """The browser; each test's server has a port of its own, and so storage of its own."""
    page = ChatPage(chromium)
    page.look()
    yield page
    chromium.get("about:blank")


@pytest.fixture(scope="session")
def page_folder(repository: Path) -> Path:
    return repository / "routellm_core" / "server" / "page"
