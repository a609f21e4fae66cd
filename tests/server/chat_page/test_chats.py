"""Two answers side by side, chats that outlive a reload, what is kept of a retry, files, parameters, phones."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from routellm_core.testing.local_models import LocalModelServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.chat_page.conftest import ChatPage, Serve

HARD = "Prove that there are infinitely many primes."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PASTED = "Why does this fail?\n\n```python\n" + "\n".join(f"value_{n} = {n}  # a line" for n in range(60)) + "\n```"


def reload(page: ChatPage) -> None:
    page.driver.refresh()
    page.wait(lambda: page.one("#model-name").text, "the settings")


class TestTheOtherModel:
    def test_it_answers_beside_the_first_and_both_are_counted(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve(strong="big", weak="small"))
        page.ask(HARD)
        page.one('[aria-label="Ask the weak model as well"]').click()
        page.wait(lambda: len(page.all(".turn .version")) == 2, "the second answer")
        page.ended()
        assert [node.text for node in page.all(".turn .markdown")] == [f"big answers: {HARD}", f"small answers: {HARD}"]
        assert [node.text for node in page.all(".turn .badge")] == ["strong", "weak"]
        left, right = page.all(".turn .version")
        assert left.rect["y"] == right.rect["y"]
        assert left.rect["x"] + left.rect["width"] <= right.rect["x"]
        assert page.one("#total-answers").text == "2"

    def test_a_vote_is_kept_exported_and_decides_how_the_chat_goes_on(
        self, page: ChatPage, serve: Serve, local_models: LocalModelServer
    ) -> None:
        page.open(serve(strong="big", weak="small"))
        page.ask(HARD)
        page.one('[aria-label="Ask the weak model as well"]').click()
        page.wait(lambda: page.all(".vote button"), "the question")
        page.wait(lambda: page.one(".vote").is_displayed(), "the question")
        page.one('[data-vote="weak"]').click()
        assert page.one('[data-vote="weak"]').get_attribute("aria-pressed") == "true"
        page.ask("And now?")
        assert [m["content"] for m in local_models.requests[-1]["messages"]][1] == f"small answers: {HARD}"
        labels = page.module(
            "const {labelsOf} = await import('/chat/conversation.js'), {allChats} = await import('/chat/store.js');"
            "return labelsOf(await allChats())"
        )
        (label,) = labels
        told = {
            "prompt": HARD,
            "preferred": "weak",
            "strong_model": "openai/big",
            "weak_model": "openai/small",
            "strong_answer": f"big answers: {HARD}",
            "weak_answer": f"small answers: {HARD}",
            "router": "mf",
        }
        assert told.items() <= label.items()
        assert 0 <= label["score"] <= 1
        reload(page)
        page.wait(lambda: len(page.all(".turn")) == 2, "the chat")
        assert page.one('[data-vote="weak"]').get_attribute("aria-pressed") == "true"

    def test_it_can_be_put_away(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.ask(HARD)
        page.one('[aria-label="Ask the weak model as well"]').click()
        page.wait(lambda: page.all('[aria-label="Put away the other answer"]'), "both answers")
        page.one('[aria-label="Put away the other answer"]').click()
        assert len(page.all(".turn .version")) == 1
        assert not page.one(".vote").is_displayed()


def test_a_retry_keeps_the_answer_before(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="big", weak="small"))
    page.ask(HARD)
    page.choose("weak")
    page.one('.actions [aria-label="Retry, ask again"]').click()
    page.wait(lambda: page.answer.startswith("small"), "the new answer")
    page.ended()
    assert page.one(".pager-count").text == "2 of 2"
    page.one('[aria-label="The answer before"]').click()
    assert page.answer == f"big answers: {HARD}"
    assert page.one(".turn").get_attribute("data-tier") == "strong"
    assert not page.one('[aria-label="The answer before"]').is_enabled()
    page.one('[aria-label="The next answer"]').click()
    assert page.answer == f"small answers: {HARD}"


class TestChats:
    def test_one_survives_a_reload_with_all_that_is_known_of_it(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.ask(HARD)
        page.ask("What is the capital of France?")
        shown = [page.note, page.one("#total-saved").text, page.one("#saved-now").text]
        page.wait(lambda: len(page.all("#chats .chat-link")) == 1, "the chat to be kept")
        reload(page)
        page.wait(lambda: len(page.all(".turn")) == 2, "the chat")
        assert page.all(".turn .markdown")[0].text == HARD
        assert [page.note, page.one("#total-saved").text, page.one("#saved-now").text] == shown
        page.ask("And a third")
        assert len(page.all(".turn")) == 3
        assert page.complaints() == []

    def test_a_new_tab_begins_a_new_one_and_old_ones_are_found_opened_and_forgotten(
        self, page: ChatPage, serve: Serve
    ) -> None:
        address = serve()
        page.open(address)
        page.ask("Tell me about quokkas")
        page.one("#new-chat").click()
        page.ask("Something else")
        page.wait(lambda: len(page.all("#chats .chat-link")) == 2, "both chats")
        page.open(address)
        assert page.all(".turn") == []
        page.one("#chats-details summary").click()
        page.one("#search").send_keys("QUOKKAS tell")
        page.wait(lambda: len(page.all("#chats .chat-link")) == 1, "what was searched for")
        page.one("#chats .chat-link").click()
        page.wait(lambda: page.all(".turn"), "the chat")
        assert page.answer == "Tell me about quokkas"
        page.one('[aria-label="Forget “Tell me about quokkas”"]').click()
        page.wait(lambda: page.all("#chats .chat-link") == [], "the end of it")
        assert page.all(".turn") == []
        page.one("#search").clear()
        page.one("#search").send_keys(Keys.SPACE)
        page.wait(lambda: len(page.all("#chats .chat-link")) == 1, "the other chat")

    def test_they_are_exported(self, page: ChatPage, serve: Serve, tmp_path: Path) -> None:
        page.open(serve())
        page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        page.ask(HARD)
        page.wait(lambda: page.all("#chats .chat-link"), "the chat to be kept")
        page.one("#chats-details summary").click()
        assert not page.one("#export-labels").is_enabled()
        page.one("#export").click()
        file = tmp_path / "routellm-chats.json"
        page.wait(file.is_file, "the file")
        (chat,) = page.wait(lambda: json.loads(file.read_text() or "null"), "its content")
        assert chat["turns"][0]["answers"][0]["text"] == HARD


class TestQuestions:
    def test_a_pasted_one_is_text_and_code_and_clamped(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.paste(PASTED)
        page.ended()
        text = page.one(".question .asked > p")
        assert text.text == "Why does this fail?"
        assert text.value_of_css_property("font-weight") == "400"
        assert "```" not in page.one(".question").text
        assert page.one(".question .code-head span").text == "python"
        asked = page.one(".question .asked")
        page.wait(lambda: page.one(".question [aria-expanded]").is_displayed(), "the way to all of it")
        assert asked.rect["height"] <= 260
        page.one(".question [aria-expanded]").click()
        assert asked.rect["height"] > 1000
        page.one(".question [aria-expanded]").click()
        assert asked.rect["height"] <= 260

    def test_a_short_one_is_a_headline(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.ask("Hello")
        assert int(page.one(".question p").value_of_css_property("font-weight")) > 500


class TestDrawing:
    def test_formulas_are_mathml_and_code_is_coloured(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.paste("Let $x^2$ and\n\n$$\\frac{a}{b}$$\n\n```js\nconst a = 1; // one\n```\n\nand $\\nonsense{$.")
        page.ended()
        page.wait(lambda: len(page.all(".answer .maths math")) == 2, "the formulas")
        assert page.all(".answer .maths math msup")
        assert page.all(".answer p.maths mfrac")
        page.wait(lambda: page.all(".answer .hljs-keyword"), "the colours")
        assert "\\nonsense{" in page.answer  # what it cannot read stays
        assert page.complaints() == []

    def test_they_are_fetched_only_when_they_are_needed(self, page: ChatPage, serve: Serve) -> None:
        page.open(serve())
        page.ask("Hello")
        loaded = (
            "return performance.getEntriesByType('resource').map(e => e.name).filter(n => /katex|highlight/.test(n))"
        )
        assert page.script(loaded) == []


class TestFiles:
    def choose(self, page: ChatPage, file: Path) -> None:
        before = len(page.all("#attached li"))
        page.one("#files").send_keys(str(file))
        page.wait(lambda: len(page.all("#attached li")) == before + 1, "the file")

    def test_an_image_and_a_text_are_sent(
        self, page: ChatPage, serve: Serve, local_models: LocalModelServer, tmp_path: Path
    ) -> None:
        (tmp_path / "dot.png").write_bytes(base64.b64decode(PIXEL))
        (tmp_path / "notes.md").write_text("a note")
        page.open(serve())
        self.choose(page, tmp_path / "dot.png")
        self.choose(page, tmp_path / "notes.md")
        page.ask("What is this?")
        assert page.all("#attached li") == []
        sent = local_models.requests[-1]["messages"][0]["content"]
        assert sent == [
            {"type": "text", "text": "What is this?\n\nnotes.md:\n```\na note\n```"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        assert page.one(".question .attached img").get_attribute("alt") == "dot.png"
        page.wait(lambda: page.all("#chats .chat-link"), "the chat to be kept")
        reload(page)
        page.wait(lambda: page.all(".question .attached img"), "the image, kept")
        assert page.complaints() == []

    def test_what_cannot_be_sent_is_told_of(self, page: ChatPage, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "program.bin").write_bytes(b"\x00\x01")
        page.open(serve())
        page.one("#files").send_keys(str(tmp_path / "program.bin"))
        page.wait(lambda: "program.bin is no image, text or PDF" in page.one("#status").text, "the refusal")
        assert page.all("#attached li") == []


def test_parameters_are_sent_where_they_are_given(page: ChatPage, serve: Serve, local_models: LocalModelServer) -> None:
    page.open(serve())
    page.ask("Hello")
    assert not {"temperature", "top_p", "max_tokens", "reasoning_effort"} & local_models.requests[-1].keys()
    page.one("#parameter-details summary").click()
    for name, value in {"temperature": "0.2", "top_p": "7", "max_tokens": "50"}.items():
        page.one(f"#{name}").send_keys(value)
    Select(page.one("#reasoning_effort")).select_by_visible_text("low")
    page.ask("Hello")
    sent = local_models.requests[-1]
    assert (sent["temperature"], sent["max_tokens"], sent["reasoning_effort"]) == (0.2, 50, "low")
    assert "top_p" not in sent
    assert page.one("#top_p").get_attribute("aria-invalid") == "true"


def test_reasoning_is_there_folded(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    chunks: list[dict[str, Any]] = [
        {"delta": {"reasoning_content": "First "}},
        {"delta": {"reasoning_content": "this."}},
    ]
    chunks += [{"delta": {"content": "That."}, "finish_reason": "stop"}]
    stream = "".join(f"data: {json.dumps({'choices': [chunk]})}\n\n" for chunk in chunks)
    page.script(
        "const real = fetch; window.fetch = (path, options) => !path.endsWith('completions') ? real(path, options) :"
        " Promise.resolve(new Response(arguments[0]));".replace("arguments[0]", json.dumps(stream))
    )
    page.ask("Hello")
    assert page.answer == "That."
    thoughts = page.one(".thoughts")
    assert thoughts.get_attribute("open") is None
    assert not thoughts.find_element(By.TAG_NAME, "pre").is_displayed()
    thoughts.find_element(By.TAG_NAME, "summary").click()
    assert thoughts.find_element(By.TAG_NAME, "pre").text == "First this."


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (320, 640)])
def test_what_was_saved_is_in_sight(page: ChatPage, serve: Serve, width: int, height: int) -> None:
    page.look(width=width, height=height)
    page.open(serve())
    assert page.one("#saved-now").text == ""
    page.script("document.getElementById('prompt').value = 'What is the capital of France?'")
    page.script("document.getElementById('composer').requestSubmit()")
    page.wait(lambda: page.one("#saved-now").text.startswith("Saved $0.000"), "what was saved")
    box = page.one("#saved-now").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] + box["height"] < 80


def test_enter_on_a_phone_makes_a_line(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.one("#prompt").click()
        page.press("one", Keys.ENTER, "two")
        assert page.one("#prompt").get_attribute("value") == "one\ntwo"
        assert page.all(".turn") == []
        page.one("#send").click()
        page.ended()
        assert page.one(".question p").text == "one\ntwo"
    finally:
        page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
