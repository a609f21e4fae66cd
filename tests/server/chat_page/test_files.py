"""The page's files over HTTP: what they may do, and that they need nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from routellm_core.server.chat_page import chat_page_router

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
SETTINGS: dict[str, Any] = {
    "models": {
        tier: {"name": tier, "input_cost_per_token": None, "output_cost_per_token": 2e-6} for tier in ("strong", "weak")
    },
    "routers": [{"name": "mf", "quantiles": None}],
    "default_router": "mf",
    "default_threshold": "50%",
    "needs_key": False,
}


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(chat_page_router(lambda: SETTINGS))
    return TestClient(app)


def page_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in TYPES)


def test_every_file_is_served_with_its_type_and_a_policy_that_lets_nothing_else_in(
    client: TestClient, page_folder: Path
) -> None:
    for file in page_files(page_folder):
        answer = client.get("/" if file.name == "index.html" else f"/chat/{file.relative_to(page_folder).as_posix()}")
        assert answer.status_code == 200
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] == TYPES[file.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "dompurify",
        }


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/chat/chat.js")
    again = client.get("/chat/chat.js", headers={"If-None-Match": first.headers["etag"]})
    other = client.get("/chat/api.js", headers={"If-None-Match": first.headers["etag"]})
    assert first.headers["cache-control"] == "no-cache"  # kept, and asked about each time
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../chat_page.py",
        "%2e%2e/chat_page.py",
        "..%2fchat_page.py",
        "vendor/marked/LICENSE",
        "missing.js",
        "",
        "vendor",
    ],
)
def test_nothing_but_the_page_s_files_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/chat/{path}").status_code == 404


def test_the_settings_are_those_of_now_and_not_kept(client: TestClient) -> None:
    answer = client.get("/chat/settings")
    assert answer.json() == SETTINGS
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_s_routes_are_not_part_of_the_api_s_description(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["paths"] == {}


def test_what_the_files_refer_to_is_there(client: TestClient, page_folder: Path) -> None:
    referred = {f"/{path}" for path in re.findall(r'(?:src|href)="([^"#]+)"', (page_folder / "index.html").read_text())}
    assert "/chat/chat.js" in referred
    for script in page_folder.rglob("*.js"):
        folder = script.parent
        for path in re.findall(r'from "(\.[^"]+)"', script.read_text()):
            referred.add("/chat/" + (folder / path).resolve().relative_to(page_folder.resolve()).as_posix())
    assert "/chat/vendor/dompurify/purify.es.mjs" in referred
    for path in referred:
        assert client.get(path).status_code == 200, path


def test_the_page_writes_text_not_markup_and_names_no_other_host(page_folder: Path) -> None:
    for file in page_files(page_folder):
        if "vendor" in file.parts:
            continue
        source = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source), (
            file
        )
        addresses = set(re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]+[^\s\"']*", source))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file


def test_third_party_files_are_the_published_ones_with_their_licences(page_folder: Path) -> None:
    vendor = page_folder / "vendor"
    rows = re.findall(
        r"^\| ([\w./-]+\.m?js) \|.*\| ([0-9a-f]{64}) \|$", (vendor / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(name for name, _ in rows) == sorted(str(path.relative_to(vendor)) for path in vendor.rglob("*.*js"))
    for name, checksum in rows:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == checksum
        assert (vendor / name).with_name("LICENSE").is_file()
