"""Every option of every verb given all sorts of words: it works, or one paragraph says why not."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import click
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from hyperscale.cli import main
from tests.fuzz.commands import CHEAP_STUDY, check, invoke
from tests.fuzz.endings import Ending, examples, judge

_TABLE = "N,loss\n" + "".join(f"{2**i},{2.0**-i}\n" for i in range(3, 9))

_WORDS = (
    "", " ", "x", "nan", "inf", "-1", "0", "1", "2", "0.5", "1e9", "1e400", "9" * 5000, "x" * 5000, "名前",
    "a b", "[bold]",
    "--", "-x", "..", "../..", "/", "/proc/none", "/dev/null", "a\nb", "%s", "{0}", "500MiB",
    "1.5GiB", "MiB", "-1GiB",
    "0x10", "1_000", "1,2", "http://", "://", "auto", "localhost", "999.1.1.1", "127.0.0.1:99999", "table.csv",
    "cheap.py",
)  # fmt: skip
_OPENS_A_NETWORK = {"--address", "--tracking-uri"}
_NEVER = {"--watch", "--follow", "--stop", "--help", "--version", "-h"}
"""What looks on without end, and what click itself answers."""


def _closed_port() -> int:
    """Return a port of the loopback device at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


_NETWORK_WORDS = ("", "x", "://", "ftp://x", "http://", "http://[", "auto:1", "sqlite:", "999.1.1.1:1", "\u202e", "a b")
# Words that come last, and so hold: no server is started, no Ray, no database made, no head looked for.
_LAST: dict[str, tuple[str, ...]] = {
    "run": ("--executor", "in-process", "--no-mlflow"),
    "report": ("--no-mlflow", "--no-pdf"),
    "ui": ("--store", "absent", "--tracking-uri", ""),
    "sync": ("--store", "absent"),
    "submit": ("--address", f"http://127.0.0.1:{_closed_port()}"),
}


def _values(option: click.Parameter) -> st.SearchStrategy[str]:
    """Return words for an option: such as its type allows, and any others."""
    if _OPENS_A_NETWORK & set(option.opts):
        return st.sampled_from(_NETWORK_WORDS)
    own: tuple[str, ...] = ("1", "2")
    if isinstance(option.type, click.Choice):
        own = tuple(str(choice) for choice in option.type.choices if choice != "ray")
    elif isinstance(option.type, click.Path):
        own = ("results", "new/folder", "file.csv", "file.parquet", "cheap.py", "cheap.py/below")
    others = st.text(max_size=6).filter(lambda text: "\x00" not in text)  # no shell can pass it
    return st.one_of(st.sampled_from(own), st.sampled_from(_WORDS), others)


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """Draw a command: a verb, its argument or another, and some of its options with any words."""
    verb = draw(st.sampled_from(sorted(main.commands)))
    command = main.commands[verb]
    words = [verb]
    for argument in (param for param in command.params if isinstance(param, click.Argument)):
        sound = "table.csv" if argument.name == "table" else "cheap.py"
        words.append(draw(st.sampled_from((sound, sound, sound, sound, draw(st.sampled_from(_WORDS))))))
    options = [p for p in command.params if isinstance(p, click.Option) and not _NEVER & set(p.opts)]
    required = [option for option in options if option.required]
    for option in [*required, *draw(st.lists(st.sampled_from(options), max_size=3))]:
        words.append(draw(st.sampled_from(option.opts)))
        if not option.is_flag:
            words.append(draw(_values(option)))
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(1, len(words))), draw(st.sampled_from(_WORDS)))
        return [*words, *_LAST.get(verb, ())]
    told = any("--json" in option.opts for option in options) and draw(st.booleans())
    return [*words, *_LAST.get(verb, ()), *(["--json"] if told else [])]


def try_out(words: list[str]) -> Ending:
    """Run the command in a folder of its own, which holds the study and a table."""
    with tempfile.TemporaryDirectory() as name:
        before = Path.cwd()
        os.chdir(name)
        try:
            Path("cheap.py").write_text(CHEAP_STUDY)
            Path("table.csv").write_text(_TABLE)
            shown: Result = invoke(words)
        finally:
            os.chdir(before)
    return check(shown, as_json=words[-1] == "--json" and "--" not in words, given=4 * sum(map(len, words)))


@examples(60, fuzzed=700)
@given(words=commands())
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    """Exit code 0, 1 or 2, no traceback, nothing on standard output but results, JSON that parses."""
    judge("command lines", lambda: try_out(words), seconds=60)


def test_a_verb_that_was_forgotten_is_mutated_too() -> None:
    """The verbs are click's own, so that a new one is included; the words that come last are of verbs there are."""
    assert {"plan", "run", "status", "report", "export", "sync", "ui", "fit"} <= set(main.commands)
    assert set(_LAST) - {"submit"} <= set(main.commands)
