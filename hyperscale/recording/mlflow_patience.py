"""A client that asks MLflow again where another driver was in the way: a locked database, a deadlock, a lost race."""

from __future__ import annotations

import functools
import random
import time
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LONGEST_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_IN_THE_WAY = (
    "database is locked",
    "database table is locked",
    "deadlock detected",
    "could not serialize",
    "too many clients already",
    "remaining connection slots",
    "experiment_tag_pk",  # two drivers set a tag that was not there
    "UNIQUE constraint failed: experiment_tags",
)


def in_the_way(error: BaseException) -> bool:
    """Whether others were in the way, so that nothing was written and asking again may help."""
    text = str(error)
    return any(words in text for words in _IN_THE_WAY)


def patient(client: MlflowClient) -> MlflowClient:
    """Return the client with every method repeated, for up to a minute, while others are in the way."""
    return cast("MlflowClient", _Patient(client))


class _Patient:
    """Passes everything on. Pauses are drawn at random, so that drivers do not come back all at once."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return functools.partial(repeat, method) if callable(method) else method


def repeat(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what the method returns, repeating it while others are in the way."""
    deadline, pause_s = time.monotonic() + _LONGEST_S, _FIRST_PAUSE_S
    while True:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            if not in_the_way(error) or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(random.uniform(0.5, 1.0) * pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
