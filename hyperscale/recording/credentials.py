"""Where passwords and tokens may come from: the environment, and files that their owner alone can read."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from hyperscale.errors import StoreError
from hyperscale.recording.secrecy import masked, without_secrets

_SECRET_NAME = re.compile(r"(?i)(^|_)(PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET_KEY)(_|$)")
_NAMES_A_PLACE = re.compile(r"(?i)_(PATH|FILE|DIR|URL|URI|MODE)$")
_SHORTEST = 8  # a shorter value taken out wherever it occurs would leave no text to read
_NAMED = re.compile(
    r"(?i)\b((?:aws_)?(?:secret|access|api)[_-]?(?:access[_-]?)?key|odbc_connect|client_secret|secret)=[^&\s'\"]+"
)
_PLAIN = re.compile(r"(://[^\s:/@'\"]*):[^\s/@'\"]+@")  # digits alone, too, which could be a port elsewhere
_USER_ONLY = re.compile(r"(\bhttps?://)[^\s:/@'\"]+@")


def hidden(text: str) -> str:
    """Return the text without secrets: passwords in addresses, and values of the environment that names call secret."""
    for value in sorted(_secret_values(), key=len, reverse=True):
        text = text.replace(value, "***")
    return _USER_ONLY.sub(r"\1***@", _without_passwords(without_secrets(text)))


def hidden_command(words: Sequence[str]) -> str:
    """Return a command line as it may be shown: quoted for a shell, without secrets."""
    return shlex.join(hidden(word) for word in words)


def has_password(address: str) -> bool:
    """Whether an address (a tracking URI, a store's URL) has a password written into it."""
    return _without_passwords(masked(address)) != address


def _without_passwords(text: str) -> str:
    return _NAMED.sub(r"\1=***", _PLAIN.sub(r"\1:***@", text))


def _secret_values() -> set[str]:
    found = {v for k, v in os.environ.items() if _SECRET_NAME.search(k) and not _NAMES_A_PLACE.search(k)}
    return {value for value in found if len(value) >= _SHORTEST}


def check_private(path: Path, what: str) -> None:
    """Raise `StoreError` unless a file is there and nobody but its owner can read or write it.

    On systems without such modes (Windows) only the file's existence is looked at.
    """
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        raise StoreError(f"{what} {path} cannot be read: {problem.strerror or problem}.") from problem
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(
            f"{what} {path} has mode {stat.S_IMODE(mode):03o}, so that others on this machine can read or change it; "
            f"allowed: 600. To close it: chmod 600 {shlex.quote(str(path))}. If others may have read it, "
            "make a new secret too."
        )
