"""The text of study files mutated: a plan, or one paragraph that says what is wrong with the file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.commands import CHEAP_STUDY as STUDY
from tests.fuzz.commands import check, invoke
from tests.fuzz.endings import Ending, examples, judge

_BODIES = {
    "sound": STUDY,
    "no study": STUDY.replace("study = Study", "stdy = Study"),
    "cut": STUDY[:400],
    "prints": "print('noise')\n" + STUDY,
    "prints to the file": "import sys\nsys.stdout.write('x' * 100_000 + chr(10))\n" + STUDY,
    "raises": STUDY + "\nraise RuntimeError('late')\n",
    "raises in words": STUDY + "\nraise RuntimeError('first\\n\\nsecond ' + 'x' * 100_000)\n",
    "raises half a character": STUDY + "\nraise ValueError('\\ud800')\n",
    "raises without words": STUDY + "\nraise Exception\n",
    "raises what cannot be shown": STUDY
    + "\nclass Mute(Exception):\n    def __str__(self):\n        raise ValueError('mute')\nraise Mute\n",
    "leaves": "raise SystemExit\n",
    "leaves with words": "import sys\nsys.exit('bye')\n",
    "a generator leaves": "raise GeneratorExit\n",
    "interrupted": "raise KeyboardInterrupt\n",
    "recursion": "def f():\n    f()\nf()\n",
    "deep": "x = " + "(" * 300 + ")" * 300 + "\n" + STUDY,
    "deeper": "x = " + "-" * 30_000 + "1\n" + STUDY,
    "a huge number": "x = " + "9" * 5000 + "\n" + STUDY,
    "out of memory": "raise MemoryError('no room')\n",
    "a group": "raise ExceptionGroup('several', [ValueError('a'), TypeError('b')])\n",
    "base group": "raise BaseExceptionGroup('several', [KeyboardInterrupt()])\n",
    "name with separators": STUDY.replace('"cheap"', '"../../cheap"'),
    "name with a null": STUDY.replace('"cheap"', '"a\\x00b"'),
    "name of a dot": STUDY.replace('"cheap"', '".."'),
    "name a number": STUDY.replace('"cheap"', "9" * 4000),
    "study a class": STUDY + "\nstudy = Study\n",
    "study a number": STUDY + "\nstudy = 3\n",
    "study a property": STUDY + "\nclass Odd:\n    __class__ = property(lambda self: 1 / 0)\nstudy = Odd()\n",
    "another subclass": STUDY + "\nclass Other(Study):\n    pass\nstudy = Other(name='o', settings=()"
    ", seeds=(), metrics=())\n",
    "warns": "import warnings\nwarnings.warn('careful')\n" + STUDY,
    "changes the folder": "import os\nos.chdir('/')\n" + STUDY,
    "no docstring": STUDY.split("\n", 2)[2],
    "markup": STUDY.replace("Cheap:", "[/bold] [red"),
    "empty": "",
    "latin-1": "x = 'é'\n",
    "wrong coding": "# -*- coding: no-such -*-\n" + STUDY,
    "tabs": STUDY.replace("    ", "\t").replace("\t\t", "  \t"),
    "async": STUDY + "\nawait study\n",
    "stars": STUDY.replace("range(2)", "[*range(2), *range(2)]"),
}
_EDITS = ("(", ")", "\n", "\x00", "'", '"""', "\\", "é", "\t", "0", "-", "None", "1e999", "*", ",", "=")
_EDITS += ("\ud800", "\x0c", "\u202e")


_NAMES = ("s.py", "s.py", "s.py", "a b.py", "名.py", "s.txt", "s")


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a study file: one of the bodies, often with characters put in, taken out or doubled."""
    text = draw(st.one_of(st.just(STUDY), st.sampled_from(tuple(_BODIES.values()))))
    if len(text) < 3000:
        for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))):
            at = draw(st.integers(0, len(text)))
            text = text[:at] + draw(st.sampled_from(_EDITS)) + text[at + draw(st.sampled_from((0, 0, 1, 5, 40))) :]
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8", "latin-1", "utf-16")))
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


def load(data: bytes, name: str, verb: str) -> Ending:
    """Write the file and ask for its plan or its status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        before = Path.cwd()
        os.chdir(folder)
        try:
            shown = invoke([verb, str(path), "--json", "--store", str(Path(folder) / "results")])
        finally:
            os.chdir(before)
        ending = check(shown, codes=(0, 2, 130), as_json=True)
        left = {entry.name for entry in Path(folder).iterdir()} - {"__pycache__", "results"}
        assert left == {name}, f"files left behind: {left}"
    return ending


@pytest.mark.filterwarnings("ignore")
@examples(60, fuzzed=600)
@given(data=texts(), name=st.sampled_from(_NAMES), verb=st.sampled_from(("plan", "status")))
def test_any_text_is_a_study_or_refused(data: bytes, name: str, verb: str) -> None:
    """A plan or a status as JSON alone on standard output, or a paragraph; and no other file is written."""
    judge("study texts", lambda: load(data, name, verb), seconds=60)
