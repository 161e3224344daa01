"""Study files: Python made of frozen dataclasses, loaded with errors a person can act on."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import itertools
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from hyperscale.claims import Calibration, Claim, ScalingRate
from hyperscale.errors import HyperscaleError, StudyError, brief, check_choice, did_you_mean, told
from hyperscale.settings.setting import Setting
from hyperscale.trial import Trial

_NAME = re.compile(r"(?!(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$))[a-z0-9]([a-z0-9._-]{0,78}[a-z0-9_-])?")
_MOST_ENTRIES = 10**6
PER_TRIAL, PER_SETTING = "per_trial", "per_setting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A set of settings, the seeds to run each from, and what is expected of the results.

    ``metrics`` are the ones the report shows, most important first; ``claims`` are judged by
    `analysis.judging.checks`. Whatever describes hardware is absent: what is computed is apart from how.

    ``mlflow_runs`` says what a run in MLflow shows: one trial (``"per_trial"``), or one setting with the mean, the
    spread and a table of its seeds (``"per_setting"``, for studies too large to look at trial by trial). It is no
    part of any trial's identity; where it changes, the next `run` or `sync` turns the study's runs into the other
    form.
    """

    name: str
    settings: Sequence[Setting]
    seeds: Sequence[int]
    metrics: Sequence[str]
    claims: Sequence[Claim] = ()
    mlflow_runs: str = PER_TRIAL

    def __post_init__(self) -> None:
        """Freeze the sequences and check every field, so that nothing wrong gets as far as a machine."""
        for name in ("settings", "seeds", "metrics", "claims"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                wanted = f"range({brief(value)})" if name == "seeds" else f"[{brief(value)}] for one entry"
                raise StudyError(f"Study.{name} is {brief(value)}; allowed: a list. Write {wanted}.")
            object.__setattr__(self, name, _entries(name, value))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise StudyError(
                f"Study.name is {brief(self.name)}; allowed: 1 to 80 lower-case letters, digits, '.', '_' and '-', "
                "beginning with a letter or digit and not ending in '.', because it names a folder and an MLflow "
                "experiment; nor may it be a device of Windows (con, nul, com1, ...)."
            )
        check_choice("Study.mlflow_runs", self.mlflow_runs, (PER_TRIAL, PER_SETTING))
        _check_settings(self)
        _check_seeds(self)
        _check_metrics(self)
        columns = _columns(self) if self.claims else {}
        for claim in self.claims:
            _check_claim(self, claim, columns)

    def trials(self, num_seeds: int | None = None) -> list[Trial]:
        """Return setting x seed, settings first; ``num_seeds`` takes the first few seeds only."""
        seeds = self.seeds[:num_seeds] if num_seeds is not None else self.seeds
        return [trial for setting in self.settings for trial in Trial.of_setting(setting, seeds)]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in the order they first appear."""
        return tuple(dict.fromkeys(setting.method_name for setting in self.settings))


def _entries(name: str, given: Iterable[Any]) -> tuple[Any, ...]:
    """Return a field's entries, or raise `StudyError` where they never end or cannot be gone through."""
    try:
        entries = tuple(itertools.islice(given, _MOST_ENTRIES + 1))
    except (TypeError, ValueError) as problem:
        raise StudyError(f"Study.{name} is {brief(given)}, which cannot be read: {problem}. Give a list.") from None
    if len(entries) > _MOST_ENTRIES:
        raise StudyError(f"Study.{name} is {brief(given)}; allowed: at most {_MOST_ENTRIES:,} entries.")
    return entries


def _check_settings(study: Study) -> None:
    if not study.settings:
        raise StudyError(f"Study {study.name!r} has no settings: an empty grid. Give at least one Setting.")
    seen: dict[str, int] = {}
    for index, setting in enumerate(study.settings):
        if not isinstance(setting, Setting):
            raise StudyError(
                f"Study {study.name!r}: settings[{index}] is {brief(setting)}; "
                "allowed: settings such as Approximation(...)."
            )
        first = seen.setdefault(setting.digest(), index)
        if first != index:
            raise StudyError(
                f"Study {study.name!r}: settings[{index}] repeats settings[{first}], field for field: "
                f"{brief(setting)}. "
                "Remove one; seeds are given by Study.seeds, not by repeating a setting."
            )


def _check_seeds(study: Study) -> None:
    if not study.seeds:
        raise StudyError(f"Study {study.name!r} has no seeds; give for example seeds=range(3).")
    for seed in study.seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise StudyError(f"Study {study.name!r}: seed {brief(seed)}; allowed: whole numbers from 0 to 2**63 - 1.")
    if len(set(study.seeds)) < len(study.seeds):
        raise StudyError(f"Study {study.name!r}: a seed is given twice in {brief(list(study.seeds))}; give each once.")


def _metric_names(study: Study, methods: Iterable[str] | None = None) -> tuple[str, ...]:
    wanted = None if methods is None else set(methods)
    names = (s.metric_names() for s in study.settings if wanted is None or s.method_name in wanted)
    return tuple(dict.fromkeys(name for group in names for name in group))


def _check_metrics(study: Study) -> None:
    allowed = _metric_names(study)
    if not study.metrics:
        raise StudyError(f"Study {study.name!r} names no metrics; allowed: {', '.join(allowed)}.")
    for metric in study.metrics:
        if not isinstance(metric, str) or metric not in allowed:
            raise StudyError(
                f"Study {study.name!r}: metrics names {brief(metric)}, which its settings do not report"
                f"{did_you_mean(metric, allowed)}; allowed: {', '.join(allowed)}."
            )


def _columns(study: Study) -> dict[str, list[tuple[str, ...]]]:
    """Return, for each method, the columns of its settings with their metrics: each combination that occurs, once."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for setting in study.settings:
        names = (*setting.metric_names(), *setting.columns())
        found.setdefault(setting.method_name, {})[names] = None
    return {method: list(names) for method, names in found.items()}


def _check_claim(study: Study, claim: object, columns: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    if not isinstance(claim, Claim):
        kinds = ", ".join(kind.__name__ for kind in get_args(Claim))
        raise StudyError(
            f"Study {study.name!r}: a claim is {brief(claim)}; allowed: {kinds}, "
            "or what the functions of analysis.theorems return."
        )
    place = f"Study {study.name!r}: claim {type(claim).__name__} ({claim.title})"
    for method in claim.methods:
        if method not in study.methods:
            raise StudyError(
                f"{place} is about method {method!r}, which is not in the study{did_you_mean(method, study.methods)}; "
                f"its methods: {', '.join(study.methods)}."
            )
    for name in claim.columns:
        for method in claim.methods:
            for allowed in columns[method]:
                if name not in allowed:
                    raise StudyError(
                        f"{place} refers to column {name!r}, which {method} does not have"
                        f"{did_you_mean(name, allowed)}; allowed: {', '.join(allowed)}."
                    )
    if isinstance(claim, ScalingRate) and claim.calibration is not None:
        _check_calibration(study, place, claim.methods[0], claim.calibration)


def _check_calibration(study: Study, place: str, method: str, calibration: Calibration) -> None:
    """Raise unless the calibration picks some of the method's settings, not all, by columns that they have."""
    columns = [setting.columns() for setting in study.settings if setting.method_name == method]
    for name in calibration.where:
        known = list(dict.fromkeys(key for row in columns for key in row))
        if name not in known:
            raise StudyError(
                f"{place}: its calibration names column {name!r}, which no setting of {method} has"
                f"{did_you_mean(name, known)}; allowed: {', '.join(known)}."
            )
    chosen = [row for row in columns if all(row.get(name) == value for name, value in calibration.where.items())]
    wanted = ", ".join(f"{name} = {brief(value)}" for name, value in calibration.where.items())
    if not chosen:
        raise StudyError(f"{place}: its calibration picks no setting of {method} ({wanted}). Add such settings.")
    if len(chosen) == len(columns):
        raise StudyError(
            f"{place}: its calibration picks every setting of {method} ({wanted}), which leaves none for the claim. "
            "Add settings on the target that the claim is about."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFile:
    """A loaded study with the text it came from."""

    study: Study
    description: str
    source: str
    path: Path

    @property
    def headline(self) -> str:
        """The first line of the description."""
        return self.description.strip().splitlines()[0] if self.description.strip() else self.study.name


def load_study(path: str | Path) -> StudyFile:
    """Load the study file at ``path``. Every way it can be wrong raises a one-paragraph `StudyError`."""
    path = Path(path)
    try:
        if not path.is_file():
            raise StudyError(_missing_file(path))
        source = path.read_text(encoding="utf-8")
        description = ast.get_docstring(ast.parse(source, filename=str(path))) or ""
    except OSError as error:
        raise StudyError(f"Study file {brief(str(path))} cannot be read: {error.strerror}.") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        place = f"{path}:{line}" if line else str(path)
        raise StudyError(f"{place}: not valid Python: {told(error)}. Correct the file.") from None
    module = _execute(path)
    if "study" not in module:
        close = did_you_mean("study", [name for name in module if not name.startswith("_")])
        raise StudyError(f"{path}: defines no 'study'{close}. A study file ends with: study = Study(name=..., ...).")
    study = module["study"]
    if not issubclass(type(study), Study):
        kind = type(study).__name__
        raise StudyError(
            f"{path}: 'study' is a {kind}, not a Study. Write study = Study(name=..., settings=[...], ...)."
        )
    return StudyFile(study=study, description=description, source=source, path=path)


def _missing_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("studies")
    found = sorted(folder.rglob("*.py"))[:8] if folder.is_dir() else []
    listing = f" Study files in {folder}: {', '.join(str(p) for p in found)}." if found else ""
    kind = "is a folder, not a file" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
    return f"Study file {str(path)!r} {kind}. Give the path of a Python study file.{listing}"


def _execute(path: Path) -> dict[str, Any]:
    """Run the study file as a module of its own name, so that classes it defines can be pickled by value."""
    name = f"hyperscale_study_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StudyError(f"{path}: not a Python file. A study file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (a study file may raise anything)
        raise StudyError(f"{_place(path, error)}: {_explain(error, vars(module))}") from None
    return vars(module)


def _place(path: Path, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _explain(error: BaseException, names: dict[str, Any]) -> str:
    if isinstance(error, HyperscaleError):
        return str(error)
    text = told(error)
    absent = re.search(r"cannot import name '(\w+)' from '(hyperscale|analysis[.\w]*)'", text)
    if absent:
        import hyperscale

        allowed = hyperscale.__all__ if absent.group(2) == "hyperscale" else ()
        return f"{absent.group(2)} has no {absent.group(1)!r}{did_you_mean(absent.group(1), allowed)}. See README.md."
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    missing = re.search(r"(\w+)\.__init__\(\) missing .*keyword-only", text)
    match = unknown or missing
    cls = _find_class(match.group(1), names) if match else None
    if cls is not None and match is not None:
        allowed = [f.name for f in fields(cls)]
        if unknown:
            given = match.group(2)
            hint = did_you_mean(given, allowed)
            return f"{cls.__name__} has no field {given!r}{hint}; allowed: {', '.join(allowed)}."
        return f"{text}. {cls.__name__} takes: {', '.join(allowed)}."
    return f"the file failed to load: {type(error).__name__}: {text}. Correct the line named here."


def _find_class(name: str, names: dict[str, Any]) -> type | None:
    import hyperscale

    candidates = [*names.values(), *(getattr(hyperscale, public) for public in hyperscale.__all__)]
    return next((c for c in candidates if isinstance(c, type) and c.__name__ == name and is_dataclass(c)), None)
