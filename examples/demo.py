"""What ``make demo`` shows: real prompts routed offline, then one chat completion over HTTP.

No key, no download and no GPU: the router is the embedded default, the models are a local OpenAI-compatible process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from routellm_core import Controller
from routellm_core.testing.local_models import LocalModelServer

PROMPTS = Path(__file__).with_name("prompts.txt")


def main() -> None:
    print(f"$ routellm route --file examples/{PROMPTS.name}", flush=True)
    routellm = Path(sys.executable).with_name("routellm")
    subprocess.run([routellm, "route", "--file", PROMPTS], check=True)

    with LocalModelServer() as server:
        client = Controller(
            routers=["mf"],
            strong_model="openai/local-strong",
            weak_model="openai/local-weak",
            api_base=server.base_url,
            api_key="not-needed",
        )
        messages = [{"role": "user", "content": "Prove that the square root of 2 is irrational."}]
        print(f"\nOne chat completion over HTTP, from an OpenAI-compatible process at {server.base_url}:")
        response = client.chat.completions.create(model="router-mf-0.116", messages=messages)
        print(f"  decision: {response.routing.model} ({response.routing.reason})")
        print(f"  answer:   {response.choices[0].message.content}")

        print("\nThe same, streamed, for an easier question:")
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        stream = client.chat.completions.create(model="router-mf-0.116", messages=messages, stream=True)
        print(f"  decision: {stream.routing.model} ({stream.routing.reason})")
        print("  answer:   ", end="")
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
