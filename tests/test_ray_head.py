"""The watch on Ray's head."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hyperscale.dispatch import ray_head
from hyperscale.dispatch.ray_head import HeadWatch, answers, await_return, begin_anew


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Return a socket that listens on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def address_of(listener: socket.socket) -> str:
    """Return HOST:PORT."""
    host, port = listener.getsockname()
    return f"{host}:{port}"


def test_the_watch_tells_once_when_nobody_answers(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody listens nothing is said; soon after nobody does, the loss is told, once."""
    monkeypatch.setattr(ray_head, "_PAUSE_S", 0.02)
    told: list[str] = []
    heard = threading.Event()
    address = address_of(listener)

    def on_lost(lost: str) -> None:
        told.append(lost)
        heard.set()

    with HeadWatch(address, on_lost, identify=lambda _: "one", patience_s=0.1):
        assert not heard.wait(0.4)
        listener.close()
        assert heard.wait(10)
    assert told == [address]


def test_another_head_in_its_place_is_a_loss(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that was started anew answers at once, and is told by its identity; a look that fails says nothing."""
    monkeypatch.setattr(ray_head, "_PAUSE_S", 0.02)
    heard = threading.Event()
    identities = iter(["one", "one", None, "one", "two"])

    def identify(address: str) -> str:
        found = next(identities, "two")
        if found is None:
            raise OSError("just now gone")
        return found

    with HeadWatch(address_of(listener), lambda address: heard.set(), identify=identify):
        assert heard.wait(10)
    assert next(identities, "none left") == "none left"


def test_an_ended_watch_says_nothing(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that goes when all is done is nobody's loss."""
    monkeypatch.setattr(ray_head, "_PAUSE_S", 0.02)
    told: list[str] = []
    watch = HeadWatch(address_of(listener), told.append, identify=lambda _: "one", patience_s=0.1)
    with watch:
        pass
    listener.close()
    watch._thread.join(5)
    assert not watch._thread.is_alive()
    assert told == []


def test_waiting_for_a_head_ends_when_it_returns(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is back within the limit is found; one that is not leaves its reason."""
    monkeypatch.setattr(ray_head, "_PAUSE_S", 0.02)
    address = address_of(listener)
    assert await_return(address, 5) is None
    listener.close()
    assert isinstance(answers(address), OSError)
    assert isinstance(await_return(address, 0.1), OSError)
    port = int(address.rpartition(":")[2])
    back: list[socket.socket] = []
    timer = threading.Timer(0.2, lambda: back.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    assert await_return(address, 20) is None
    timer.join()
    back[0].close()


def test_a_process_begins_anew_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same command, one more restart on its account, and its own Ray ended before; after five not at all."""
    calls: list[list[str]] = []
    ended: list[int] = []
    monkeypatch.setattr(ray_head, "_end_own_ray", lambda: ended.append(len(calls)))  # it is the tests' own session
    monkeypatch.setattr(ray_head.os, "execv", lambda path, words: calls.append(list(words)))
    monkeypatch.setattr(ray_head.sys, "orig_argv", ["python", "-m", "hyperscale.cli", "run", "a study.py"])
    monkeypatch.setenv("HYPERSCALE_HEAD_LOSSES", "0")
    for _ in range(ray_head.MOST_RESTARTS + 3):
        begin_anew()
    assert len(calls) == ray_head.MOST_RESTARTS
    assert ended == list(range(ray_head.MOST_RESTARTS))
    assert calls[0][1:] == ["-m", "hyperscale.cli", "run", "a study.py"]
    assert ray_head.num_restarts() == ray_head.MOST_RESTARTS
