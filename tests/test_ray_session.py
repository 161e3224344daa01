"""Ray's sessions: an own one with a token of its own, and clusters elsewhere that must ask for one."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyperscale.dispatch import ray_session
from hyperscale.dispatch.ray_session import check_authenticated, check_speaks_ray, find_token, is_loopback
from hyperscale.errors import HyperscaleError, ResourceError, StoreError

TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from an environment without a mode and a token, and keep it from the test's session of Ray."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_session, "_read_environment_again", lambda: None)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every address for one on a network."""
    monkeypatch.setattr(ray_session, "is_loopback", lambda host: False)


class Cluster(grpc.GenericRpcHandler):
    """Answers as Ray's GCS and client server do, with a token or without."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def service(self, handler_call_details: Any) -> Any:
        """Return what handles a call."""
        given = dict(handler_call_details.invocation_metadata).get("authorization")
        client = "RayletDriver" in handler_call_details.method

        def answer(request: bytes, context: Any) -> bytes:
            if self.token and given != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid or missing authentication token")
            if client:
                context.abort(grpc.StatusCode.NOT_FOUND, "Failed to serialize response!")
            return b"alive"

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the port of a server that takes the token of the parameter."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Cluster(request.param),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("", False),
        ("192.0.2.7", False), ("::", False), ("no-such-host.invalid", False),
    ],
)  # fmt: skip
def test_loopback_is_what_this_machine_alone_reaches(host: str, wanted: bool) -> None:
    """By number or by name; what cannot be looked up is not."""
    assert is_loopback(host) is wanted


@pytest.mark.parametrize("address", ["head.invalid:6379", "192.0.2.7:6379", "ray://192.0.2.7", "http://192.0.2.7:8265"])
def test_a_cluster_elsewhere_wants_a_token_here(address: str) -> None:
    """Without one it is not even asked; the message says how to make one."""
    with pytest.raises(
        ResourceError, match=r"no token for it here.*ray get-auth-token.*RAY_AUTH_MODE=token.*SSH"
    ) as told:
        check_authenticated(address)
    assert address in str(told.value)
    assert "\n" not in str(told.value)


def test_auto_is_the_cluster_that_it_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In RAY_ADDRESS, among the processes, or where Ray noted one, which may be gone; without any Ray says so."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    check_authenticated("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("192.0.2.8:6379\n")
    with pytest.raises(ResourceError, match=r"192\.0\.2\.8:6379"):
        check_authenticated("auto")
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    with pytest.raises(ResourceError, match=r"Nobody answers at 127\.0\.0\.1:1 .*last cluster was"):
        check_speaks_ray("auto")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: {"192.0.2.9:6379"})
    with pytest.raises(ResourceError, match=r"192\.0\.2\.9:6379"):
        check_authenticated("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    check_authenticated("auto")


def test_what_is_not_asked_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback, an explicit "disabled", and a job that the cluster itself has started."""
    for address in ("127.0.0.1:6379", "localhost:6379", "ray://127.0.0.1", "http://[::1]:8265"):
        check_authenticated(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_authenticated("192.0.2.7:6379")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_authenticated("192.0.2.7:6379")


@pytest.mark.parametrize("cluster", [TOKEN], indirect=True)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_the_right_token_opens_and_a_wrong_one_is_named(
    scheme: str, cluster: int, far: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode is set where only the token was; a wrong one is refused at once, not after Ray's twenty seconds."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    check_authenticated(f"{scheme}127.0.0.1:{cluster}")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(ResourceError, match="refuses the token") as told:
        check_authenticated(f"{scheme}127.0.0.1:{cluster}")
    assert "ffff" not in str(told.value)


@pytest.mark.parametrize("cluster", [None], indirect=True)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_lets_everybody_in_is_refused(
    scheme: str, cluster: int, far: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Having a token is not enough: the cluster must ask for it."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with pytest.raises(ResourceError, match="answers without a token"):
        check_authenticated(f"{scheme}127.0.0.1:{cluster}")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_authenticated(f"{scheme}127.0.0.1:{cluster}")


@pytest.mark.parametrize("cluster", [TOKEN], indirect=True)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_speaks_ray_is_told_from_the_rest(
    scheme: str, cluster: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On loopback too: a cluster with the token, without it, with another one, and a server of something else."""
    monkeypatch.setattr(ray_session, "_PROBES", 1)
    address = f"{scheme}127.0.0.1:{cluster}"
    with pytest.raises(ResourceError, match=r"wants a token\. Set RAY_AUTH_MODE=token"):
        check_speaks_ray(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ResourceError, match=r"RAY_AUTH_MODE is token, but there is no token here"):
        check_speaks_ray(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(StoreError, match="absent cannot be read"):
        check_speaks_ray(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # Ray goes by no proxy, and so does the question
    check_speaks_ray(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(ResourceError, match="refuses the token"):
        check_speaks_ray(address)


def test_a_job_of_the_cluster_itself_is_not_questioned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a cluster with TLS, which the question does not speak."""
    for name, value in (("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"), ("RAY_USE_TLS", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            check_speaks_ray("127.0.0.1:1")
    with pytest.raises(ResourceError, match="Nobody answers"):
        check_speaks_ray("127.0.0.1:1")


def test_what_is_no_ray_is_named(dashboard: tuple[type[Dashboard], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard's port for the head's, with where each is for."""
    monkeypatch.setattr(ray_session, "_PROBES", 1)
    with pytest.raises(ResourceError, match=r"does not answer as Ray does.*http://HOST:8265\) is for `submit`"):
        check_speaks_ray(dashboard[1].removeprefix("http://"))


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does: 401 without the token, or sends elsewhere."""

    protected, elsewhere = True, ""

    def do_GET(self) -> None:
        """Answer a request."""
        given = self.headers.get("Authorization")
        if self.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
        else:
            self.send_response(200 if not self.protected or given == f"Bearer {TOKEN}" else 403 if given else 401)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def dashboard() -> Iterator[tuple[type[Dashboard], str]]:
    """Return a handler to be set up, and its address."""

    class Own(Dashboard):
        """One that this test alone sets up."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Own, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_job_server_must_ask_for_the_token_too(
    dashboard: tuple[type[Dashboard], str], far: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `submit` is given; the token is not carried along to where a server sends on."""
    handler, address = dashboard
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    check_authenticated(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(ResourceError, match="refuses the token"):
        check_authenticated(address)
    handler.protected = False
    with pytest.raises(ResourceError, match="answers without a token"):
        check_authenticated(address)
    handler.elsewhere = "http://192.0.2.9/"
    check_authenticated(address)  # no Ray: the connection itself will say


def test_a_token_file_is_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the home directory or where the environment names it; others may not read it."""
    assert find_token() is None
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o644)
    with pytest.raises(StoreError, match=rf"mode 644.*chmod 600 {path}"):
        find_token()
    path.chmod(0o600)
    assert find_token() == TOKEN
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(StoreError, match="absent cannot be read"):
        find_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert find_token() == "given"


@pytest.mark.parametrize("address", ["", ":", "no port", "ray://", "http://", "host:port", "host:99999999", "a\0b:1"])
def test_no_address_is_a_traceback(address: str) -> None:
    """What is no address at all is left to the connection, or refused as one elsewhere."""
    told = ""
    try:
        check_authenticated(address)
    except HyperscaleError as problem:
        told = str(problem)
    assert "\n" not in told


@pytest.mark.ray
def test_an_own_session_wants_its_token(local_ray: None) -> None:
    """On loopback, too: another user of this machine is not let in."""
    import ray

    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    assert host == "127.0.0.1"
    assert ray_session._answers("", host, int(port), None) is False
    assert ray_session._answers("", host, int(port), "f" * 64) is False
