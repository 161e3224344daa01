"""Stores at URLs: what fsspec reaches (S3, Google Cloud, Azure, …), with patience, and with words for people.

A path stands for a URL where it was made of one: ``Path("s3://bucket/x")`` is ``s3:/bucket/x``, which `url_of` undoes.
So a URL goes wherever a path goes: through the command line, and with a pack to its worker.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hyperscale.errors import StoreError

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_RESTS_S = 60.0

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(.+)", re.DOTALL)
_LOCAL = ("file", "local")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
_SCHEMES = (*_PACKAGES, "hdfs", "webhdfs", "sftp", "ssh", "ftp", "smb", "oss", "memory", *_LOCAL)
# What the store has said clearly is not asked for again.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
_FINAL_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidRegionError"}
_S3_OPTIONS = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2, "mode": "standard"}}
}
_CREATING = threading.Lock()

Answer = TypeVar("Answer")


def url_of(place: Path | str) -> str | None:
    """Return the URL that a path was made of, or None for a path of a file system; ``file://`` is one."""
    found = _URL.fullmatch(str(place))
    return None if found is None or found[1] in _LOCAL else f"{found[1]}://{found[2].rstrip('/')}"


def local_path(place: Path | str) -> Path:
    """Return the absolute path of a place that is no URL."""
    found = _URL.fullmatch(str(place))
    return Path(f"/{found[2]}" if found else place).expanduser().resolve()


def why_no_store(text: str) -> str:
    """Return what is wrong with the words that somebody gave for a store, or nothing; asks no network."""
    if not text.strip():
        return "names no place"
    scheme, separator, rest = text.partition("://")
    if not separator:
        slip = re.fullmatch(r"([a-z][a-z0-9+.-]+):/*(.*)", text)
        return f"looks like {slip[1]}://{slip[2]} with a slip" if slip and slip[1] in _SCHEMES else ""
    if not rest.strip("/") and scheme not in _LOCAL:
        return "names no place there"
    if scheme == "memory":
        return "is forgotten when the command ends"
    return "" if scheme in (*_LOCAL, *_SCHEMES) else _unknown(scheme)


def _unknown(scheme: str) -> str:
    """Return what is wrong with a URL whose scheme is no well-known one, or nothing where fsspec knows it."""
    from fsspec import available_protocols

    if scheme in ("http", "https"):
        return "cannot be written to"
    return "" if scheme in available_protocols() else f"begins with {scheme}://, which fsspec does not know"


def mirror_folder(url: str) -> Path:
    """Return where this machine keeps copies of a URL's files: in the user's cache, or below HYPERSCALE_MIRROR."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hyperscale" / "mirrors"
    base = Path(os.environ.get("HYPERSCALE_MIRROR") or cache).expanduser().resolve()
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", url.split("://", 1)[1])[:60].strip("-.")
    return base / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _filesystem(url: str) -> Any:
    """Return fsspec's file system of a URL, without caches: others write there too."""
    import fsspec

    scheme, rest = url.split("://", 1)
    if "@" in rest.split("/", 1)[0]:
        raise StoreError(
            f"The store's URL {scheme}://…@{rest.split('@', 1)[1]} has credentials in it. Give them in the environment "
            f"(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL for S3), and the URL without them."
        )
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    try:
        return fsspec.filesystem(scheme, **options, **(_S3_OPTIONS if scheme.startswith("s3") else {}))
    except ImportError as problem:
        package = _PACKAGES.get(scheme, "")
        wanted = f"the package {package}: pip install {package}" if package else f"a package: {_said(problem)}"
        raise StoreError(f"The store {url} needs {wanted}. Or give --store a folder.") from problem
    except Exception as problem:
        raise StoreError(
            f"The store {url} cannot be used: {_said(problem)}. Allowed: a folder, or a URL that fsspec knows, such as "
            "s3://bucket/folder."
        ) from problem


def _said(problem: BaseException) -> str:
    """Return the first line of what an error says, without what may be a secret in an address."""
    text = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    return re.sub(r"//[^/\s@]*@", "//…@", re.sub(r"\?\S*", "", text))[:300].rstrip(".")


