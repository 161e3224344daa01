"""What of a project is sent to a cluster: nothing that is a cache, a result or a secret, and nothing too large."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from hyperscale.dispatch.upload import MOST_FILES, check_no_password, check_store, find_root, gather_project
from hyperscale.errors import StudyError

LIMIT = 1_000_000


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with all that should stay behind, and six files that should go."""
    root = tmp_path / "project"
    write(
        root,
        {
            "pyproject.toml": "",
            "studies/tiny.py": "study",
            "studies/data/points.csv": "1,2",
            "package/__init__.py": "",
            ".gitignore": "*.log\n/build/\n",
            "package/.gitignore": "generated/\n!kept.log\n",
            "package/generated/a.py": "x",
            "package/b.log": "x",
            "build/lib.py": "x",
            ".git/config": "x",
            "package/__pycache__/a.pyc": "x",
            "env/pyvenv.cfg": "x",
            "env/lib/site.py": "x",
            "cache/CACHEDIR.TAG": "x",
            "cache/big": "x",
            "my results/journal/launch.jsonl": "{}",
            "my results/mlflow.db": "x",
            "mlruns/0/meta.yaml": "x",
            "notes.txt": "x",
        },
    )
    return root


def test_only_the_project_s_own_files_go(project: Path) -> None:
    """No version control, environment, cache, store, and nothing that .gitignore files or `excludes` name."""
    sent = gather_project(project, project / "studies/tiny.py", limit_bytes=LIMIT, excludes=["notes.*"])
    assert [name for name, _ in sent.files] == [
        ".gitignore", "package/.gitignore", "package/__init__.py", "pyproject.toml", "studies/data/points.csv",
        "studies/tiny.py",
    ]  # fmt: skip
    assert sent.left_out == ()


def test_the_study_goes_even_where_it_is_ignored(project: Path) -> None:
    """A study that .gitignore names is sent all the same, once."""
    write(project, {".rayignore": "studies/\n"})
    sent = gather_project(project, project / "studies/tiny.py", limit_bytes=LIMIT)
    assert [name for name, _ in sent.files].count("studies/tiny.py") == 1
    assert "studies/data/points.csv" not in dict(sent.files)


def test_what_is_left_out_against_expectation_is_named(project: Path, tmp_path: Path) -> None:
    """Secrets, large files and links out of the project stay behind, each with its reason."""
    write(project, {".env": "PASSWORD=x", "tls/server.pem": "x", "large.bin": "x" * (LIMIT // 4 + 1)})
    write(tmp_path, {"outside.txt": "private", "folder/file": "x"})
    (project / "link.txt").symlink_to(tmp_path / "outside.txt")
    (project / "linked").symlink_to(tmp_path / "folder")
    (project / "inner.txt").symlink_to(project / "notes.txt")
    sent = gather_project(project, project / "studies/tiny.py", limit_bytes=LIMIT)
    reasons = dict(sent.left_out)
    assert set(reasons) == {".env", "tls/server.pem", "large.bin", "link.txt", "linked"}
    assert "secret" in reasons[".env"]
    assert "secret" in reasons["tls/server.pem"]
    assert "0.2 MiB" in reasons["large.bin"]
    assert "link" in reasons["link.txt"]
    assert "inner.txt" in dict(sent.files)


def test_too_much_is_refused_and_the_largest_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how much, the limit, the largest files and four ways out; too many files are refused too."""
    write(project, {f"data/part{number}.bin": "x" * (200_000 + number) for number in range(6)})
    with pytest.raises(StudyError, match=r"1\.1 MiB together.*1\.0 MiB.*data/part5\.bin.*--max-upload") as caught:
        gather_project(project, project / "studies/tiny.py", limit_bytes=LIMIT)
    assert "part0" not in str(caught.value)
    assert MOST_FILES >= 10_000
    monkeypatch.setattr("hyperscale.dispatch.upload.MOST_FILES", 5)
    with pytest.raises(StudyError, match="more than 5 files"):
        gather_project(project, project / "studies/tiny.py", limit_bytes=10 * LIMIT)


def test_the_archive_is_the_same_for_the_same_files(project: Path, tmp_path: Path) -> None:
    """Two archives are byte for byte equal, whatever the files' dates, and hold what the project holds."""
    sent = gather_project(project, project / "studies/tiny.py", limit_bytes=LIMIT)
    sent.write_archive(tmp_path / "a.zip")
    (project / "notes.txt").write_text("x")
    sent.write_archive(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [name for name, _ in sent.files]
        assert archive.read("studies/data/points.csv") == b"1,2"


def test_the_root_is_the_nearest_project(project: Path, tmp_path: Path) -> None:
    """The nearest folder with a pyproject.toml or .git; none, or a study outside, is an error that says what to do."""
    assert find_root(project / "studies/tiny.py") == project
    write(project, {"studies/.git/config": ""})
    assert find_root(project / "studies/tiny.py") == project / "studies"
    write(tmp_path, {"alone/study.py": ""})
    with pytest.raises(StudyError, match="--working-dir"):
        find_root(tmp_path / "alone/study.py")
    with pytest.raises(StudyError, match="does not lie in"):
        gather_project(project, tmp_path / "alone/study.py", limit_bytes=LIMIT)


@pytest.mark.parametrize("store", ["/shared/results", "s3://bucket/results", "gs://bucket", "file:///shared"])
def test_stores_that_a_job_can_keep(store: str) -> None:
    """Absolute paths and URLs pass."""
    check_store(store)


@pytest.mark.parametrize("store", ["results", "./results", "~/results", "", "C:results", "s3:/bucket"])
def test_stores_that_would_be_lost_are_refused(store: str) -> None:
    """A path in the job's temporary folder would vanish with it."""
    with pytest.raises(StudyError, match="temporary folder"):
        check_store(store)


def test_a_password_on_the_command_line_is_refused_without_repeating_it() -> None:
    """The cluster shows a job's command line."""
    check_no_password(["--tracking-uri", "https://mlflow.example:5000", "a:b@c", "s3://user@bucket"])
    with pytest.raises(StudyError, match="postgresql://") as caught:
        check_no_password(["--tracking-uri", "postgresql://user:hunter2@db/mlflow"])
    assert "hunter2" not in str(caught.value)
