"""Colours, narrow screens and the keyboard."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve

WIDE = "| " + " | ".join("column" for _ in range(12)) + " |\n" + "|---" * 12 + "|\n| " + "x | " * 12
LONG = "unbreakable" * 30
CODE = "```\n" + "x = 1; " * 60 + "\n```"
# (text, background): what is read on what.
PAIRS = [
    ("ink", "paper"), ("ink", "surface"), ("ink", "sunken"),
    ("muted", "paper"), ("muted", "surface"), ("muted", "sunken"),
    ("strong", "paper"), ("weak", "paper"), ("strong", "strong-soft"), ("weak", "weak-soft"), ("fault", "fault-soft"),
]  # fmt: skip


def background(page: ChatPage) -> str:
    return page.script("return getComputedStyle(document.body).backgroundColor")


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``rgb(…)``."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_colour_schemes(page: ChatPage, serve: Serve, scheme: str) -> None:
    page.look(scheme=scheme)
    page.open(serve())
    shown = (
        "const e = document.body.appendChild(document.createElement('i')); e.style.color = `var(--${arguments[0]})`;"
    )
    shown += "const c = getComputedStyle(e).color; e.remove(); return c"
    for text, ground in PAIRS:
        darker, lighter = sorted(luminance(page.script(shown, name)) for name in (text, ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def test_colours_follow_the_system_until_they_are_chosen(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    light = background(page)
    page.look(scheme="dark")
    dark = background(page)
    assert luminance(dark) < 0.05 < 0.8 < luminance(light)
    theme = page.one("#theme")
    theme.click()
    assert theme.accessible_name == "◐ Light colours"
    assert background(page) == light
    theme.click()
    page.look(scheme="light")
    assert (theme.accessible_name, background(page)) == ("◐ Dark colours", dark)
    page.driver.refresh()
    page.wait(lambda: page.one("#model-name").text, "the settings")
    assert background(page) == dark
    page.one("#theme").click()
    assert background(page) == light


@pytest.mark.parametrize("width", [320, 390, 700, 961, 1360, 2000])
def test_nothing_is_cut_off_at_any_width(page: ChatPage, serve: Serve, width: int) -> None:
    page.look(width=width, height=640)
    page.open(serve())
    for text in (f"{LONG}\n\n{WIDE}\n\n{CODE}", "short"):
        page.paste(text)
        page.ended()
    assert page.script("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
    scroller = page.script("const s = document.getElementById('scroller'); return [s.scrollWidth, s.clientWidth]")
    assert scroller[0] == scroller[1]
    if width <= 960:
        assert not page.one("#controls").is_displayed()
        page.one("#show-controls").click()
        assert page.one("#show-controls").get_attribute("aria-expanded") == "true"
        panel = page.script("const s = document.getElementById('controls'); return [s.scrollWidth, s.clientWidth]")
        assert panel[0] == panel[1]
        page.one("#presets button").click()
        page.press(Keys.ESCAPE)
    assert page.one("#model-name").is_displayed()
    assert page.one("#send").is_displayed()
    visible = page.script(
        "const b = document.getElementById('send').getBoundingClientRect(); return [b.right, b.bottom]"
    )
    assert visible[0] <= width
    assert visible[1] <= 640


def test_everything_can_be_done_by_keyboard(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    assert page.focused == "prompt"
    page.write("Line one\nline two")
    assert page.one("#prompt").get_attribute("value") == "Line one\nline two"
    page.press(Keys.ENTER)
    page.ended()
    assert page.one(".question p").text == "Line one\nline two"
    assert page.one("#prompt").get_attribute("value") == ""
    assert page.focused == "prompt"
    page.script("document.querySelector('.skip-link').focus()")
    seen = [page.focused]
    for _ in range(40):
        page.press(Keys.TAB)
        seen.append(page.focused)
        if seen[-1] == "send":
            break
    seen = [name for name, _ in itertools.groupby(seen)]
    assert seen[0] == "Skip to the message box"
    in_order = [
        "new-chat",
        "theme",
        "router",
        "threshold",
        "dial",
        "System prompt",
        "Copy",
        "Retry",
        "Edit",
        "prompt",
        "send",
    ]
    assert [name for name in seen if name in in_order] == in_order
    ringed = page.script(
        "return [...document.querySelectorAll('button, select, summary')]"
        ".filter(e => e.checkVisibility() && !e.disabled)"
        ".filter(e => { e.focus({focusVisible: true}); return getComputedStyle(e).outlineStyle === 'none' })"
        ".map(e => e.id || e.textContent)"
    )
    assert ringed == []


def test_every_control_has_a_name(page: ChatPage, serve: Serve) -> None:
    page.open(serve(server={"api_keys": ["k"]}))
    page.press(Keys.ESCAPE)
    page.one("#system-details summary").click()
    controls = [node for node in page.all("button, input, select, textarea, summary") if node.is_displayed()]
    assert len(controls) > 12
    assert [node.get_attribute("outerHTML") for node in controls if not node.accessible_name.strip()] == []


def test_what_happens_is_announced(page: ChatPage, serve: Serve) -> None:
    page.open(serve(strong="drip-0.1", weak="drip-0.1"))
    page.send("Say something in several words")
    page.wait(lambda: "drip-0.1 answers (weak)" in page.one("#status").text, "the announcement of the model")
    assert page.one(".turn .answer").get_attribute("aria-busy") == "true"
    page.ended()
    page.wait(lambda: page.one("#status").text == "The answer is complete", "the announcement of the end")
    assert page.one(".turn .answer").get_attribute("aria-busy") == "false"


def test_nothing_moves_for_those_who_want_it_so(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    page.ask("Hello")
    moving = "return getComputedStyle(document.querySelector('.turn .curve.into path.weak')).animationName"
    assert page.script(moving) == "none"
    page.look(motion="no-preference")
    assert page.script(moving) == "take-track"
