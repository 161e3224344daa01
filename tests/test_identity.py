"""Tests of `hyperscale.identity`: every field counts, at full precision, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperscale.errors import StudyError
from hyperscale.identity import canonical, canonical_text, sha256
from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.methods.weight_generator import WeightGenerator
from hyperscale.networks.encoders import FourierEncoder, HatEncoder
from hyperscale.settings.approximation import Approximation
from hyperscale.settings.best_approximation import BestApproximation
from hyperscale.settings.generation import Generation
from hyperscale.settings.lipschitz import LipschitzQuotient
from hyperscale.settings.setting import Setting
from hyperscale.targets.gaussian_mixture import GaussianMixture
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints
from hyperscale.training.constraints import Constraints
from hyperscale.training.descent import Descent
from hyperscale.training.lbfgs import LBFGS
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.schedules import Constant, Cosine, Exponential
from hyperscale.training.stages import Stages
from hyperscale.trial import Trial

GOLDEN = Path(__file__).parent / "golden" / "identity.json"
BALL = SobolevBall(x_dim=1, conditioning_dim=1, levels=3)
SAMPLE = FixedSample(size=40, test_size=20, batch_size=10)
PRODUCT = InnerProduct(x_dim=5, conditioning_dim=4)


def approximation(**fields: Any) -> Approximation:
    """Return a setting with defaults but for the given fields."""
    shared: dict[str, Any] = {"method": Monolithic(primary_widths=(4,)), "target": BALL, **fields}
    return Approximation(**shared)


SETTINGS: dict[str, Setting] = {
    "hypernetwork": approximation(
        method=Hypernetwork(primary_widths=(4,), widths=(3, 3), encoder=HatEncoder(knots=5), bias="hidden"),
        optimizer=Adam(lr=1e-3, weight_decay=0.5, schedule=Cosine(final=0.5)),
    ),
    "embedding": approximation(method=Embedding(primary_widths=(4,), embedding_dim=2), optimizer=SGD(lr=0.5)),
    "monolithic": approximation(target=PRODUCT, points=SAMPLE, optimizer=SGD(lr=0.5, schedule=Exponential(rate=0.5))),
    "per-instance": approximation(method=PerInstance(primary_widths=(4, 2), num_instances=5)),
    "generation": Generation(accuracy_weight=1.5),
    "activated": approximation(
        method=ActivatedEmbedding(primary_widths=(4,), embedding_dim=2, encoder=FourierEncoder(frequencies=8, scale=2))
    ),
    "lipschitz": LipschitzQuotient(method=Monolithic(primary_widths=(4, 3))),
    "best": BestApproximation(
        method=Monolithic(primary_widths=(4,), bias="hidden"),
        target=BALL,
        optimizer=Stages(Descent(optimizer=Adam(lr=1e-3)), LBFGS(), LBFGS(power=8)),
        grid_points=65,
    ),
}
OTHER_WORDS = {
    "activation": "elu",
    "bias": "all",
    "embedding_activation": "relu",
    "initialization": "he_uniform",
    "precision": "float64",
}


def alternatives(value: Any, name: str) -> Iterator[Any]:
    """Yield values that differ a little: one unit, one part in 10^10, another word, one more entry, one field."""
    if isinstance(value, Stages):
        yield Stages(*value.stages, LBFGS())
        for i, stage in enumerate(value.stages):
            for other in alternatives(stage, name):
                yield Stages(*value.stages[:i], other, *value.stages[i + 1 :])
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            for other in alternatives(getattr(value, field.name), field.name):
                yield dataclasses.replace(value, **{field.name: other})
    elif isinstance(value, str):
        yield OTHER_WORDS[name]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + (2 if name == "power" else 1)
    elif isinstance(value, float):
        yield value * (1 + 1e-10) if value else 1e-10
    elif isinstance(value, tuple):
        yield (*value, 7)
        for i, entry in enumerate(value):
            yield (*value[:i], entry + 1, *value[i + 1 :])
    else:
        assert value is None, f"no alternative to {name} = {value!r} is known"
        yield Constraints(max_first_layer=2.0) if name == "constraints" else HatEncoder(knots=3)


def every_field(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (class, field) of a dataclass and of those inside it."""
    for field in dataclasses.fields(value):
        yield type(value).__name__, field.name
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from every_field(inner)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_field_changes_the_digest(name: str) -> None:
    """One field altered anywhere in the setting, by one unit or one part in 10^10, gives another digest."""
    setting = SETTINGS[name]
    altered = list(alternatives(setting, name))
    digests = [other.digest() for other in altered]
    assert setting.digest() not in digests
    assert len(set(digests)) == len({canonical_text(canonical(other)) for other in altered}) == len(altered)
    assert len(altered) >= len(list(every_field(setting))) - 5  # the few fields that hold other dataclasses


@pytest.mark.parametrize("name", SETTINGS)
def test_canonical_form_holds_every_field_and_survives_json(name: str) -> None:
    """Class names and all fields, defaults too, are in the JSON text, and reading it back loses nothing."""
    setting = SETTINGS[name]
    data: Any = canonical(setting)
    text = canonical_text(data)
    assert json.loads(text) == data
    assert canonical_text(json.loads(text)) == text
    assert sha256(json.loads(text)) == setting.digest()

    def check(value: Any, form: Any) -> None:
        assert form["kind"] == type(value).__name__
        assert set(form) == {"kind", *(field.name for field in dataclasses.fields(value))}
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if dataclasses.is_dataclass(inner):
                check(inner, form[field.name])
            if field.name == "stages":
                for stage, stage_form in zip(inner, form["stages"], strict=True):
                    check(stage, stage_form)

    check(setting, data)