class Remote:
    """The files below one URL. What fails is tried again for a minute before it is a `StoreError`.

    ``say`` is told, once for each trouble, that something is tried again. For a minute after such an error everything
    is tried once only: whoever winds up then does not wait again at every step.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.say: Callable[[str], None] = lambda text: None  # noqa: ARG005
        self._fs = _filesystem(url)
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1  # `attempt` has more patience, and a word for whoever waits
        self._troubled, self._patient_from = False, float("-inf")
        self._root = str(self._fs._strip_protocol(url)).rstrip("/")

    def path(self, *names: str) -> str:
        """Return a file's name as fsspec's file system takes it."""
        return "/".join((self._root, *names))

    def attempt(self, what: str, action: Callable[[], Answer], *expected: type[Exception]) -> Answer:
        """Do something with the store, again and again after failures that may pass; ``expected`` ones are raised."""
        pauses_s = PAUSES_S if time.monotonic() >= self._patient_from else ()
        for pause_s in (*pauses_s, None):
            try:
                answer = action()
            except expected:
                raise
            except Exception as problem:
                final = isinstance(problem, _FINAL) or type(problem).__name__ in _FINAL_NAMES
                if pause_s is None or final:
                    self._patient_from = self._patient_from if final else time.monotonic() + _RESTS_S
                    raise StoreError(
                        f"The store {self.url} could not be used ({what}): {_said(problem)}. Nothing recorded so far "
                        f"is lost: what did not get there is in {mirror_folder(self.url)} and goes there with the "
                        "next run. See to the connection and the credentials, then run again."
                    ) from problem
                if not self._troubled:
                    self._troubled = True
                    self.say(
                        f"The store {self.url} does not answer ({what}): {_said(problem)}. Trying again for a minute …"
                    )
                time.sleep(pause_s)
            else:
                self._troubled = False
                return answer
        raise AssertionError

    def read(self, *names: str, start: int = 0) -> bytes | None:
        """Return a file's bytes from ``start``, or None where there is no such file."""
        path, part = self.path(*names), {"start": start} if start else {}
        try:
            return bytes(self.attempt("reading", lambda: self._fs.cat_file(path, **part), FileNotFoundError))
        except FileNotFoundError:
            return None

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Return several files by `path`, read at once where the store can; those that are gone are left out."""
        if not paths:
            return {}
        found = self.attempt("reading", lambda: self._whole(self._fs.cat(list(paths), on_error="return")))
        return {path: data for path, data in found.items() if isinstance(data, bytes)}

    @staticmethod
    def _whole(found: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raise the first failure that is not a file's absence."""
        for data in found.values():
            if isinstance(data, BaseException) and not isinstance(data, FileNotFoundError):
                raise data
        return found

    def write(self, data: bytes, *names: str) -> None:
        """Create or replace a file at one stroke."""
        path = self.path(*names)
        self._place(path)
        self.attempt("writing", lambda: self._fs.pipe_file(path, data))

    def create(self, data: bytes, *names: str) -> bool:
        """Create a file; return False where there is one already."""
        path = self.path(*names)
        self._place(path)
        try:
            with _CREATING:  # in memory, looking and writing are two steps
                self.attempt("writing", lambda: self._fs.pipe_file(path, data, mode="create"), FileExistsError)
        except FileExistsError:
            return False
        return True

    def _place(self, path: str) -> None:
        """Make the folders above a file, where a file system has such things; object stores have none."""
        if not hasattr(self._fs, "async_impl") or not self._fs.async_impl:
            self.attempt("writing", lambda: self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True))

    def remove(self, *names: str) -> None:
        """Remove a file, if it is there."""
        path = self.path(*names)
        try:
            self.attempt("removing", lambda: self._fs.rm_file(path), FileNotFoundError)
        except FileNotFoundError:
            return

    def sizes(self, *names: str) -> dict[str, int]:
        """Return the size of every file below a folder, by its name there; one request per 1000 files."""
        folder = self.path(*names)
        try:
            found = self.attempt("listing", lambda: self._fs.find(folder, detail=True), FileNotFoundError)
        except FileNotFoundError:
            return {}
        return {str(path)[len(folder) + 1 :]: int(info.get("size") or 0) for path, info in found.items()}

    def modified(self, *names: str) -> float | None:
        """Return when a file was written, by the store's clock; None where it is absent."""
        path = self.path(*names)
        try:
            return float(self.attempt("looking up", lambda: self._fs.modified(path), FileNotFoundError).timestamp())
        except FileNotFoundError:
            return None

    def upload(self, source: Path, *names: str) -> None:
        """Put a file, or a folder and all that is in it."""
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file():
                self._put(path, self.path(*names, *(path.relative_to(source).parts if source.is_dir() else ())))

    def _put(self, source: Path, path: str) -> None:
        self._place(path)
        self.attempt("writing", lambda: self._fs.put_file(str(source), path))

    def download(self, target: Path, *names: str) -> bool:
        """Fetch a file, replacing ``target`` at one stroke; return False, and remove it, where there is none."""
        path, draft = self.path(*names), target.with_name(f".{target.name}.{os.getpid()}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.attempt("reading", lambda: self._fs.get_file(path, str(draft)), FileNotFoundError)
        except FileNotFoundError:
            draft.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
            return False
        draft.replace(target)
        return True


class RemoteShelf:
    """A shelf at a URL."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote, self._name = remote, name

    def names(self) -> list[str]:
        """Return the names of all files."""
        return [name for name in self._remote.sizes(self._name) if "/" not in name and not name.startswith(".")]

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None."""
        return self._remote.read(self._name, name)

    def read_all(self) -> dict[str, bytes]:
        """Return all files by name."""
        paths = {self._remote.path(self._name, name): name for name in self.names()}
        return {paths[path]: data for path, data in self._remote.read_many(list(paths)).items()}

    def create(self, name: str, data: bytes) -> bool:
        """Create a file, unless it is there."""
        return self._remote.create(data, self._name, name)

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file."""
        self._remote.write(data, self._name, name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._remote.remove(self._name, name)

    def modified(self, name: str) -> float | None:
        """Return when a file was written."""
        return self._remote.modified(self._name, name)

    def excludes(self) -> bool:
        """Whether creation is exclusive here: whether the second of two with the same name is refused."""
        name = f"probe-{os.getpid()}-{time.time_ns()}"
        first, second = self.create(name, b"1"), self.create(name, b"2")
        self.remove(name)
        return first and not second
