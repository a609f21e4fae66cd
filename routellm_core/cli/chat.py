"""``routellm chat``: a streamed conversation with real models, showing who answered."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from routellm_core.cli._console import output, say
from routellm_core.cli._options import Config, RouterName, StrongModel, Threshold, WeakModel, configuration
from routellm_core.errors import BackendError
from routellm_core.types import RoutingDecision


def chat(
    message: Annotated[str | None, typer.Argument(help="Say this, print the answer and exit.")] = None,
    router: RouterName = None,
    threshold: Threshold = None,
    strong_model: StrongModel = None,
    weak_model: WeakModel = None,
    api_base: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server, for both.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    stream: Annotated[bool, typer.Option(help="Show the answer while it arrives.")] = True,
    config: Config = None,
) -> None:
    """Talk to the two models; each turn is routed. Empty line, /quit or end of input leaves; /reset starts again."""
    settings = configuration(
        config, router=router, threshold=threshold, strong_model=strong_model, weak_model=weak_model, api_base=api_base
    )
    from routellm_core.config import build_controller

    controller = build_controller(settings)
    opening: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if message is not None:
        _turn(controller, [*opening, {"role": "user", "content": message}], stream=stream)
        return
    messages = list(opening)
    while (text := _read_line()) not in ("", "/quit", "/exit"):
        if text == "/reset":
            messages = list(opening)
            continue
        messages.append({"role": "user", "content": text})
        try:
            answer = _turn(controller, messages, stream=stream)
        except BackendError as error:
            say("bold red", "error:", str(error), console=output)
            messages.pop()  # the turn can be tried again
            continue
        messages.append({"role": "assistant", "content": answer})


def _read_line() -> str:
    try:
        return output.input("[bold]you>[/] ", markup=True).strip() if sys.stdin.isatty() else input().strip()
    except EOFError:
        return ""


def _turn(controller: Any, messages: list[dict[str, Any]], *, stream: bool) -> str:
    response = controller.completion(messages=messages, stream=stream)
    _print_decision(response.routing)
    if not stream:
        answer = response.choices[0].message.content or ""
        output.print(answer, soft_wrap=True)
        return answer
    pieces = []
    for chunk in response:
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        pieces.append(piece)
        output.print(piece, end="", soft_wrap=True)
    output.print()
    return "".join(pieces)


def _print_decision(decision: RoutingDecision) -> None:
    output.print(Text(f"[{decision.tier}: {decision.model}] {decision.reason}", style="dim"), soft_wrap=True)
