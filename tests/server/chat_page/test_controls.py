"""The router, the threshold and the share of traffic: each way to choose them, and what is then sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from routellm_core import ModelSelector
from routellm_core.calibration.ranking import share_at_threshold, threshold_for_share
from routellm_core.routers.mf.router import MatrixFactorizationRouter

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve

EASY = "What is the capital of France?"
HARD = "Prove that there are infinitely many primes."


def test_the_dial_the_field_and_the_shares_all_set_the_threshold_that_is_sent(
    page: ChatPage, serve: Serve, selector: ModelSelector
) -> None:
    page.open(serve())
    score = selector.select(EASY).score
    assert score is not None
    page.script("document.getElementById('dial').focus()")
    before = page.one("#model-name").text
    page.press(Keys.ARROW_RIGHT)
    after = page.one("#model-name").text
    assert float(after.removeprefix("router-mf-")) > float(before.removeprefix("router-mf-")) == 0.116
    page.press(Keys.HOME)
    assert page.one("#model-name").text == "router-mf-0"
    assert page.one("#share").text == "About 100 % of ordinary traffic goes to strong."
    page.ask(EASY)
    assert page.one(".badge").text == "strong"
    page.one("#threshold").send_keys(Keys.CONTROL + "a", Keys.NULL, f"{score + 0.01:.4f}")
    page.ask(EASY)
    assert page.one(".turn:last-child .badge").text == "weak"
    assert f"threshold {score + 0.01:.3f}" in page.note
    page.one("#presets button:nth-child(2)").click()
    assert page.one("#share").text == "About 25 % of ordinary traffic goes to strong."
    threshold = float(page.one("#model-name").text.removeprefix("router-mf-"))
    assert threshold == pytest.approx(selector.router.reference_quantiles[750], abs=1e-3)
    assert page.one("#dial").get_attribute("aria-valuetext") == (
        f"{threshold:g}, about 25 % of ordinary traffic to strong"
    )


def test_a_threshold_that_is_none_is_marked_and_not_sent(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    field = page.one("#threshold")
    field.send_keys(Keys.CONTROL + "a", Keys.NULL, "2")
    assert field.get_attribute("aria-invalid") == "true"
    assert page.one("#model-name").text == "router-mf-0.116"
    page.one("#prompt").click()
    assert field.get_attribute("value") == "0.116"


def test_another_router_takes_the_share_of_traffic_over_and_auto_leaves_all_to_the_server(
    page: ChatPage, serve: Serve
) -> None:
    page.open(serve(routers=["mf", "random"]))
    router = page.one("#router")
    assert [option.text for option in router.find_elements(By.TAG_NAME, "option")] == [
        "mf",
        "random",
        "auto (the server’s choice)",
    ]
    Select(router).select_by_value("random")
    assert page.one("#model-name").text == "router-random-0.5"  # the share of traffic is kept, not the number
    Select(router).select_by_value("auto")
    assert page.one("#model-name").text == "auto"
    assert not page.one("#dial").is_displayed()
    page.ask(HARD)
    assert page.one(".badge").text == "strong"


@pytest.mark.parametrize(
    ("address", "model"),
    [
        ("#router=random&threshold=0.3", "router-random-0.3"),
        ("?router=mf&threshold=0.25", "router-mf-0.25"),
        ("#mode=weak", "openai/echo-weak"),
        ("#router=no-such-router&threshold=7", "router-mf-0.116"),
    ],
)
def test_the_address_chooses(page: ChatPage, serve: Serve, address: str, model: str) -> None:
    page.open(serve(routers=["mf", "random"]) + address)
    assert page.one("#model-name").text == model


def test_a_share_in_the_address_becomes_the_router_s_threshold(page: ChatPage, serve: Serve) -> None:
    page.open(serve() + "#threshold=25%25")
    assert page.one("#share").text == "About 25 % of ordinary traffic goes to strong."


def test_what_is_chosen_stands_in_the_address(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    page.one("#threshold").send_keys(Keys.CONTROL + "a", Keys.NULL, "0.2")
    assert page.driver.current_url.partition("#")[2] == "router=mf&threshold=0.2"
    page.driver.refresh()
    page.wait(lambda: page.one("#model-name").text == "router-mf-0.2", "the same choice")


def test_shares_on_the_page_are_those_of_the_library(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    quantiles = MatrixFactorizationRouter().reference_quantiles
    assert quantiles is not None
    found = page.module(
        "const {shareAtThreshold, thresholdForShare} = await import('/chat/distribution.js');"
        "const [quantiles, thresholds, shares] = args;"
        "return [thresholds.map((t) => shareAtThreshold(quantiles, t)),"
        " shares.map((s) => thresholdForShare(quantiles, s))];",
        [float(value) for value in quantiles],
        thresholds := [0.0, 0.01, 0.05, 0.116, 0.1234, 0.3, 0.689, 0.7, 1.0],
        shares := [0.0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0],
    )
    assert found[0] == pytest.approx([share_at_threshold(quantiles, threshold) for threshold in thresholds])
    assert found[1] == pytest.approx([threshold_for_share(quantiles, share) for share in shares], abs=1e-8)
