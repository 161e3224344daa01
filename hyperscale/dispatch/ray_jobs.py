"""The job server of a Ray cluster: submit, ask, read the log, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

from hyperscale.dispatch.following import JobRequest, JobState, LostConnectionError
from hyperscale.dispatch.ray_session import check_authenticated, token_to_send
from hyperscale.dispatch.ray_tune import prepare_environment
from hyperscale.errors import ResourceError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_S = 5.0
ANSWER_S = 60.0
QUIET_S = 10.0
_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class RayJobs:
    """The job server at ``address`` (``http://HOST:8265``): the `JobServer` that `Follower` talks to.

    Connects at once, and raises `ResourceError` where nobody listens, where it is no Ray, or where the token is
    missing or wrong. With RAY_AUTH_MODE=token Ray's client sends the token of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
    ~/.ray/auth_token in the Authorization header of each request.
    """

    def __init__(self, address: str) -> None:
        self.address = check_address(address)
        self.shown = shown_address(self.address)
        prepare_environment()
        check_authenticated(self.address)
        token_to_send()  # Ray would say at length that it is missing
        try:
            with self._translated(), _no_overrides():
                self._client = _client(self.address)
        except (KeyError, TypeError, ValueError) as problem:  # JSON, but not what Ray's version looks like
            raise ResourceError(_no_dashboard_text(self.shown)) from problem
        except LostConnectionError as problem:
            text = f"{problem} It takes connections: behind a tunnel or a proxy the head itself may be down."
            raise ResourceError(f"{text} {_no_dashboard_text(self.shown)}") from problem

    def submit(self, request: JobRequest) -> None:
        """Start a job; one that runs already under this identifier is left alone."""
        environment = {**request.runtime_env, "working_dir": str(request.archive)}
        with self._translated():
            try:
                self._client.submit_job(
                    entrypoint=request.entrypoint, submission_id=request.submission_id, runtime_env=environment
                )
            except (TypeError, ValueError) as problem:
                raise ResourceError(f"Ray refuses the runtime environment: {_first_line(problem)}") from problem
            except RuntimeError as problem:
                if "already exists" not in str(problem):
                    raise

    def state(self, submission_id: str) -> JobState | None:
        """Return where a job stands; None where the cluster does not know it."""
        with self._translated():
            try:
                info = self._client.get_job_info(submission_id)
            except RuntimeError as problem:
                if _status_code(problem) == 404:
                    return None
                raise
        return JobState(
            status=str(getattr(info.status, "value", info.status)),
            exit_code=info.driver_exit_code,
            error_type=info.error_type and str(getattr(info.error_type, "value", info.error_type)),
            message=info.message or "",
        )

    def log(self, submission_id: str) -> Generator[str, None, None]:
        """Yield a job's log from its beginning while it grows, and an empty string after each quiet while."""
        chunks = self._client.tail_job_logs(submission_id)
        with self._translated(), asyncio.Runner() as runner:
            loop = runner.get_loop()
            waiting: asyncio.Task[str | None] | None = None
            try:
                while True:
                    waiting = waiting or loop.create_task(_next(chunks))
                    if not runner.run(_wait(waiting)):
                        yield ""
                        continue
                    text, waiting = waiting.result(), None
                    if text is None:
                        return
                    yield text
            finally:
                if waiting is not None:
                    waiting.cancel()
                    runner.run(_wait(waiting))
                runner.run(chunks.aclose())

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end as by Ctrl-C; return whether it was running."""
        with self._translated():
            try:
                return bool(self._client.stop_job(submission_id))
            except RuntimeError as problem:
                if _status_code(problem) == 404:
                    raise ResourceError(f"The cluster at {self.shown} knows no job {submission_id!r}.") from None
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what Ray's client raises into `LostConnectionError` or a paragraph."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as problem:
            raise ResourceError(_token_text(self.shown, str(problem))) from problem
        except aiohttp.WSServerHandshakeError as problem:
            if problem.status in (401, 403):
                raise ResourceError(_token_text(self.shown, problem.message)) from problem
            raise LostConnectionError(f"{self.shown} answered {problem.status} instead of the log.") from problem
        except (requests.RequestException, aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise LostConnectionError(f"{self.shown} did not answer ({type(problem).__name__}).") from problem
        except RuntimeError as problem:
            code = _status_code(problem)
            first = _first_line(problem)
            if "Version check returned" in first:
                raise ResourceError(_no_dashboard_text(self.shown)) from problem
            if code is None and "WebSocket" not in str(problem):
                raise ResourceError(f"The job server at {self.shown} cannot be used: {first}") from problem
            if code is None or code >= 500:
                raise LostConnectionError(f"{self.shown}: {first}") from problem
            raise ResourceError(f"The job server at {self.shown} refused: {first}") from problem


async def _next(chunks: AsyncIterator[str]) -> str | None:
    """Return the next part of a log, None at its end."""
    return await anext(chunks, None)


async def _wait(task: asyncio.Task[str | None]) -> bool:
    """Return whether the task ends within the quiet while."""
    done, _ = await asyncio.wait({task}, timeout=QUIET_S)
    return bool(done)


def _client(address: str) -> Any:
    """Return Ray's client with time limits on its requests, which would otherwise wait for ever."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at INFO it announces uploads and the end of the log

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            options.setdefault("timeout", (CONNECT_S, ANSWER_S))
            return super()._do_request(method, endpoint, **options)

    return Client(address)


@contextlib.contextmanager
def _no_overrides() -> Iterator[None]:
    """Hide the variables with which Ray would overrule the address that was given."""
    hidden = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def check_address(address: str) -> str:
    """Return the address as a URL; raise `ResourceError` where it is none or where nobody listens."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host or not port or address == "auto":
        raise ResourceError(
            f"--address is {shown_address(address)!r}; allowed: the address of the cluster's dashboard, such as "
            "http://HOST:8265. (HOST:6379 and ray://HOST:10001 are for `run`.)"
        )
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as problem:
        raise ResourceError(
            f"No job server answers at {shown_address(url)}: {problem.strerror or problem}. Give --address or "
            "RAY_API_SERVER_ADDRESS of a running cluster's dashboard. A dashboard that listens on its own machine "
            "only, as it should, is reached through a tunnel: ssh -L 8265:127.0.0.1:8265 HOST."
        ) from problem
    return url.rstrip("/")


def shown_address(address: str) -> str:
    """Return the address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", address)


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:300]


def _status_code(problem: RuntimeError) -> int | None:
    match = re.search(r"status code (\d{3})", str(problem))
    return int(match.group(1)) if match else None


def _no_dashboard_text(address: str) -> str:
    return (
        f"Nothing at {address} answers as Ray's dashboard does. `submit` wants the dashboard's address, "
        "http://HOST:8265 unless the cluster was started otherwise; port 6379, the head's control service, is for "
        "`run --address HOST:6379`."
    )


def _token_text(address: str, answer: str) -> str:
    first = answer.strip().splitlines()[0] if answer.strip() else "refused"
    return (
        f"The cluster at {address} wants a token ({first}). Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file "
        "with the cluster's token, readable by you alone (or RAY_AUTH_TOKEN, or ~/.ray/auth_token)."
    )
