"""What of a project goes to a cluster: its root, the files that belong, and one archive of them."""

from __future__ import annotations

import fnmatch
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from hyperscale.errors import StudyError

MOST_FILES = 20_000
LARGE_SHARE = 0.25
"""A file above this share of the upload's limit is left out, and named."""

_ROOT_SIGNS = ("pyproject.toml", ".git")
_NEVER = {
    ".git", ".hg", ".svn", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache",
    ".hypothesis", ".ipynb_checkpoints", ".tox", ".nox", "node_modules", "mlruns", "mlflow.db", ".DS_Store",
}  # fmt: skip
_COMPILED = ("*.pyc", "*.pyo", "*.egg-info")
_SECRETS = (".env", ".env.*", ".netrc", "*.pem", "*.key", "id_rsa*", "id_ed25519*", "auth_token", ".pgpass")
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """The files of a project that a job needs (path below ``root``, bytes), and what was left out, with the reason.

    Of what was left out only the surprising is listed: large files, secrets, links. Caches and the like are not.
    """

    root: Path
    files: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of all files together, before they are compressed."""
        return sum(size for _, size in self.files)

    def write_archive(self, path: Path) -> None:
        """Write the files as a ZIP that is byte for byte the same for the same files, so that it is sent once."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, _ in self.files:
                source = self.root / name
                entry = zipfile.ZipInfo(name, date_time=_FIRST_DATE)
                entry.external_attr = (source.stat().st_mode & 0xFFFF) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, source.read_bytes())


def find_root(study: Path) -> Path:
    """Return the nearest folder above ``study`` that holds a pyproject.toml or a .git."""
    for folder in study.resolve().parents:
        if any((folder / sign).exists() for sign in _ROOT_SIGNS):
            return folder
    raise StudyError(
        f"{study}: no folder above it holds a pyproject.toml or a .git, so what to send with it is unclear. "
        "Say so with --working-dir FOLDER."
    )


def study_below(study: Path, root: Path) -> str:
    """Return where the study lies below ``root``, or raise `StudyError`."""
    try:
        return study.resolve().relative_to(root).as_posix()
    except ValueError:
        raise StudyError(
            f"{study} does not lie in the working directory {root}, which is what the cluster gets. "
            "Give --working-dir a folder that contains the study."
        ) from None


def gather_project(root: Path, study: Path, *, limit_bytes: int, excludes: Iterable[str] = ()) -> Project:
    """Return the files of ``root`` to send, with the study always among them.

    Left out are version control, virtual environments, caches, results stores, what .gitignore and .rayignore files
    or ``excludes`` name (in git's patterns), links out of the project, files that look like secrets, and single files
    above a quarter of ``limit_bytes``. Raises `StudyError` where the rest is too large or too much.
    """
    study_name = study_below(study, root)
    large_bytes = int(limit_bytes * LARGE_SHARE)
    files: list[tuple[str, int]] = []
    left_out: list[tuple[str, str]] = []
    for name, refusal in _walk(root, GitIgnoreSpec.from_lines(excludes)):
        if name == study_name:
            continue
        size = (root / name).stat().st_size if not refusal else 0
        if not refusal and size > large_bytes:
            refusal = f"{_mebibytes(size)}, above {_mebibytes(large_bytes)}"
        if refusal:
            left_out.append((name, refusal))
        else:
            files.append((name, size))
        if len(files) > MOST_FILES:
            raise StudyError(
                f"{root} holds more than {MOST_FILES:,} files to send. Name the project's own folder with "
                "--working-dir, or list what the study does not need in .gitignore or .rayignore."
            )
    files.append((study_name, study.stat().st_size))
    project = Project(root=root, files=tuple(sorted(files)), left_out=tuple(left_out))
    if project.size_bytes > limit_bytes:
        raise StudyError(_too_large(project, limit_bytes))
    return project


def _too_large(project: Project, limit_bytes: int) -> str:
    largest = sorted(project.files, key=lambda file: -file[1])[:5]
    listing = ", ".join(f"{name} ({_mebibytes(size)})" for name, size in largest)
    return (
        f"{project.root}: {len(project.files):,} files of {_mebibytes(project.size_bytes)} together are more than the "
        f"{_mebibytes(limit_bytes)} that may be sent. The largest: {listing}. List what the study does not need in "
        ".gitignore or .rayignore, name a smaller folder with --working-dir, or allow more with --max-upload."
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _walk(root: Path, excludes: GitIgnoreSpec) -> Iterator[tuple[str, str]]:
    """Yield every file that may belong, and a reason where it is left out all the same."""
    rules = [(PurePosixPath(), excludes)]
    for here, folders, names in os.walk(root):
        folder = PurePosixPath(Path(here).relative_to(root).as_posix())
        rules = [rule for rule in rules if folder.is_relative_to(rule[0])]
        rules += [(folder, spec) for spec in _ignore_files(Path(here))]
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and _is_own(Path(here) / name))
        folders[:] = [name for name in folders if not _ignored(folder / name, rules, "/")]
        for name in sorted(links):
            if _is_own(Path(here) / name) and not _ignored(folder / name, rules, ""):
                yield (folder / name).as_posix(), "a link to a folder"
        for name in sorted(names):
            if _is_own(Path(here) / name) and not _ignored(folder / name, rules, ""):
                yield (folder / name).as_posix(), _refusal(Path(here) / name, root)


def _ignore_files(folder: Path) -> Iterator[GitIgnoreSpec]:
    for name in (".gitignore", ".rayignore"):
        path = folder / name
        if path.is_file():
            yield GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8", errors="replace").splitlines())


def _ignored(path: PurePosixPath, rules: Iterable[tuple[PurePosixPath, GitIgnoreSpec]], ending: str) -> bool:
    return any(spec.match_file(path.relative_to(folder).as_posix() + ending) for folder, spec in rules)


def _is_own(path: Path) -> bool:
    """Whether a file or folder is the project's own, rather than a cache, an environment or a store of results."""
    if path.name in _NEVER or any(fnmatch.fnmatch(path.name, pattern) for pattern in _COMPILED):
        return False
    if path.is_symlink() or not path.is_dir():
        return True
    environment = (path / "pyvenv.cfg").exists() or (path / "conda-meta").exists()
    cache = (path / "CACHEDIR.TAG").exists()
    store = (path / "journal").is_dir() and any((path / "journal").glob("*.jsonl"))
    return not (environment or cache or store)


def _refusal(path: Path, root: Path) -> str:
    """Return why a file must not be sent, or nothing."""
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in _SECRETS):
        return "looks like a secret; --env passes one on"
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "a link out of the project"
    if not path.is_file():
        return "not a plain file"
    return "" if os.access(path, os.R_OK) else "not readable"


def check_store(text: str) -> None:
    """Raise `StudyError` unless ``text`` is an absolute path or a URL."""
    if not re.match(r"[a-z][a-z0-9+.-]*://", text) and not PurePosixPath(text).is_absolute():
        raise StudyError(
            f"--store is {text!r}; allowed: an absolute path that the cluster's nodes see, such as /shared/results, or "
            "a URL such as s3://bucket/results. A job runs in a temporary folder, where a relative path would be lost."
        )


def check_no_password(words: Iterable[str]) -> None:
    """Raise `StudyError` where one of the words is a URL with a password, without repeating it."""
    for word in words:
        match = re.match(r"([A-Za-z0-9+.-]+)://[^/@]*:[^/@]*@", word)
        if match:
            raise StudyError(
                f"An address beginning {match.group(1)}:// holds a password, which the cluster would show in the job's "
                "command line. Leave it out there and pass the secret on as a variable: --env NAME, such as "
                "MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
