"""YAML that `submit` reads, mutated: the files of cluster/ and a runtime environment. A mapping, or one paragraph."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperscale.errors import HyperscaleError
from tests.fuzz.endings import Ending, check_message, examples, judge

submission = pytest.importorskip("hyperscale.submission")

_ENVIRONMENT = """pip: [einops, "timm==1.0"]
env_vars:
  WANDB_MODE: offline
  DEPTH: "3"
excludes: ["*.pt", data/]
"""
_FILES = sorted((Path(__file__).parents[2] / "cluster").rglob("*.yaml"))
_TEXTS = (_ENVIRONMENT, _ENVIRONMENT, _ENVIRONMENT, *(path.read_text() for path in _FILES))
_PIECES = (
    "!!python/object/apply:os.mkdir [ran]", "!!python/name:os.system", "&a [*a]", "*a", "{", "}", "[", ": ",
    "- ", "\t", "---\n",
    "...\n", "null", "yes", "3", ".nan", ".inf", "2026-01-01", "9" * 5000, "[" * 3000, "? ", "!!binary x",
    "!!set {a}", "\x00",
    "\ud800", "%YAML 9", "env_vars: 3\n", "env_vars: {A: 3}\n", "excludes: x\n", "working_dir: .\n", "1: 2\n",
    "名: 前\n",
    "a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "'", '"', "|\n", ">\n", "#", "\u2028", "<<: {a: 1}\n", "<<: 3\n",
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a YAML file with pieces put in, lines taken out or doubled."""
    text = draw(st.sampled_from(_TEXTS))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            at = draw(st.integers(0, len(text)))
            text = text[:at] + draw(st.sampled_from(_PIECES)) + text[at + draw(st.sampled_from((0, 0, 1, 9))) :]
        else:
            lines = text.splitlines(keepends=True)
            at = draw(st.integers(0, len(lines)))
            text = "".join([*lines[:at], draw(st.sampled_from(_PIECES)), *lines[at + draw(st.integers(0, 1)) :]])
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "latin-1", "utf-16")))
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


def read(data: bytes) -> Ending:
    """Read the file as `submit --runtime-env` does: nothing runs, and what comes back can be sent as JSON."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "environment.yaml"
        path.write_bytes(data)
        try:
            environment, excludes = submission.make_runtime_env(path, ())
        except HyperscaleError as problem:
            check_message(str(problem))
            return Ending.CLEAR_ERROR
        finally:
            assert not Path("ran").exists(), "a YAML file ran code"
        json.dumps(environment, allow_nan=False).encode()
        assert all(isinstance(pattern, str) for pattern in excludes)
        assert all(isinstance(text, str) for pair in environment["env_vars"].items() for text in pair)
    return Ending.RIGHT_ANSWER


@examples(60, fuzzed=600)
@given(data=texts())
def test_any_yaml_is_an_environment_or_refused(data: bytes) -> None:
    """Tags that would run code run none; NaN, dates and loops, which no job server takes, are refused in words."""
    judge("YAML files", lambda: read(data))
