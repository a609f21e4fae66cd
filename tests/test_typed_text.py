"""What a person typed, out of what agents and front ends really send."""

from __future__ import annotations

import time
from typing import Any

import pytest

from routellm_core.prompts import last_turn, routing_prompt
from routellm_core.typed_text import WRAPPERS, is_confirmation, tag_name, typed_text

ASKED = "Fix the deadlock in the queue"
REMINDER = "<system-reminder>\nAs you answer, prove all invariants.\n# claudeMd\nUse <b>tabs</b>.\n</system-reminder>"
ENVIRONMENT = (
    "<environment_details>\n# VSCode Visible Files\nsrc/main.rs\n```\ncode\n```\n"
    "# Current Time\n9 PM\n</environment_details>"
)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def texts(*parts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": part} for part in parts]


SENT: dict[str, Any] = {
    "Claude Code, before": f"{REMINDER}\n{ASKED}",
    "Claude Code, after": f"{ASKED}\n\n{REMINDER}",
    "Claude Code, parts": texts(REMINDER, ASKED, REMINDER),
    "Claude Code, no line break": f"{REMINDER}{ASKED}",
    "Claude Code, an opened file": texts("<ide_opened_file>The user opened a.py in the IDE.</ide_opened_file>", ASKED),
    "Claude Code, a command": (
        "<command-name>/review</command-name>\n<command-message>review is running…</command-message>\n"
        f"<command-args>{ASKED}</command-args>"
    ),
    "Claude Code, interrupted": f"[Request interrupted by user for tool use]\n{ASKED}",
    "Cline, a task": f"<task>\n{ASKED}\n</task>\n\n{ENVIRONMENT}",
    "Cline, a task with a file": (
        f'<task>\n{ASKED}\n</task>\n\n<file_content path="a.py">\nimport queue\n</file_content>\n\n{ENVIRONMENT}'
    ),
    "Cline, feedback on a result": texts(
        f"[attempt_completion] Result:\n\n<feedback>\n{ASKED}\n</feedback>", ENVIRONMENT
    ),
    "Cline, feedback in the next part": texts(
        "[attempt_completion] Result:",
        f"The user has provided feedback:\n<feedback>\n{ASKED}\n</feedback>",
        ENVIRONMENT,
    ),
    "Cline, a refusal": (
        f"[execute_command for 'rm -r build'] Result:\nThe user denied it.\n<feedback>\n{ASKED}\n</feedback>"
    ),
    "Roo, a message": f"<user_message>\n{ASKED}\n</user_message>\n\n{ENVIRONMENT}",
    "Cursor": (
        "<additional_data>\n<current_file>\na.py\n</current_file>\n</additional_data>\n\n"
        f"<user_query>\n{ASKED}\n</user_query>"
    ),
    "Cursor, attached": f'<attached_files>\n<code path="a.py">\nx\n</code>\n</attached_files>\n{ASKED}',
    "Copilot": (
        "<attachments>\n<attachment id='a.py'>x</attachment>\n</attachments>\n<context>\nIt is today.\n</context>\n"
        f"<reminderInstructions>\nBe brief.\n</reminderInstructions>\n<userRequest>\n{ASKED}\n</userRequest>"
    ),
    "Continue": f'<context name="a.py">\nimport queue\n</context>\n\n{ASKED}',
    "Codex in the editor": (
        f"# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\n{ASKED}\n"
    ),
    "Codex, the environment": texts("<environment_context>\n  <cwd>/src</cwd>\n</environment_context>", ASKED),
    "Codex, instructions": f"# AGENTS.md instructions for /src\n\n<INSTRUCTIONS>\nTest.\n</INSTRUCTIONS>\n\n{ASKED}",
    "LibreChat": f"<files>\n<file>\n<filename>a.txt</filename>\n</file>\n</files>\n{ASKED}",
    "Open WebUI": (
        "### Task:\nRespond to the user query using the provided context, incorporating inline citations.\n\n"
        f'### Guidelines:\n- Be brief.\n\n<context>\n<source id="1">text</source>\n</context>\n\n{ASKED}'
    ),
    "Open WebUI, older": (
        "### Task:\nRespond to the user query using the provided context.\n\n<context>\ntext\n</context>\n\n"
        f"<user_query>\n{ASKED}\n</user_query>\n"
    ),
    "a time before": f"[2026-11-25 21:03:12] {ASKED}",
    "a time on a line": f"Current date and time: Wednesday, November 25, 2026, 9:00 PM\n{ASKED}",
    "white space": f"\n\n   {ASKED}\t\n",
    "a result beside words": [{"type": "tool_result", "tool_use_id": "t", "content": "a.py"}, *texts(ASKED)],
}


@pytest.mark.parametrize("content", SENT.values(), ids=SENT.keys())
def test_what_the_person_typed_is_routed_on(content: Any) -> None:
    assert routing_prompt([user(content)]) == ASKED
    assert routing_prompt([user("Hello"), {"role": "assistant", "content": "Hi"}, user(content)]) == ASKED


PASSED_OVER: dict[str, Any] = {
    "a reminder": REMINDER,
    "several": texts(REMINDER, REMINDER),
    "the environment": ENVIRONMENT,
    "a result of Anthropic's": [{"type": "tool_result", "tool_use_id": "t", "content": "a.py"}],
    "with a reminder": [{"type": "tool_result", "tool_use_id": "t", "content": "a.py"}, *texts(REMINDER)],
    "a result of Cline's": f"[read_file for 'a.py'] Result:\nimport queue  # a lock-free queue\n\n{ENVIRONMENT}",
    "the same in parts": texts("[read_file for 'a.py'] Result:", "import queue  # a lock-free queue", ENVIRONMENT),
    "a result in brackets": "[tool result] Traceback (most recent call last): deadlock",
    "a result in a tag": "<tool_response>\n{'files': ['a.py']}\n</tool_response>",
    "Cline's complaint": f"[ERROR] You did not use a tool in your previous response! Please retry.\n{ENVIRONMENT}",
    "a command's output": "<local-command-stdout>Set model to opus</local-command-stdout>",
    "interrupted": "[Request interrupted by user]",
    "Codex's environment": "<environment_context>\n  <cwd>/src</cwd>\n</environment_context>",
    "white space": " \n ",
}


@pytest.mark.parametrize("content", PASSED_OVER.values(), ids=PASSED_OVER.keys())
def test_a_turn_in_which_nothing_is_left_is_passed_over(content: Any) -> None:
    assert routing_prompt([user(ASKED), {"role": "assistant", "content": "", "tool_calls": []}, user(content)]) == ASKED


def test_results_that_a_model_asked_for_in_words_are_passed_over() -> None:
    acted = {"role": "assistant", "content": "Thought: look.\nAction: search\nAction Input: {}"}
    assert routing_prompt([user(ASKED), acted, user("Observation: a deadlock proof")]) == ASKED
    assert routing_prompt([user("Observation: it rains. Why?")]) == "Observation: it rains. Why?"


OWN = [
    "What does <system-reminder> mean in the logs of Claude Code?",
    "Why do I see <system-reminder>be brief</system-reminder> in every turn?",
    "<system-reminder>be brief</system-reminder> stands before each answer; how can I turn that off?",
    f"What is this?\n```xml\n{REMINDER}\n```",
    f"```xml\n{REMINDER}\n```\nWhat is this?",
    f"Explain the following:\n{REMINDER}",
    f"An unfinished fence holds it\n```\n{REMINDER}",
    "<environment_details> is never closed in my prompt, is that a problem?",
    "Parse <answer>42</answer> out of the text",
    "Rate this:\n<answer>\n42\n</answer>",
    "if a < b and c > d: print('<context>')",
    "<html>\n<body>hi</body>\n</html>",
    "current time in Tokyo?",
    "[urgent] please help",
    "- [x] done\n- [ ] open",
    "# My heading\n\nand words",
]


@pytest.mark.parametrize("words", OWN)
def test_the_user_s_own_words_are_never_lost(words: str) -> None:
    assert routing_prompt([user(words)]) == words
    assert routing_prompt([user("Hello"), user(words)]) == words


@pytest.mark.parametrize("content", [REMINDER, f"<context>\n{ASKED}\n</context>", "[tool result] x", "yes"])
def test_where_there_is_nothing_else_a_turn_counts_as_it_is(content: str) -> None:
    assert routing_prompt([user(content)]) == content


def test_the_list_can_be_extended() -> None:
    sent = f"<acme-context>\nx\n</acme-context>\n{ASKED}"
    assert routing_prompt([user(sent)]) == sent
    assert routing_prompt([user(sent)], wrappers={*WRAPPERS, tag_name("<Acme-Context>")}) == ASKED


CONFIRMATIONS = """
yes|Yes.|yes please|ok|OK!|go on|Go ahead.|continue|looks good, commit it|LGTM|do it|👍|sounds good, thanks|2|y
Looks good — please commit and push|perfect, continue|option b|try again|ja|Ja, mach weiter|passt so|oui, vas-y|tak
d’accord|sí, adelante|va bene|sim, pode ser|да|Да, продолжай|evet, devam|نعم|हाँ|是的|好的，继续|請繼續
はい、お願いします|続けて|네, 계속해주세요
""".strip().replace("\n", "|")
NO_CONFIRMATIONS = """
yes, but use Rust|continue the story|no|thanks|ok, now prove it|is that right?|write code|nein|好的，但是用中文写一首诗
?|looks good, but the second test fails|commit early, commit often: explain|
""".strip().replace("\n", "|")


@pytest.mark.parametrize("words", CONFIRMATIONS.split("|"))
def test_a_bare_confirmation_is_judged_by_what_it_confirms(words: str) -> None:
    plan = {"role": "assistant", "content": "I would rewrite the queue. Shall I?"}
    talk = [user(ASKED), plan, user(words)]
    assert routing_prompt(talk) == ASKED
    assert last_turn(talk) == 0
    assert routing_prompt([*talk, plan, user(f"{REMINDER}\n{words}")]) == ASKED


@pytest.mark.parametrize("words", NO_CONFIRMATIONS.split("|"))
def test_anything_more_is_a_turn_of_its_own(words: str) -> None:
    assert not is_confirmation(words)


@pytest.mark.parametrize(
    "text",
    [
        "<file>x</file>\n" * 100_000 + "hi",
        "<context>" * 100_000,
        "<context> hi\n </context>" * 50_000 + "</context>",
        "[read_file] Result:" + "\n<task>" * 100_000,
        "```\n" * 100_000 + "</context>",
        "yes " * 50_000,
        "[" * 100_000,
        "<" * 100_000 + ">",
    ],
    ids=range(8),
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    typed_text([text])
    is_confirmation(text)
    assert time.process_time() - began < 2
