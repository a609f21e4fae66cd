"""A conversation on the page, in headless Chromium, against the real server and local models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from routellm_core import ModelSelector
from routellm_core.calibration.ranking import share_at_threshold
from routellm_core.testing.local_models import LocalModelServer

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve

EASY = "What is the capital of France?"
HARD = "Prove that there are infinitely many primes."


def test_an_answer_comes_with_its_model_score_tokens_and_dollars(
    page: ChatPage, serve: Serve, selector: ModelSelector
) -> None:
    page.open(serve())
    assert page.one("#model-name").text == "router-mf-0.116"
    turn = page.ask(HARD)
    decision = selector.select(HARD)
    assert decision.tier == "strong"  # else the test would show nothing
    assert page.answer == HARD
    assert turn.get_attribute("data-tier") == "strong"
    assert page.one(".note .badge").text == "strong"
    assert page.one(".note .model-name").text == "openai/echo-strong"
    scale = page.one(".note .scale")
    assert scale.get_attribute("aria-label") == f"Score {decision.score:.3f} on a scale from 0 to 1, threshold 0.116"
    # The scale's axis is the square root of the score.
    assert float(scale.find_element(By.CSS_SELECTOR, ".dot").get_attribute("cx").rstrip("%")) == pytest.approx(
        100 * decision.score**0.5, abs=0.01
    )
    assert float(scale.find_element(By.CSS_SELECTOR, ".needle").get_attribute("x1").rstrip("%")) == pytest.approx(
        100 * 0.116**0.5
    )
    assert f"score {decision.score:.3f}, threshold 0.116" in page.note
    lower = 1 - share_at_threshold(selector.router.reference_quantiles, decision.score)
    assert f"above {100 * lower:.0f} % of ordinary traffic" in page.note
    # 44 characters are 11 tokens to the local model, and 3 more for the message; 14 × $10 + 11 × $30 per million.
    assert len(HARD) == 44
    figures = page.one(".note .figures").text.split("\n")
    assert figures == ["tokens", "14 in, 11 out", "cost", "$0.00047", "saved", "$0"]
    assert page.complaints() == []


def test_totals_add_up_over_the_chat_and_begin_anew_with_it(
    page: ChatPage, serve: Serve, selector: ModelSelector, prices: dict[str, tuple[float, float]]
) -> None:
    page.open(serve())
    assert page.one("#total-answers").text == "0"
    page.ask(EASY)
    assert selector.select(EASY).tier == "weak"
    assert page.one(".turn:last-child .badge").text == "weak"
    page.ask(HARD)  # in this order: a conversation stays on the strong model
    assert page.one(".turn:last-child .badge").text == "strong"
    (strong_in, strong_out), (weak_in, weak_out) = prices["strong"], prices["weak"]
    # The second call carries the first exchange: (7 + 3) + (7 + 3) + (11 + 3) tokens in, 11 out.
    assert len(EASY) == 30
    cost = 34 * strong_in + 11 * strong_out + 10 * weak_in + 7 * weak_out
    at_strong = 44 * strong_in + 18 * strong_out
    assert page.one("#total-answers").text == "2"
    assert page.one("#total-share").text == "50 %"
    assert page.one("#total-tokens").text == "44, 18"
    assert page.one("#total-cost").text == f"${cost:.2g}" == "$0.00069"
    assert page.one("#total-strong").text == f"${at_strong:.2g}" == "$0.00098"
    assert page.one("#total-saved").text == f"${at_strong - cost:.2g} ({100 * (1 - cost / at_strong):.0f} %)"
    assert page.one("#what-if").text == "At threshold 0.116, 1 of 2 messages so far would go to strong."
    page.one("#new-chat").click()
    assert page.all(".turn") == []
    assert page.one("#total-answers").text == "0"
    assert page.one("#empty").is_displayed()
    assert page.focused == "prompt"


def test_prices_that_are_not_known_are_not_made_up(page: ChatPage, serve: Serve) -> None:
    page.open(serve(priced=False))
    page.ask(HARD)
    assert page.one(".note .cost dd").text == "price not known"
    assert page.all(".note .saved") == []
    assert page.one("#total-cost").text == page.one("#total-saved").text == "–"


def test_the_answer_grows_and_stop_keeps_what_there_is(
    page: ChatPage, serve: Serve, local_models: LocalModelServer
) -> None:
    page.open(serve(strong="drip-0.05", weak="drip-0.05"))
    page.paste(" ".join(f"word{number}" for number in range(400)))
    page.wait(lambda: "word3" in page.answer, "the first words")
    assert page.state == "streaming"
    assert page.one("#stop").is_displayed()
    assert not page.one("#send").is_displayed()
    assert page.one(".turn .badge").is_displayed()  # the decision is there before the answer's end
    abandoned = local_models.abandoned
    page.press(Keys.ESCAPE)
    page.ended()
    assert page.state == "stopped"
    page.wait(lambda: local_models.abandoned == abandoned + 1, "the end of the model's own work")
    assert "word3 " in page.answer
    assert "word399" not in page.answer
    assert page.one(".remark").text == "You stopped this answer."
    assert "cut short" in page.one("#what-if").text
    assert page.one("#send").is_displayed()
    page.send("And now?")  # what was said so far belongs to the conversation
    page.wait(lambda: page.state == "streaming", "the next answer")
    roles = [message["role"] for message in local_models.requests[-1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    page.one("#stop").click()
    page.ended()


def test_a_chosen_tier_and_the_system_prompt_are_sent(
    page: ChatPage, serve: Serve, local_models: LocalModelServer
) -> None:
    page.open(serve())
    page.one("#system-details summary").click()
    page.one("#system").send_keys("Be brief.")
    for tier in ("strong", "weak"):
        page.choose(tier)
        assert page.one("#model-name").text == f"openai/echo-{tier}"
        page.ask(HARD)
        assert page.one(".turn:last-child .badge").text == tier
        assert page.all(".turn:last-child .scale") == []  # nothing was scored
        assert local_models.requests[-1]["model"] == f"echo-{tier}"
        assert local_models.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_retry_asks_again_with_the_choices_of_now(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    page.ask(HARD)
    page.choose("weak")
    page.one('.actions [aria-label="Retry, ask again"]').click()
    page.wait(lambda: page.one(".turn").get_attribute("data-tier") == "weak", "the other model's answer")
    page.ended()
    assert len(page.all(".turn")) == 1
    assert page.one("#total-answers").text == "2"  # both were paid for


def test_editing_replaces_the_last_message(page: ChatPage, serve: Serve, local_models: LocalModelServer) -> None:
    page.open(serve())
    page.ask("First")
    page.ask("Secnod")
    assert len(page.all('.actions [aria-label="Edit your message"]')) == 1  # the last one only
    page.one('.actions [aria-label="Edit your message"]').click()
    assert page.focused == "prompt"
    assert page.one("#prompt").get_attribute("value") == "Secnod"
    page.press(Keys.ESCAPE)
    assert not page.one("#editing").is_displayed()
    assert len(page.all(".turn")) == 2
    page.one('.actions [aria-label="Edit your message"]').click()
    page.press(*[Keys.BACKSPACE] * 6, "Second", Keys.ENTER)
    page.wait(lambda: page.one(".turn:last-child .question p").text == "Second", "the edited message")
    page.ended()
    assert len(page.all(".turn")) == 2
    assert [message["content"] for message in local_models.requests[-1]["messages"]] == ["First", "First", "Second"]


def test_a_fallback_is_explained(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="fail-500", fallback={"attempts": 1, "enabled": True}))
    page.ask(HARD)
    assert page.one(".badge").text == "weak"
    assert "fail-500" in page.one(".note-reason").text


def test_a_long_answer_is_drawn_block_by_block_and_followed_only_from_its_end(page: ChatPage, serve: Serve) -> None:
    page.look(height=500)
    page.open(serve(strong="drip-0.002", weak="drip-0.002"))
    paragraphs = [f"Paragraph {number} " + "goes on and on " * 8 for number in range(60)]
    page.paste("\n\n".join(paragraphs))
    page.wait(lambda: len(page.all(".markdown > p")) > 3, "some paragraphs")
    page.script("document.querySelector('.markdown > p').dataset.kept = 'yes'")
    bottom = "const s = document.getElementById('scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight"
    page.wait(lambda: page.script(bottom) < 2, "the end in view")
    page.script("document.getElementById('scroller').scrollTop = 0")
    page.wait(lambda: page.one("#to-latest").is_displayed(), "the way back")
    seen = len(page.all(".markdown > p"))
    page.wait(lambda: len(page.all(".markdown > p")) > seen + 5, "more paragraphs")
    assert page.script("return document.getElementById('scroller').scrollTop") == 0
    page.one("#to-latest").click()
    page.ended()
    assert page.script(bottom) < 2
    assert not page.one("#to-latest").is_displayed()
    assert page.one(".markdown > p[data-kept]").text == page.all(".markdown > p")[0].text
    assert len(page.all(".markdown > p")) == 60
    assert page.all(".markdown > p")[-1].text == paragraphs[-1].strip()


def test_typing_on_while_an_answer_comes_sends_nothing(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="drip-0.05", weak="drip-0.05"))
    page.send("one two three four five six seven eight")
    page.write("next")
    page.press(Keys.ENTER)
    assert len(page.all(".turn")) == 1
    assert page.one("#prompt").get_attribute("value") == "next"
    page.ended()
    page.press(Keys.ENTER)
    page.wait(lambda: len(page.all(".turn")) == 2, "the next message")
    page.ended()


def test_a_new_chat_drops_the_answer_that_is_under_way(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="drip-0.05", weak="drip-0.05"))
    page.paste("one two three four five six seven eight nine ten " * 20)
    page.wait(lambda: "three" in page.answer, "the first words")
    page.one("#new-chat").click()
    page.send("Again")
    page.ended()
    assert page.answer == "drip-0.05 answers: Again"
    assert len(page.all(".turn")) == 1
    assert page.one("#total-answers").text == "1"
