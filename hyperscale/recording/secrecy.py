"""Passwords kept out of whatever is written: messages, reports, tags."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
_USER_INFO = re.compile(r"(?P<start>[A-Za-z][\w+.-]*://[^\s:/@'\"]*):(?P<secret>[^\s'\"]*)@")
_PORT = re.compile(r"\d{1,5}[/?]")
_NAMED = re.compile(r"(?i)\b(password|passwd|pwd|sslpassword|access_token|token)=[^&\s;'\"]+")
_SHORTEST = 4  # a shorter password taken out wherever it occurs would leave no text to read


def masked(text: str) -> str:
    """Return the text without the passwords of the addresses in it, however they are written."""

    def hide(match: re.Match[str]) -> str:
        return match.group() if _PORT.match(match["secret"]) else f"{match['start']}:***@"

    return _NAMED.sub(r"\1=***", _USER_INFO.sub(hide, text))


def without_secrets(text: str, address: str = "") -> str:
    """Return the text without passwords: those of the addresses in it, of ``address`` and of the environment."""
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return masked(text)


def _secrets(address: str) -> set[str]:
    """Return what must not be shown, as it is written and as it reads."""
    found = {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    try:
        written = urlsplit(address).password or ""
    except ValueError:
        written = ""
    found |= {written, unquote(written)}
    return {secret for secret in found if len(secret) >= _SHORTEST}
