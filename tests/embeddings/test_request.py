"""What of a prompt is read, by hand."""

import time

import pytest

from routellm_core.embeddings._request import request_and_paste

PAGE = "The harbour was built in 1843 and rebuilt after the storm. " * 40


def request(text):
    return request_and_paste(text)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Prove\tit.\n\n", "prove it."),
        ("\n" * 50 + "Prove it." + " " * 500, "prove it."),
        ('"Prove it."', "prove it."),
        ("“Prove it.”", "prove it."),
        ("```\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ('```\n"Prove it."\n```', "prove it."),
        ("Could you please help me with this? Prove it. Thanks!", "prove it."),
        ("Hi, I hope you're doing well. I have a request.\n\nProve it.", "prove it."),
        ("Prove it\n\nThank you very much in advance, I really appreciate your help.", "prove it"),
        ("Guten Tag! Beweise es. Vielen Dank im Voraus.", "beweise es."),
        ("你好，请证明它。谢谢！", "请证明它。"),
        ("<system-reminder>\nDo what was asked.\n</system-reminder>\nProve it.", "prove it."),
        ("Prove it.\n<environment_details>\nFiles: a.py\n</environment_details>", "prove it."),
        ("ﬁnd x²", "find x2"),
    ],
)
def test_what_only_surrounds_a_request_is_not_read(text, expected):
    assert request(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thanks!", "thanks!"),
        ("Hello", "hello"),
        ("", ""),
        ('""', '""'),
        ("<system-reminder>x</system-reminder>", "<system-reminder>x</system-reminder>"),
        ("Help!", "help!"),
        ("How do you say thank you", "how do you say thank you"),
        ("Hello, what does the fox say?", "what does the fox say?"),
        ("Write a thank you note to my team.", "write a thank you note to my team."),
        ("<b>bold</b> or <i>italics</i>?", "<b>bold</b> or <i>italics</i>?"),
    ],
)
def test_a_text_that_is_the_request_stays(text, expected):
    assert request(text) == expected


def test_a_page_after_a_short_request_is_a_paste():
    asked, paste = request_and_paste(f"Summarise this.\n\n{PAGE}")
    assert asked == "summarise this."
    assert paste.startswith("the harbour")
    assert len(paste) <= 1000


def test_courtesy_before_a_page_is_not_taken_for_the_request():
    assert request_and_paste(f"Hi, could you help me please?\n\nSummarise this.\n\n{PAGE}")[0] == "summarise this."


def test_a_long_text_without_a_short_start_is_the_request_cut_in_the_middle():
    asked, paste = request_and_paste("word " * 5000)
    assert paste == ""
    assert 3900 < len(asked) <= 4001


def test_a_megabyte_costs_little_more_than_its_ends():
    for text in ("<env>" * 200_000, '"' * 1_000_000, "a </env> " * 110_000, "```\n" * 250_000, ". " * 500_000):
        started = time.process_time()
        request_and_paste(text)
        assert time.process_time() - started < 0.5
