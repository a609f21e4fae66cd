"""Open the chat page of a running server with a router and a threshold chosen.

``python -m examples.router_chat --router mf --threshold 0.116`` opens it in the browser; ``--no-browser`` prints its
address instead. ``routellm serve`` starts a server.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
import webbrowser
from typing import Any
from urllib.parse import urlencode

from routellm_core.decision import parse_threshold
from routellm_core.errors import InvalidThresholdError


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    server = options.server.rstrip("/")
    settings = _page_settings(server)
    routers = [router["name"] for router in settings["routers"]]
    router = options.router or settings["default_router"]
    if router not in (*routers, "auto"):
        sys.exit(f"The server at {server} has no router {router!r}; it has {', '.join(routers)}, and 'auto'.")
    chosen = {"router": router} | ({"threshold": options.threshold} if options.threshold else {})
    page = f"{server}/#{urlencode(chosen)}"
    print(page)
    if not options.no_browser and not webbrowser.open(page):
        print("No browser could be started here; open this address in one.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Open the chat page of a running RouteLLM server.")
    parser.add_argument("--router", help="one of the server's routers, or 'auto'; by default the server's own default")
    parser.add_argument("--threshold", type=_threshold, help="in [0, 1], or a share of strong calls such as 50%%")
    parser.add_argument("--server", default="http://127.0.0.1:6060", help="the server's address (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="print the page's address and open nothing")
    return parser


def _threshold(written: str) -> str:
    try:
        parse_threshold(written)
    except InvalidThresholdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return written


def _page_settings(server: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{server}/chat/settings", timeout=10) as answer:
            settings: dict[str, Any] = json.load(answer)
            return settings
    except urllib.error.HTTPError as error:
        sys.exit(f"{server} answers, but has no chat page ({error.code}); is another program listening there?")
    except ValueError:
        sys.exit(f"{server} is not the address of a RouteLLM server; expected one like http://127.0.0.1:6060")
    except OSError as error:
        sys.exit(
            f"No server answers at {server} ({getattr(error, 'reason', error)}). Start one in another terminal:\n\n"
            "    routellm serve --strong-model openai/gpt-5.4 --weak-model openai/gpt-5.4-nano\n"
        )


if __name__ == "__main__":
    main()
