"""Fields of settings, parts, claims and studies given all sorts of values: a clear error, or a study that plans."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hyperscale.console import pack_rows
from hyperscale.errors import HyperscaleError
from hyperscale.identity import canonical, canonical_text, sha256
from hyperscale.packing import make_packs
from hyperscale.settings.setting import Setting
from hyperscale.study import Study
from hyperscale.training.stages import Stages
from tests.fuzz.endings import Ending, check_message, examples, judge
from tests.fuzz.specimens import POOL, ROOTS, parts, public_dataclasses
from tests.fuzz.values import odd_values

Path = tuple[str | int, ...]
"""Where in a specimen a value lies: names of fields, and places in tuples."""


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the place of every field and every entry of a tuple, at any depth."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield (*path, field.name)
            yield from places(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield (*path, index)
            yield from places(item, (*path, index))


def with_value(root: Any, path: Sequence[str | int], value: Any) -> Any:
    """Return ``root`` made anew by its constructors with another value at ``path``."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        return (*root[:step], with_value(root[step], rest, value), *root[step + 1 :])
    inner = with_value(getattr(root, step), rest, value)
    if isinstance(root, Stages):
        return Stages(*inner) if isinstance(inner, tuple) else Stages(inner)
    return dataclasses.replace(root, **{step: inner})


PLACES = {name: list(places(root)) for name, root in ROOTS.items()}
CLASSES = {type(part).__name__ for part in POOL}


def at(root: Any, path: Path) -> Any:
    """Return what lies at ``path``."""
    for step in path:
        root = root[step] if isinstance(step, int) else getattr(root, step)
    return root


def neighbours(value: Any) -> list[Any]:
    """Return values of the same type that might do as well as this one, or not."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, 2 * value, 7 * value + 3, 1000 * value, 10**6 + value, -value, value / 3]
    if isinstance(value, tuple):
        return [(*value, *value), value[1:], value[:1], value[::-1], (*value, 7), list(value)]
    same = [part for part in POOL if type(part).__mro__[-2:-1] == type(value).__mro__[-2:-1]]
    return [*same, None, value]


def names_of(root: Any, path: Path) -> set[str]:
    """Return the words one of which an error about ``path`` must hold: the field or entry, or what it belongs to."""
    names = {step for step in path if isinstance(step, str)}
    return names | {type(at(root, path[:length])).__name__ for length in range(len(path) + 1)}


def check_names(text: str, root: Any, path: Path, value: Any) -> None:
    """Check that an error says which field or object it is about."""
    words = names_of(root, path) | {type(value).__name__}
    assert any(word in text for word in words), f"{text} names none of {sorted(words)}"


def check_setting(setting: Setting) -> None:
    """Check that the setting's identity is stable and that it can be tabulated and costed."""
    data = canonical(setting)
    assert json.loads(canonical_text(data)) == data
    assert setting.digest() == sha256(data) == sha256(json.loads(canonical_text(data)))
    assert dataclasses.replace(setting).digest() == setting.digest(), "the constructor changes what it made itself"
    for name, value in setting.columns().items():
        assert isinstance(name, str)
        assert isinstance(value, str | int | float), (name, value)
        assert not isinstance(value, float) or math.isfinite(value), (name, value)
    json.dumps(setting.columns(), allow_nan=False).encode()
    cost = dataclasses.asdict(setting.cost())
    assert all(math.isfinite(value) and value >= 0 for value in cost.values()), cost
    setting.program_key().encode()


def check_study(study: Study) -> None:
    """Check every setting, and that the study is packed and planned as plain JSON."""
    for setting in study.settings:
        check_setting(setting)
    trials = study.trials(1)
    packs = make_packs(trials, workers=2)
    assert sum(len(pack.trials) for pack in packs) == len(trials)
    json.dumps(pack_rows(packs), allow_nan=False)
    for claim in study.claims:
        hash(claim)
        claim.title.encode()
        text = repr(claim)
        text.encode()


def build(root: Any, path: Path, value: Any) -> Ending:
    """Construct the mutated specimen, and use it as `plan` would."""
    try:
        made = with_value(root, path, value)
        study = made
        if isinstance(made, Setting):
            study = Study(name="mutated", settings=[made], seeds=[0], metrics=made.metric_names()[:1])
        check_study(study)
    except HyperscaleError as problem:
        check_message(str(problem))
        check_names(str(problem), root, path, value)
        return Ending.CLEAR_ERROR
    return Ending.RIGHT_ANSWER


class Mutation:
    """A specimen by its name, a place in it, and what is put there; told in a line, however large the value."""

    def __init__(self, name: str, path: Path, value: Any) -> None:
        self.name, self.path, self.value = name, path, value

    def __repr__(self) -> str:
        try:
            text = repr(self.value)
        except ValueError as problem:  # an integer of thousands of digits
            text = f"<{problem}>"
        return f"Mutation({self.name!r}, {self.path!r}, {text[:300]}: {type(self.value).__name__})"


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Draw a specimen, a place in it, and what is put there."""
    name = draw(st.sampled_from(sorted(ROOTS)))
    path = draw(st.sampled_from(PLACES[name]))
    if draw(st.booleans()):
        return Mutation(name, path, draw(st.sampled_from(neighbours(at(ROOTS[name], path)))))
    value = draw(st.one_of(odd_values(), odd_values(), odd_values(), st.sampled_from(POOL)))
    if draw(st.integers(0, 7)) == 0:
        value = (value,)
    return Mutation(name, path, value)


@examples(250, fuzzed=5000)
@given(mutation=mutations())
def test_a_field_is_refused_in_words_or_works(mutation: Mutation) -> None:
    """A value in any field of a study gives a `HyperscaleError` naming the place, or a study with sound identities."""
    judge("study fields", lambda: build(ROOTS[mutation.name], mutation.path, mutation.value), seconds=10)


def test_the_specimens_are_sound_and_hold_every_public_kind() -> None:
    """A dataclass that study files may use and that no specimen holds would go unmutated."""
    for root in ROOTS.values():
        check_study(root) if isinstance(root, Study) else check_setting(root)
    held = {type(part).__name__ for root in ROOTS.values() for part in parts(root)}
    assert not sorted(set(public_dataclasses()) - held), "add a specimen of these to tests/fuzz/specimens.py"
