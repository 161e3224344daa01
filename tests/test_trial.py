"""Trials and their results: digests made once and never carried where they do not belong."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest

from hyperscale.identity import canonical, sha256
from hyperscale.settings import setting as setting_module
from hyperscale.trial import Trial, TrialResult, TrialStatus
from tests.test_journal import Nothing


def test_the_trials_of_a_setting_have_the_digests_of_single_ones() -> None:
    """One canonical text for all seeds gives what each trial gives alone: the canonical JSON of both fields."""
    setting = Nothing(width=3)
    seeds = (0, 1, 7, 2**63 - 1)
    trials = Trial.of_setting(setting, seeds)
    assert trials == [Trial(setting=setting, seed=seed) for seed in seeds]
    for trial, seed in zip(trials, seeds, strict=True):
        wanted = sha256({"setting": canonical(setting), "seed": seed})
        assert trial.digest == Trial(setting=Nothing(width=3), seed=seed).digest == wanted


def test_a_trial_keeps_its_digest_when_it_travels() -> None:
    """A worker need not compute it again; equality and hash do not see it."""
    (trial,) = Trial.of_setting(Nothing(), [5])
    arrived = pickle.loads(pickle.dumps(trial))
    fresh = Trial(setting=Nothing(), seed=5)
    assert arrived._digest == trial.digest
    assert arrived == fresh == trial
    assert hash(arrived) == hash(fresh)
    assert "_digest" not in repr(trial)
    assert replace(trial, seed=6).digest == Trial(setting=Nothing(), seed=6).digest


def test_a_settings_digest_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it is remembered, by the same setting alone."""
    setting = Nothing(width=4)
    digest = setting.digest()
    with monkeypatch.context() as closed:
        closed.setattr(setting_module, "canonical", None)
        assert setting.digest() == digest
    changed = replace(setting, width=5)
    assert changed.digest() == Nothing(width=5).digest() != digest
    for same in (copy.copy(setting), copy.deepcopy(setting), pickle.loads(pickle.dumps(setting))):
        assert not hasattr(same, "_digest")
        assert same == setting
        assert same.digest() == digest


def test_a_result_and_its_json_are_inverse() -> None:
    """Unknown entries, as a later version may write, are ignored."""
    result = TrialResult(
        digest="d", setting_digest="s", seed=1, status=TrialStatus.FINISHED, curves={"train_loss": [[0.0], [1.0]]}
    )
    assert TrialResult.from_json({**result.to_json(), "crc32": "00000000"}) == result
    assert set(result.to_json()) == set(TrialResult.__slots__)
