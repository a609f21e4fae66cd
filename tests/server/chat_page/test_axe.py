"""axe-core, the rules of WCAG that a machine can check, over the page in all its states."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.server.chat_page.conftest import ChatPage, Serve

# axe-core 4.14.1 from npm, MPL-2.0, byte for byte.
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
CHECKSUM = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
TEXT = "# Title\n\nSome `code`, $a^2$ and\n\n```python\nx = 1  # one\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"


def findings(page: ChatPage) -> list[str]:
    """What axe finds that is serious or critical."""
    # Its source is run by the driver, which the page's policy does not bind.
    page.script(AXE.read_text(encoding="utf-8") + "; window.axe = axe")
    found = page.module("return (await axe.run(document, {resultTypes: ['violations']})).violations")
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {[node['html'][:150] for node in each['nodes'][:4]]}" for each in serious]


@pytest.mark.parametrize(("width", "scheme"), [(1360, "light"), (1360, "dark"), (390, "light"), (390, "dark")])
def test_it_finds_nothing_serious(page: ChatPage, serve: Serve, width: int, scheme: str) -> None:
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == CHECKSUM
    page.look(width=width, scheme=scheme)
    page.open(serve())
    assert findings(page) == []
    for text in (TEXT, "short"):
        page.script("document.getElementById('prompt').value = arguments[0]", text)
        page.script("document.getElementById('composer').requestSubmit()")
        page.wait(lambda: page.all(".turn"), "the turn")
        page.ended()
    page.wait(lambda: page.all(".maths math") and page.all(".hljs-comment"), "formula and colours")
    page.one('[aria-label^="Ask the"]').click()
    page.wait(lambda: page.all(".turn.compared .vote button"), "the comparison")
    page.ended()
    assert findings(page) == []
    if width < 600:
        page.one("#show-controls").click()
    for summary in page.all(".controls summary"):
        page.script("arguments[0].parentNode.open = true", summary)
    assert findings(page) == []
