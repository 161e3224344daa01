"""A local S3: a server of moto's on a free loopback port, for tests of stores at URLs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KEY, SECRET = "AKIATESTTESTTESTTEST", "very-secret-secret-of-the-tests"
_BUCKETS = itertools.count()


@contextmanager
def s3_server() -> Iterator[str]:
    """Start a server; yield its address. Its conditional writes are one stroke, as S3's own are."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    lock, put_object = threading.Lock(), S3Response.put_object

    def put_object_alone(self: Any) -> Any:
        with lock:
            return put_object(self)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_object_alone)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def use_server(address: str, patch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Point S3 at a server through the environment, as users do; return what makes buckets, and names their URLs."""
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)

    def make() -> str:
        import s3fs

        name = f"bucket-{next(_BUCKETS)}"
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
        return f"s3://{name}/studies"

    return make