def test_a_choice_between_classes_changes_the_digest() -> None:
    """Two classes with the same fields are different choices."""
    digests = {
        approximation(optimizer=Adam(lr=0.1, schedule=schedule)).digest() for schedule in (Constant(), Cosine(final=1))
    }
    digests |= {approximation(optimizer=rule).digest() for rule in (SGD(lr=0.1), Adam(lr=0.1))}
    digests |= {approximation(points=points, target=PRODUCT).digest() for points in (SAMPLE, FixedSample())}
    assert len(digests) == 5  # Adam(lr=0.1) has the constant schedule by default


def test_every_bound_counts() -> None:
    """Constraints with another bound, or the same number for another bound, are another setting."""
    bounds = [Constraints(max_first_layer=1.0), Constraints(max_primary_complexity=1.0)]
    bounds.append(Constraints(max_first_layer=1.0, max_primary_complexity=1.0))
    settings = [SETTINGS["best"], *(dataclasses.replace(SETTINGS["best"], constraints=one) for one in bounds)]  # type: ignore[call-arg]
    assert len({setting.digest() for setting in settings}) == 4
    assert len({setting.program_key() for setting in settings}) == 4


def test_floats_count_at_full_precision() -> None:
    """0.1, 0.1000000001 and the next float after 0.1 are three settings."""
    rates = (0.1, 0.1000000001, 0.1 + 2**-56)
    assert len({approximation(optimizer=Adam(lr=lr)).digest() for lr in rates}) == 3


@pytest.mark.parametrize(
    ("whole", "real"),
    [
        (approximation(optimizer=Adam(lr=1, weight_decay=0)), approximation(optimizer=Adam(lr=1.0, weight_decay=0.0))),
        (
            approximation(optimizer=Adam(lr=0.1, beta1=0, beta2=0, eps=1)),
            approximation(optimizer=Adam(lr=0.1, beta1=0.0, beta2=0.0, eps=1.0)),
        ),
        (
            approximation(optimizer=SGD(lr=0.1, momentum=0, schedule=Cosine(final=0))),
            approximation(optimizer=SGD(lr=0.1, momentum=0.0, schedule=Cosine(final=0.0))),
        ),
        (
            approximation(optimizer=SGD(lr=0.1, schedule=Exponential(rate=1))),
            approximation(optimizer=SGD(lr=0.1, schedule=Exponential(rate=1.0))),
        ),
        (Generation(accuracy_weight=2, norm_penalty=1), Generation(accuracy_weight=2.0, norm_penalty=1.0)),
        (
            approximation(method=Hypernetwork(primary_widths=(4,), encoder=FourierEncoder(scale=2))),
            approximation(method=Hypernetwork(primary_widths=(4,), encoder=FourierEncoder(scale=2.0))),
        ),
        (
            Generation(accuracy_weight=1, generator=WeightGenerator(init_scale=6)),
            Generation(accuracy_weight=1, generator=WeightGenerator(init_scale=6.0)),
        ),
    ],
)
def test_whole_numbers_given_for_reals_are_the_same_setting(whole: Setting, real: Setting) -> None:
    """An integer in a float's place has the float's digest."""
    assert whole.digest() == real.digest()
    assert whole == real


def test_lists_ranges_and_tuples_of_widths_are_the_same_setting() -> None:
    """How a sequence was written does not matter."""
    forms: list[Any] = [[4, 5], (4, 5), range(4, 6)]
    assert len({approximation(method=Monolithic(primary_widths=widths)).digest() for widths in forms}) == 1


def test_a_trials_digest_has_setting_and_seed() -> None:
    """Seeds and settings both change a trial's digest, and nothing else is in it."""
    first, second = approximation(), approximation(steps=7)
    digests = {Trial(setting=setting, seed=seed).digest for setting in (first, second) for seed in (0, 1, 2)}
    assert len(digests) == 6
    expected = sha256({"setting": canonical(first), "seed": 3})
    assert Trial(setting=first, seed=3).digest == Trial(setting=approximation(), seed=3).digest == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), GaussianMixture, b"x", 1j])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    """NaN, infinity, sets, classes, bytes and foreign objects raise an error that says what is allowed."""
    with pytest.raises(StudyError, match="allowed"):
        canonical({"inside": [value]})


def test_text_is_sorted_compact_and_unescaped() -> None:
    """Canonical JSON has sorted keys, no spaces, true, null, and letters as they are."""
    text = canonical_text(canonical({"b": (1, 2.5, None), "a": "λ", "c": True}))
    assert text == '{"a":"λ","b":[1,2.5,null],"c":true}'


def test_digests_are_the_recorded_ones() -> None:
    """Recorded digests of settings of every kind and a trial: a change here makes every finished trial unknown."""
    golden = json.loads(GOLDEN.read_text())
    for name in ("hypernetwork", "generation", "activated", "lipschitz", "best"):
        assert canonical(SETTINGS[name]) == golden[name]["canonical"]
        assert SETTINGS[name].digest() == golden[name]["digest"]
    assert Trial(setting=SETTINGS["hypernetwork"], seed=3).digest == golden["trial"]
    assert FreshPoints() == SETTINGS["hypernetwork"].points  # type: ignore[attr-defined]
