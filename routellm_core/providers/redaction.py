"""What of a provider's or an SDK's words may be repeated: no keys, no query strings, no internal addresses."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_SHORTEST_SECRET = 4  # a shorter value would tear up words
_SHORTEST_OF_ENVIRONMENT = 12  # nobody's choice of a password, so that no word of a message is cut out
_SECRET_VARIABLE = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_KEY = re.compile(
    r"\b(?P<kind>Bearer\s+|Basic\s+)(?=\S*[\d*._-])[^\s'\",;]{4,}"
    r"|\b(?P<prefix>sk-|sk_|pk-|gsk_|xai-|hf_|AIza|AKIA|key-|pplx-|r8_|ghp_|eyJ)[\w*.\-]{6,}",
)
_ASSIGNED = re.compile(
    r"(?P<name>[\"']?\b(?:x-)?(?:api[-_ ]?key|access[-_]?token|secret|password|authorization)\b[\"']?\s*[:=]\s*[\"']?)"
    r"(?!\*\*\*|Bearer\b|Basic\b)[^\s\"',;&}]{4,}",
    re.IGNORECASE,
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\]}]+", re.IGNORECASE)
_HOST_AND_PORT = re.compile(
    r"\bhost(?:\s+|=['\"]?)(?P<host>[\w.-]+|\[[0-9a-f:]+\])(?P<port>:\d+|['\"]?,\s*port=\d+)", re.IGNORECASE
)
_ADDRESS = re.compile(
    r"\b(?:(?:10|127)(?:\.\d{1,3}){3}|(?:192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2})(?::\d+)?\b"
)
_INTERNAL_SUFFIXES = (".internal", ".local", ".localhost", ".lan", ".corp", ".intranet", ".svc", ".home", ".private")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text that a provider or an SDK said, without keys, query strings and internal addresses.

    Args:
        text: what was said.
        secrets: keys that are known to have been sent; what looks like a key is cut out in any case, and so are the
            values of environment variables that hold keys.
    """
    for secret in sorted({*secrets, *_secrets_of_the_environment()}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    text = _URL.sub(lambda found: _shown_url(found[0]), text)
    text = _KEY.sub(lambda found: f"{found['kind'] or found['prefix']}***", text)
    text = _ASSIGNED.sub(lambda found: f"{found['name']}***", text)
    text = _HOST_AND_PORT.sub(lambda found: found[0] if not _is_internal(found["host"]) else _hidden(found), text)
    return _ADDRESS.sub("***", text)


def _hidden(found: re.Match[str]) -> str:
    return found[0].replace(f"{found['host']}{found['port']}", "***")


def _shown_url(url: str) -> str:
    ending = url[len(url.rstrip(".,;:")) :]
    url = url.removesuffix(ending) if ending else url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"***{ending}"
    if _is_internal(host):
        return f"{parts.scheme}://***{ending}"
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path}{query}{ending}"


def _is_internal(host: str) -> bool:
    host = host.strip("[]").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_SUFFIXES) or ".svc." in host


def _secrets_of_the_environment() -> Iterable[str]:
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_OF_ENVIRONMENT and _SECRET_VARIABLE.search(name):
            yield value


def safe_cause(error: BaseException, secrets: Iterable[str] = ()) -> BaseException | None:
    """Return ``error`` for ``raise … from``, or None where its own text, which a traceback shows, holds a secret."""
    text = f"{error} {getattr(error, 'message', '')} {error.__cause__ or ''} {error.__context__ or ''}"
    return error if redacted(text, secrets) == text else None
