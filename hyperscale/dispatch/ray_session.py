"""Ray sessions closed to strangers: an own one that listens on loopback only, and clusters that ask for a token.

Ray trusts whoever reaches its ports with running code. So a session of this process's own opens none beyond this
machine, and wants a token even there; and a cluster elsewhere is joined only where it asks for one too.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import os
import secrets
import socket
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hyperscale.dispatch.ray_head import ALIVE, answers
from hyperscale.errors import ResourceError
from hyperscale.recording.credentials import check_private

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_TLS, _KUBERNETES = "RAY_USE_TLS", "RAY_ENABLE_K8S_TOKEN_AUTH"
_INSIDE_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_PROBE_S, _PROBES = 5.0, 4
_NODE_WAIT_S = 30
_LONGEST_TEMP = 36  # below it Ray's sockets lie, whose paths may have 107 characters
_GCS_PROBE, _CLIENT_PROBE = "/ray.rpc.NodeInfoGcsService/CheckAlive", "/ray.rpc.RayletDriver/ClusterInfo"
_WHERE = f"{_TOKEN}, a file of mode 600 that {_TOKEN_PATH} names, or ~/.ray/auth_token"
_HOW = (
    "Start the cluster with a token (`ray get-auth-token --generate` makes one; every node gets the same file, with "
    "RAY_AUTH_MODE=token), and give it here: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, or with RAY_AUTH_TOKEN_PATH or "
    "~/.ray/auth_token naming a file of mode 600. On a network that you trust, RAY_AUTH_MODE=disabled goes without; "
    "so does an SSH tunnel to a port of 127.0.0.1."
)
_saved: dict[str, str | None] = {}


def start_own_session(**options: Any) -> None:
    """Start a Ray of this process's own: on loopback, with a token that only its processes know, without a dashboard.

    The token is in the environment of this process and its children until `end_own_session`, and in no file. Where
    the user has set RAY_AUTH_MODE=disabled there is none. Raises `ResourceError` where Ray listens to the network
    all the same.
    """
    import ray

    _give_token()
    try:
        with _loopback_addresses():
            ray.init("local", **{"include_dashboard": False, **_own_folder(), **options})
        address = ray.util.get_node_ip_address()
        if not is_loopback(address):
            raise ResourceError(
                f"Ray {ray.__version__} was told to listen on this machine alone, but did so at {address}. It was "
                "ended. Install a version of Ray that hyperscale knows (pip install -c constraints.txt ray), or use "
                "--executor in-process."
            )
    except BaseException:
        end_own_session()
        raise


def end_own_session() -> None:
    """End the session that `start_own_session` began, and forget its token."""
    import ray

    ray.shutdown()
    if _saved:
        for name, value in _saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _saved.clear()
        _read_environment_again()


def _give_token() -> None:
    """Put a new token into the environment: Ray would write one to ~/.ray/auth_token for everybody to read."""
    if os.environ.get(_MODE, "token").lower() != "token":
        return
    _saved.update({name: os.environ.get(name) for name in (_MODE, _TOKEN)})
    os.environ.update({_MODE: "token", _TOKEN: secrets.token_hex(32)})
    _read_environment_again()


def _read_environment_again() -> None:
    """Have Ray, which looks at the environment once, see the mode and the token as they are now."""
    if "ray" in sys.modules:
        core = importlib.import_module("ray._raylet")
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _loopback_addresses() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for the address of the node that it starts, as it does where it knows no clusters.

    Ray has no option for it on Linux: ``_node_ip_address="127.0.0.1"`` is turned into the address that others see, and
    then every server listens on all interfaces. `start_own_session` checks that this still works.
    """
    from ray._private import ray_constants

    before, known = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        os.environ.pop(_CLUSTERS)
        if before is not None:
            os.environ[_CLUSTERS] = before


