"""The documents: verbs, links, the study of the README, and the index of studies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyperscale.cli import main
from hyperscale.study import load_study

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")] if ".venv" not in path.parts)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link or picture of a document exists."""
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_every_verb_is_in_the_readme() -> None:
    """The README shows each verb of the command line."""
    text = (ROOT / "README.md").read_text()
    for verb in main.commands:
        assert re.search(rf"^hyperscale {verb}\b", text, flags=re.MULTILINE), verb


def test_the_readme_s_study_loads_and_is_sound(tmp_path: Path) -> None:
    """The study file shown in the README is one: 16 settings, 3 seeds."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "readme.py"
    path.write_text(block)
    assert len(load_study(path).study.trials()) == 48


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(path: Path) -> None:
    """No document holds a word in capitals with an underscore, outside code: a placeholder that was forgotten."""
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL)
    assert not re.findall(r"\b[A-Z]+_[A-Z]+\b|\bVERDICTS\b", text)


def test_every_study_is_in_the_index() -> None:
    """studies/README.md lists every study file with a link."""
    text = (ROOT / "studies" / "README.md").read_text()
    for path in ROOT.glob("studies/**/*.py"):
        assert f"({path.relative_to(ROOT / 'studies')})" in text, path


def test_constraints_name_no_place() -> None:
    """constraints.txt holds names and versions only."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line), line
