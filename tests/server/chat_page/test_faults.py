"""What the page says and offers when something goes wrong."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from routellm_core.testing.local_models import LocalModelServer

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve


def fault(page: ChatPage) -> str:
    return page.one(".turn:last-child .fault").text


def test_a_server_with_keys_is_given_one_and_the_page_forgets_it_with_the_tab(page: ChatPage, serve: Serve) -> None:
    page.open(serve(server={"api_keys": ["the-key"]}))
    page.wait(lambda: page.one("#key-dialog").is_displayed(), "the question for a key")
    assert page.focused == "key"
    page.press(Keys.ESCAPE)
    page.ask("Hello")
    assert "no API key" in fault(page)
    page.one(".turn .fault button").click()
    page.press("wrong", Keys.ENTER)
    page.wait(lambda: "incorrect API key" in fault(page), "the refusal")
    page.ended()
    page.one(".turn .fault button").click()
    assert "did not accept" in page.one("#key-reason").text
    page.press("the-key", Keys.ENTER)
    page.wait(lambda: page.state == "done", "the answer")
    assert page.answer == "Hello"
    assert len(page.all(".turn")) == 1
    assert page.script("return Object.values(sessionStorage)") == ["the-key"]
    assert page.script("return Object.values(localStorage)") == []
    assert page.script("return document.cookie") == ""
    page.driver.refresh()
    page.wait(lambda: page.one("#model-name").text, "the settings")
    assert not page.one("#key-dialog").is_displayed()  # the tab still has it


def test_a_limit_counts_down_to_the_next_try(page: ChatPage, serve: Serve) -> None:
    page.open(serve(server={"api_keys": [{"key": "k", "requests_per_minute": 1}]}))
    page.press("k", Keys.ENTER)
    page.ask("First")
    page.ask("Second")
    assert "1 requests a minute" in fault(page)
    timer = page.one(".countdown")
    assert timer.get_attribute("role") == "timer"
    first = int(timer.text.removeprefix("The server asks to wait ").split()[0])
    assert 1 <= first <= 60
    again = page.one(".turn:last-child .fault button")
    assert not again.is_enabled()
    page.wait(lambda: timer.text != f"The server asks to wait {first} seconds.", "the next second")
    # The rest of the minute passes at once.
    page.script("const now = performance.now.bind(performance); performance.now = () => now() + 60000;")
    page.wait(again.is_enabled, "the end of the wait")
    assert timer.text == "You can try again now."


def test_a_server_that_is_gone_is_named_and_tried_again(page: ChatPage, serve: Serve, running: ExitStack) -> None:
    page.open(serve())
    page.ask("First")
    running.close()
    page.ask("Second")
    assert "does not answer" in fault(page)
    assert "routellm serve" in fault(page)
    assert page.one(".turn:last-child .fault button").text == "Try again"
    assert page.one(".turn:last-child").get_attribute("data-tier") is None
    assert page.one("#total-answers").text == "1"


def test_a_page_without_its_server_offers_to_load_the_settings_again(
    page: ChatPage, serve: Serve, running: ExitStack
) -> None:
    page.open(serve())
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/chat/settings"]})
    try:
        page.driver.refresh()
        page.wait(lambda: page.one("#start-fault").is_displayed(), "the fault")
        assert "does not answer" in page.one("#start-fault").text
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.one("#start-fault button").click()
    page.wait(lambda: page.one("#model-name").text == "router-mf-0.116", "the settings")
    assert not page.one("#start-fault").is_displayed()


def test_a_stream_that_breaks_off_keeps_its_beginning(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="cut", weak="cut"))
    page.ask("Tell me a long story about a train.")
    assert page.state == "error"
    assert page.answer.startswith("cut")
    assert "train" not in page.answer
    assert page.one(".turn .fault").get_attribute("role") == "alert"
    assert fault(page)
    assert page.one(".badge").is_displayed()
    page.one(".turn .fault button").click()
    page.wait(lambda: page.one("#total-answers").text == "2", "the second try")
    page.ended()
    assert len(page.all(".turn")) == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [("fail-400", "fail-400"), ("fail-401", "fail-401"), ("fail-500", "fail-500"), ("garbage", ""), ("drop", "")],
)
def test_a_model_s_failure_is_told_in_its_words(page: ChatPage, serve: Serve, model: str, said: str) -> None:
    page.open(serve(strong=model, weak=model))
    page.ask("Hello")
    assert said in fault(page)
    assert len(fault(page)) > len("Try again")
    # A model's 401 is the server's own key: asking the reader for one would not help.
    assert page.one(".turn .fault button").text == "Try again"


def test_what_got_no_answer_is_not_sent_along(
    page: ChatPage, serve: Serve, local_models: LocalModelServer, running: ExitStack
) -> None:
    page.open(serve(strong="fail-400", weak="echo-weak"))
    page.choose("strong")
    page.ask("Refused")
    page.choose("weak")
    page.ask("Accepted")
    assert [message["content"] for message in local_models.requests[-1]["messages"]] == ["Accepted"]
    assert [turn.text for turn in page.all(".fault button")] == []  # only the last turn can be tried again


def test_an_answer_of_nothing_is_told_apart_from_a_failure(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    page.script(
        "const real = fetch; window.fetch = (path, options) => !path.endsWith('completions') ? real(path, options) :"
        ' Promise.resolve(new Response(\'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\\n\\n\'))'
    )
    page.ask("Hello")
    assert page.state == "done"
    assert page.one(".remark").text == "The model stopped at its token limit."