def addresses_of(address: str) -> contextlib.AbstractContextManager[None]:
    """Have Ray call this machine 127.0.0.1 while it joins a cluster whose nodes are called that, as on a laptop.

    A driver that called it anything else would look for a node of that name for ever. ``address`` is auto or HOST:PORT.
    """
    place, scheme, host, port = _located(address)
    if scheme or port is None or not is_loopback(host):
        return contextlib.nullcontext()
    from ray import _raylet

    module: Any = _raylet
    client, alive = module.GcsClient(address=place), set[str]()
    for _ in range(_NODE_WAIT_S):  # the head's own node comes up after its control service
        nodes = client.get_all_node_info(timeout=_PROBE_S).values()
        alive = {node.node_manager_address for node in nodes if node.state == ALIVE}
        if alive:
            break
        time.sleep(1.0)
    return _loopback_addresses() if "127.0.0.1" in alive else contextlib.nullcontext()


def _own_folder() -> dict[str, str]:
    """Return the option that keeps logs and sockets where other users of this machine cannot look."""
    if "RAY_TMPDIR" in os.environ or os.name != "posix":
        return {}
    folder = Path(tempfile.gettempdir()) / f"hyperscale-ray-{os.getuid()}"
    if len(str(folder)) > _LONGEST_TEMP:
        return {}
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    private = folder if own else Path(tempfile.mkdtemp(prefix="hyperscale-ray-"))
    return {"_temp_dir": str(private / "ray")}  # Ray opens its folder to everybody, so it lies in a closed one


def is_loopback(host: str) -> bool:
    """Whether a name or address stands for this machine alone; a name that cannot be looked up does not."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address.split("%")[0]).is_loopback for address in found)


def check_authenticated(address: str) -> None:
    """Raise `ResourceError` unless a cluster at another address wants a token, and there is one to give.

    ``address`` is what ``--address`` takes: auto, HOST:PORT, ray://HOST:PORT or http://HOST:PORT. Where a token is
    given and RAY_AUTH_MODE is not, it is set to token, because Ray's clients send a token only then. Nothing is asked
    for at a loopback address, with RAY_AUTH_MODE=disabled, and inside a job that the cluster itself has started.
    """
    place, scheme, host, port = _located(address)
    mode = os.environ.get(_MODE, "").lower()
    if not host or is_loopback(host) or mode == "disabled" or _INSIDE_A_JOB in os.environ:
        return
    token = find_token()
    if token is None:
        raise ResourceError(
            f"The Ray cluster at {place} is on a network, where whoever reaches it may run code, and there is no "
            f"token for it here. {_HOW}"
        )
    if not mode:
        os.environ[_MODE] = "token"
        _read_environment_again()
    if port is None:
        return
    if _answers(scheme, host, port, None):
        raise ResourceError(
            f"The Ray cluster at {place} answers without a token: whoever reaches that address may run code on it. "
            f"{_HOW}"
        )
    if _answers(scheme, host, port, token) is False:
        raise ResourceError(
            f"The Ray cluster at {place} refuses the token given here. Give the one that its nodes were started with, "
            f"in {_WHERE}."
        )


def check_speaks_ray(address: str) -> None:
    """Raise `ResourceError` where what listens at HOST:PORT or ray://HOST:PORT is no Ray, or wants another token.

    Ray's own client would try for minutes, and ends the process, in C++, where the mode is token and there is none.
    """
    place, scheme, host, port = _located(address)
    if port is None or not host or _INSIDE_A_JOB in os.environ or os.environ.get(_TLS, "0") not in ("", "0"):
        return
    silent = answers(f"{_bracketed(host)}:{port}")
    if silent is not None:
        raise ResourceError(
            f"Nobody answers at {place} ({silent.strerror or silent})"
            + (", where this machine's last cluster was. Start one, or give its address." if address == "auto" else ".")
        )
    token = token_to_send()
    answer = _answers(scheme, host, port, token)
    for _ in range(_PROBES - 1):
        if answer is None:  # a head that starts takes connections before it answers
            time.sleep(1.0)
            answer = _answers(scheme, host, port, token)
    if answer is None:
        raise ResourceError(
            f"Something listens at {place}, but it does not answer as Ray does. --address of `run` is the head's "
            "control service (HOST:6379) or Ray Client's server (ray://HOST:10001); the dashboard (http://HOST:8265) "
            "is for `submit`."
        )
    if answer is False:
        refused = "refuses the token given here" if token else "wants a token"
        raise ResourceError(
            f"The Ray cluster at {place} {refused}. Set {_MODE}=token, and give the token that its nodes were started "
            f"with, in {_WHERE}."
        )


def token_to_send() -> str | None:
    """Return the token that Ray's clients will send, None where they send none (or one that Kubernetes gives).

    Raises `ResourceError` where RAY_AUTH_MODE says token and there is none.
    """
    if os.environ.get(_MODE, "").lower() != "token" or os.environ.get(_KUBERNETES, "0").lower() in ("1", "true"):
        return None
    token = find_token()
    if token is None:
        raise ResourceError(f"{_MODE} is token, but there is no token here. Give it in {_WHERE}.")
    return token


def find_token() -> str | None:
    """Return Ray's token where Ray looks for it: environment, file named there, file in the home directory.

    Raises `StoreError` where the file can be read by others.
    """
    if os.environ.get(_TOKEN):
        return os.environ[_TOKEN].strip()
    named = os.environ.get(_TOKEN_PATH)
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.is_file():
        return None
    check_private(path, "Ray's token file")
    return path.read_text(encoding="utf-8").strip() or None


def _cluster_found_here() -> str:
    """Return the address that Ray's ``auto`` stands for, empty where there is none."""
    if os.environ.get("RAY_ADDRESS", "auto") not in ("", "auto", "local"):
        return os.environ["RAY_ADDRESS"]
    with contextlib.suppress(ConnectionError):
        from ray._private import services

        return str(services.get_ray_address_from_environment("auto", None) or "")
    return ""


