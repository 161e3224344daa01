"""A study's report in MLflow: its error-against-N curves as runs, its pages and figures as artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperscale.errors import RecordingError
from hyperscale.recording import mlflow_layout as layout
from hyperscale.recording.mlflow_connection import check_writable, translated
from hyperscale.recording.mlflow_studies import NOTE, MlflowStudies, now_ms
from hyperscale.recording.secrecy import masked


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingCurve:
    """An error curve: ``points`` are (N, value); ``slope`` is the fitted exponent, with its interval if any."""

    method: str
    metric: str
    points: Sequence[tuple[int, float]]
    slope: float | None = None
    interval: tuple[float, float] | None = None
    size: str = "num_params_primary"


class MlflowReports(MlflowStudies):
    """Keeps reports. A base of `MlflowStore`, which says what the methods promise."""

    def record_curves(self, study_name: str, curves: Sequence[ScalingCurve]) -> None:
        """Show error against N: a run a method, a metric a curve, whose *step is N*; replaces the last ones."""
        check_writable(self.tracking_uri)
        experiment = self._experiment(study_name)
        methods: dict[str, list[ScalingCurve]] = {}
        for curve in curves:
            methods.setdefault(curve.method, []).append(curve)
        with translated(self.tracking_uri):
            outdated = list(self._search(experiment, "tags.kind = 'curve'"))
            for method, same in methods.items():
                self._write_curves(experiment, study_name, method, same)
            for run in outdated:
                self._client().delete_run(run.info.run_id)

    def _write_curves(self, experiment: str, study_name: str, method: str, curves: Sequence[ScalingCurve]) -> None:
        tags = {"kind": "curve", "study": study_name, "method": method, **layout.colour_tag(method)}
        tags[NOTE] = f"Error of {method} against its size. The step of each chart is N: {curves[0].size}."
        points: list[layout.Point] = []
        for curve in curves:
            key = f"scaling/{curve.metric}"
            points += [layout.Point(key=key, value=value, step=int(size)) for size, value in curve.points]
            if curve.slope is not None:
                interval = f" [{curve.interval[0]:.2f}, {curve.interval[1]:.2f}]" if curve.interval else ""
                tags[f"slope of {curve.metric}"] = f"{curve.slope:.2f}{interval}"
        now = now_ms()
        run_id = self._client().create_run(experiment, now, tags, f"{method} against N").info.run_id
        self._log(run_id, points, {}, now)
        self._client().set_terminated(run_id, "FINISHED", now)

    def log_report(self, study_name: str, folder: Path) -> None:
        """Keep a report (report.html, report.json, figures) as artifacts of the study's newest launch."""
        experiment = self._experiment(study_name)
        with translated(self.tracking_uri):
            launches = list(self._search(experiment, "tags.kind = 'launch'"))
            if not launches:
                raise RecordingError(
                    f"MLflow at {masked(self.tracking_uri)} has no launch of study {study_name!r} to attach the "
                    "report to. Run `hyperscale sync` first."
                )
            newest = max(launches, key=lambda run: run.info.start_time or 0)
            self._client().log_artifacts(newest.info.run_id, str(folder), "report")
