"""The chat page: plain files that are read once, and the settings that the page asks for.

The page is a client of the API like any other. It loads nothing from elsewhere, and its policy lets nothing else in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

__all__ = ["CONTENT_SECURITY_POLICY", "chat_page_router"]

FOLDER = Path(__file__).with_name("page")
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # A string that reaches innerHTML or a script's address is refused, unless DOMPurify made it.
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Not from `mimetypes`: that reads the machine's own table, and a module of the wrong type does not run.
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _PageFile:
    content: bytes
    content_type: str
    etag: str


def chat_page_router(settings: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """Return the routes of the chat page: ``/``, its files under ``/chat/`` and ``/chat/settings``.

    Args:
        settings: called at each request for the settings, whose answer is JSON-ready:
            ``models`` (``strong`` and ``weak``, each with ``name``, ``input_cost_per_token`` and
            ``output_cost_per_token`` in dollars or None), ``routers`` (each with ``name`` and ``quantiles``: ascending
            scores of ordinary traffic at evenly spaced shares, or None), ``default_router``, ``default_threshold``
            (a number in [0, 1], or a share such as ``"50%"``) and ``needs_key``.
    """
    files = _read_files()
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        return _answer(files["index.html"], request)

    # Before the files, for the first route that fits is taken.
    @router.get("/chat/settings")
    async def page_settings() -> Response:
        return JSONResponse(dict(settings()), headers={**_HEADERS, "Cache-Control": "no-store"})

    @router.get("/chat/{path:path}")
    async def page_file(path: str, request: Request) -> Response:
        if path not in files:
            raise HTTPException(404, f"the chat page has no file {path!r}")
        return _answer(files[path], request)

    return router


def _read_files() -> dict[str, _PageFile]:
    # Whole and at once: what is served is what was there at the start, and no request's path meets the file system.
    return {
        file.relative_to(FOLDER).as_posix(): _PageFile(
            content, _CONTENT_TYPES[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        )
        for file in sorted(FOLDER.rglob("*"))
        if file.suffix in _CONTENT_TYPES
        for content in [file.read_bytes()]
    }


def _answer(file: _PageFile, request: Request) -> Response:
    headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.content_type, headers=headers)
