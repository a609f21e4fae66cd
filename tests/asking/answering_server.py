"""An OpenAI-compatible process that answers benchmark questions: run with a file of expected answers.

Model ``good`` answers right, ``bad`` wrong, ``shaky`` right but every third call fails with 503, ``rude`` refuses every
call with 401, and ``judge`` rates 9 what ``good`` said and 3 what others said. It prints its port.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RIGHT: dict[str, str] = json.loads(open(sys.argv[1], encoding="utf-8").read())  # noqa: SIM115
lock = threading.Lock()
calls = {"shaky": 0}


def answer(model: str, messages: list[dict[str, str]]) -> str:
    question = messages[-1]["content"]
    if model == "judge":
        good = question.rstrip().rpartition("good says")[1]
        last = question.rpartition("### assistant")[2] if "### assistant" in question else question
        return "Well. Rating: [[9]]" if good and "good says" in last else "Weak. Rating: [[3]]"
    right = next((value for key, value in RIGHT.items() if key in question), "")
    if not right:
        return f"{model} says: turn {len(messages)}"
    if model == "bad":
        return "The answer is (E)." if right in "ABCD" else "#### 123456.5"
    return f"{right}. Because so it is." if right in "ABCD" else f"Let me see.\n#### ${right}.00"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = body["model"]
        status = 401 if model == "rude" else 200
        if model == "shaky":
            with lock:
                calls["shaky"] += 1
                status = 503 if calls["shaky"] % 3 == 0 else 200
        self._reply(status, self._content(status, body, model))

    def _content(self, status: int, body: dict[str, Any], model: str) -> dict[str, Any]:
        if status != 200:
            return {"error": {"message": f"{status} as asked", "type": "server_error", "code": None, "param": None}}
        message = {"role": "assistant", "content": answer("good" if model == "shaky" else model, body["messages"])}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()