def _located(address: str) -> tuple[str, str, str, int | None]:
    """Return what ``--address`` stands for, with its scheme, host and port."""
    place = _cluster_found_here() if address == "auto" else address
    return place, *_parts(place)


def _parts(address: str) -> tuple[str, str, int | None]:
    """Return scheme (empty for HOST:PORT), host and port of an address, empty where it is none."""
    scheme, separator, rest = address.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        return scheme, rest, None
    usual = {"http": 80, "https": 443, "ray": 10001}.get(scheme) if separator else None
    return scheme, parts.hostname or "", port or usual


def _answers(scheme: str, host: str, port: int, token: str | None) -> bool | None:
    """Whether a server answers a harmless question, with a token or without; None where it is not Ray, or silent."""
    if scheme in ("http", "https"):
        return _answers_http(f"{scheme}://{_bracketed(host)}:{port}/api/version", token)
    import grpc

    method = _CLIENT_PROBE if scheme == "ray" else _GCS_PROBE
    metadata = [("authorization", f"Bearer {token}")] if token else []
    options = (("grpc.enable_http_proxy", 0),)  # as Ray does
    with grpc.insecure_channel(f"{_bracketed(host)}:{port}", options=options) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=_PROBE_S, metadata=metadata)
        except grpc.RpcError as problem:
            code = problem.code()
            # an empty question to the client server is answered with NOT_FOUND, once it has let the caller in
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return False
            return True if scheme == "ray" and code == grpc.StatusCode.NOT_FOUND else None
    return True


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, which would take the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Return no further request."""


def _answers_http(url: str, token: str | None) -> bool | None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=_PROBE_S) as answer:
            return bool(answer.status == 200 and b"ray_version" in answer.read(10_000))
    except urllib.error.HTTPError as problem:
        problem.close()
        return False if problem.code in (401, 403) else None
    except (OSError, ValueError):
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
