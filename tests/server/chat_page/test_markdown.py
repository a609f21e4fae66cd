"""What a model says reaches the page as Markdown, and nothing that it says runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.by import By

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve

ATTACKS = {
    "image": '<img src=x onerror="window.hacked=1">',
    "script": "<script>window.hacked=1</script>",
    "script in a paragraph": "Hello <script>window.hacked=1</script> there",
    "svg": '<svg onload="window.hacked=1"><script>window.hacked=1</script></svg>',
    "frame": '<iframe srcdoc="<script>parent.hacked=1</script>"></iframe>',
    "link": "[click](javascript:window.hacked=1)",
    "link in disguise": "[click](JaVa&#115;cript:window.hacked=1)",
    "link with a tab": "[click](<java\tscript:window.hacked=1>)",
    "data link": "[click](data:text/html;base64,PHNjcmlwdD53aW5kb3cuaGFja2VkPTE8L3NjcmlwdD4=)",
    "vbscript": "[click](vbscript:window.hacked=1)",
    "reference": "[click][r]\n\n[r]: javascript:window.hacked=1",
    "automatic link": "<javascript:window.hacked=1>",
    "html link": '<a href="javascript:window.hacked=1" onclick="window.hacked=1">click</a>',
    "image by Markdown": "![x](https://tracker.invalid/pixel.png?secret=1)",
    "image by script": "![x](javascript:window.hacked=1)",
    "title": '[click](https://example.org "x\\" onmouseover=\\"window.hacked=1")',
    "alternative text": '![x" onerror="window.hacked=1](https://example.org/i.png)',
    "language of code": '```"><img/src=x/onerror=window.hacked=1>\ncode\n```',
    "code": "`<img src=x onerror=window.hacked=1>`",
    "list": '- <img src=x onerror="window.hacked=1">\n- <details open ontoggle="window.hacked=1">',
    "table": '| a |\n|---|\n| <img src=x onerror="window.hacked=1"> |',
    "heading": '# <svg/onload="window.hacked=1">',
    "quotation": '> <video src=x onerror="window.hacked=1">',
    "style": "<style>body{display:none}</style>",
    "form": '<form action="https://example.org"><button autofocus onfocus="window.hacked=1">x</button></form>',
    "base": '<base href="https://example.org/">',
    "refresh": '<meta http-equiv="refresh" content="0;url=https://example.org">',
    "mutation": '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src onerror=hacked=1&gt;">',
    "name": '<a id="prompt" name="settings"></a><form id="composer"></form>',
    "maths": r"\[ <img src=x onerror=window.hacked=1> \] and $<img src=x onerror=window.hacked=1>$",
}

MATHML = "http://www.w3.org/1998/Math/MathML"
FORBIDDEN = (
    "img, svg, script, iframe, style, form, base, meta, video, object, embed, input, details, math, [id], [name]"
)


def test_nothing_that_a_model_says_runs(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    for name, attack in ATTACKS.items():
        page.paste(attack)
        page.ended()
        for link in page.all(".turn:last-child .markdown a"):
            assert link.get_attribute("href").startswith(("https://", "mailto:")), name
            assert link.get_attribute("target") == "_blank", name
    assert len(page.all(".turn")) == len(ATTACKS)
    drawn = "[...document.querySelectorAll('.maths *')]"
    foreign = f"return {drawn}.filter(e => e.namespaceURI !== '{MATHML}' && !e.matches('span')).length"
    assert page.script(foreign) == 0
    handlers = f"return {drawn}.flatMap(e => e.getAttributeNames()).filter(n => /^on|href|src|style/.test(n))"
    assert page.script(handlers) == []
    within = "[...document.querySelectorAll('.markdown *')].filter(e => !e.matches('.maths *'))"
    assert page.script(f"return {within}.filter(e => e.matches(arguments[0])).map(e => e.outerHTML)", FORBIDDEN) == []
    names = set(page.script(f"return {within}.flatMap(e => e.getAttributeNames())"))
    assert names <= {"class", "href", "rel", "target", "title", "type", "aria-label", "tabindex"}
    assert page.script("return window.hacked") is None
    origins = page.script(
        "return [...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).origin))]"
    )
    assert origins == [page.script("return location.origin")]
    assert page.complaints() == []  # not even tried: the policy had nothing to refuse
    assert page.one("body").is_displayed()
    # The text is not lost: what was not understood as Markdown stands there as it was written.
    assert page.all(".turn .markdown")[0].text == ATTACKS["image"]
    assert page.all(".turn .markdown")[2].text == ATTACKS["script in a paragraph"]


def test_the_policy_is_a_wall_of_its_own(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.script("document.querySelector('.empty p').innerHTML = '<img src=x onerror=\"window.hacked=1\">'")
    with pytest.raises(JavascriptException, match="Trusted"):
        page.script("const s = document.createElement('script'); s.text = 'window.hacked=1'; document.body.append(s)")
    blocked = page.module(
        "try { await fetch('https://example.org/'); return 'sent' } catch (error) { return error.name }"
    )
    assert blocked == "TypeError"
    assert page.script("return window.hacked") is None
    assert any("Content Security Policy" in message for message in page.complaints())


def test_the_sanitiser_is_a_wall_of_its_own(page: ChatPage, serve: Serve) -> None:
    # Tokens that no Markdown gives: markup that got past the first wall.
    page.open(serve())
    left = page.module(
        "const {render} = await import('/chat/markdown.js');"
        "const box = document.createElement('div');"
        "const text = (text) => ({type: 'text', raw: text, text, escaped: true});"
        "const token = text(args[0]);"
        "box.append(render(Object.assign([{type: 'paragraph', raw: '', text: '', tokens: [token]}], {links: {}})));"
        "document.body.append(box);"
        "return box.outerHTML;",
        '<img src=x onerror="window.hacked=1"><b onclick="window.hacked=1">bold</b><a href="javascript:1">x</a>'
        '<script>window.hacked=1</script>',
    )  # fmt: skip
    assert left.replace("\n", "") == "<div><p>boldx</p></div>"
    assert page.script("return window.hacked") is None


def test_markdown_becomes_a_document(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    text = "\n".join(
        [
            "# Title", "", "Some **bold**, *italic*, ~~gone~~ and `code`.", "",
            "3. three", "4. four", "   - inner", "", "- [x] done", "- [ ] open", "",
            "| left | right |", "|---|--:|", "| a | 1 |", "",
            "> quoted", "", "```python", "print('<b>')", "```", "",
            "[site](https://example.org/a?b=1&c=2) <mailto:me@example.org> ![chart](https://example.org/c.png)",
            "[ftp](ftp://example.org/) and https://example.net/x.",
        ]
    )  # fmt: skip
    page.paste(text)
    turn = page.ended()

    def texts(selector: str) -> list[str]:
        return [node.text for node in turn.find_elements(By.CSS_SELECTOR, f".markdown {selector}")]

    assert texts("h1") == ["Title"]
    assert (texts("strong"), texts("em"), texts("del"), texts("p code")) == (["bold"], ["italic"], ["gone"], ["code"])
    assert texts("ol > li > ul > li") == ["inner"]
    assert turn.find_element(By.CSS_SELECTOR, ".markdown ol").get_attribute("start") == "3"
    assert [item.strip() for item in texts("> ul > li")] == ["☑ done", "☐ open"]
    assert texts("th") == ["left", "right"]
    assert turn.find_element(By.CSS_SELECTOR, ".markdown td:last-child").value_of_css_property("text-align") == "right"
    assert texts("blockquote") == ["quoted"]
    assert texts("pre") == ["print('<b>')"]
    assert texts(".code-head span") == ["python"]
    links = turn.find_elements(By.CSS_SELECTOR, ".markdown a[href]")
    assert [link.get_attribute("href") for link in links] == [
        "https://example.org/a?b=1&c=2",
        "mailto:me@example.org",
        "https://example.org/c.png",
        "https://example.net/x",
    ]
    assert {link.get_attribute("rel") for link in links} == {"noopener noreferrer nofollow"}


@pytest.mark.parametrize(
    "maths",
    [
        r"$a_1 * b * c_2$",
        r"$$\sum_{i=1}^n i_*$$",
        r"\(x_1 < y_1 \\ *z*\)",
        r"\[ a_{1} \cdot *b* \]",
        "\\[\na\n- b\n= c\n\\]",
        "$$\n# no heading _x_\n$$",
    ],
)
def test_mathematics_stays_as_it_was_written(page: ChatPage, serve: Serve, maths: str) -> None:
    page.open(serve())
    rendered = page.module(
        "const {lex, render} = await import('/chat/markdown.js');"
        "const box = document.createElement('div'); box.append(render(lex(args[0])));"
        "return [box.textContent, box.querySelectorAll('em, ul, h1, h2, br').length];",
        f"Before {maths} after *all*." if "\n" not in maths else f"Before\n\n{maths}\n\nafter *all*.",
    )
    assert maths in rendered[0]
    assert rendered[1] == 1  # the emphasis after it, and nothing within


def test_dollars_are_not_mathematics(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    rendered = page.module(
        "const {lex, render} = await import('/chat/markdown.js');"
        "const box = document.createElement('div'); box.append(render(lex('From $5 to *about* $10, or $ 3.')));"
        "return [box.querySelectorAll('em').length, box.querySelectorAll('.maths').length];"
    )
    assert rendered == [1, 0]


def test_code_is_copied_as_it_is(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    origin = page.script("return location.origin")
    for name in ("clipboard-read", "clipboard-write"):
        page.driver.execute_cdp_cmd(
            "Browser.setPermission", {"permission": {"name": name}, "setting": "granted", "origin": origin}
        )
    page.paste('```sh\nls -l | wc\n\necho "<ok>"\n```')
    page.ended()
    copy = page.one(".code-head button")
    assert copy.accessible_name == "Copy the code"
    copy.click()
    page.wait(lambda: copy.text == "Copied", "the confirmation")
    assert page.module("return navigator.clipboard.readText()") == 'ls -l | wc\n\necho "<ok>"\n'


def test_a_stream_cut_anywhere_draws_what_the_whole_would(page: ChatPage, serve: Serve) -> None:
    page.open(serve())
    text = (
        "# A\n\nSee [the docs][d] and **b\nold** text.\n\n- one\n\n- two\n  - three\n\n```py\nx = 1\n\ny = 2\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\ngoes on\n\nSetext\n===\n\n\\[\nm\n\\]\n\n[d]: https://example.org/\n"
    )
    same = page.module(
        "const {StreamingMarkdown} = await import('/chat/streaming_markdown.js');"
        "const {lex, render} = await import('/chat/markdown.js');"
        "const whole = document.createElement('div'); whole.append(render(lex(args[0])));"
        "const frame = () => new Promise(requestAnimationFrame), different = [];"
        "for (const step of [1, 7, 1000]) {"
        "  const root = document.createElement('div'), stream = new StreamingMarkdown(root);"
        "  for (let at = 0; at < args[0].length; at += step) {"
        "    stream.append(args[0].slice(at, at + step)); await frame();"
        "  }"
        "  stream.finish();"
        "  const plain = (node) => node.innerHTML.replace(/\\n/g, '');"
        "  if (plain(root) !== plain(whole)) different.push(step, plain(root));"
        "}"
        "return [different, whole.querySelectorAll('a').length];",
        text,
    )
    assert same == [[], 1]
