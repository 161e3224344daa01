"""The executor on Ray Tune: a Tune trial is a pack. The only file that imports Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hyperscale.dispatch.executor import Events, Executor
from hyperscale.dispatch.parcels import RESULTS, Parcel, Reports
from hyperscale.dispatch.probe import device_key_here, device_memory, measure_here
from hyperscale.dispatch.ray_session import check_authenticated, end_own_session, start_own_session
from hyperscale.dispatch.worker import PackWorker, default_device
from hyperscale.errors import HyperscaleError, ResourceError
from hyperscale.packing import DEFAULT_MEMORY_BYTES, Pack, Speed
from hyperscale.settings.setting import Setting
from hyperscale.trial import Trial, TrialResult, TrialStatus

SLICE_S = 1.0
_CONNECT_S = 5.0
_GPU_SHARE = 0.25
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "60",
    "TUNE_GLOBAL_CHECKPOINT_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


def prepare_environment() -> None:
    """Set how Ray behaves, before it is imported; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def check_address(address: str) -> None:
    """Raise `ResourceError` where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise _unreachable(address, "not an address")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as problem:
        raise _unreachable(address, problem.strerror or str(problem)) from problem


def _unreachable(address: str | None, why: str) -> ResourceError:
    where = f"at {address!r}" if address else "on this machine"
    return ResourceError(
        f"Ray could not be reached {where}: {why.splitlines()[0]}. Give --address of a running cluster "
        "(auto, HOST:6379 or ray://HOST:10001), or leave it out to use this machine alone, "
        "or use --executor in-process. A cluster with token authentication wants RAY_AUTH_MODE=token and its token."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one pack asks Ray for. Several packs share a GPU where ``gpus`` is a fraction."""

    cpus: float = 1.0
    gpus: float = 0.0

    def bundle(self) -> dict[str, float]:
        """Return the resources as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}


class RayTune(Executor):
    """Trains every pack as one Tune trial on reused actors, embedded in this machine or on a cluster.

    ``address`` joins a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); without it ``RAY_ADDRESS`` is
    followed, and without that a Ray of its own is started, whatever else runs here. ``gpus_per_pack`` is None for the
    default: a quarter of a GPU where the cluster has any, else none; above 1 it must be whole. A pack whose worker
    dies is retried ``max_failures`` times from its last checkpoint.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus_per_pack: float = 1.0,
        gpus_per_pack: float | None = None,
        max_failures: int = 2,
    ) -> None:
        chosen = address or os.environ.get("RAY_ADDRESS")
        self.address = None if chosen in ("", "local") else chosen
        self.cpus_per_pack = cpus_per_pack
        self.gpus_per_pack = gpus_per_pack
        self.max_failures = max_failures
        self._own_session = False

    def device_key(self) -> str:
        """Return the device of this machine, or of a worker of the cluster that is joined."""
        return str(self._remotely(device_key_here)) if self.address else super().device_key()

    def measure(self, members: Sequence[tuple[Setting, int]], memory_bytes: int) -> Speed | None:
        """Measure here, or on a worker of the cluster that is joined."""
        if self.address:
            _pickle_study_modules_by_value()
            return cast("Speed | None", self._remotely(measure_here, list(members), memory_bytes))
        return super().measure(members, memory_bytes)

    def memory_per_pack(self) -> int:
        """Return a pack's share of a GPU or of this machine's memory; a joined cluster is taken to have 3 GiB."""
        if self.address:
            return DEFAULT_MEMORY_BYTES
        share = self.gpus_per_pack if self.gpus_per_pack is not None else _GPU_SHARE
        if default_device() == "cuda" and share:
            return int(0.9 * min(share, 1.0) * device_memory())
        return super().memory_per_pack()

    def _remotely(self, function: Callable[..., object], *arguments: object) -> object:
        """Call a function on a worker with a pack's resources, joining the cluster first."""
        ray = self._session()
        resources = self._resources(ray.nodes())
        remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(function)
        return ray.get(remote.remote(*arguments))

    def _session(self) -> Any:
        """Return Ray, started or joined; a session that was there before is left as it is found."""
        prepare_environment()
        import ray

        if not ray.is_initialized():
            self._connect()
            self._own_session = True
        return ray

    def workers(self) -> int:
        """One pack per requested share of this machine's cores; a joined cluster is not asked."""
        return max(1, int((os.cpu_count() or 1) / self.cpus_per_pack))

    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Start or join Ray, train the packs, and leave Ray as it was found."""
        ray = self._session()
        scratch = Path(tempfile.mkdtemp(prefix="hyperscale-tune-"))
        try:
            resources = self._resources(ray.nodes())
            _fit(packs, events, checkpoints, resources, self.max_failures, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if self._own_session:
                end_own_session()
                self._own_session = False

    def _connect(self) -> None:
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            check_address(self.address)
            check_authenticated(self.address)
        try:
            # Never without an address: that would join whatever cluster last wrote its own on this machine.
            if self.address:
                ray.init(self.address, **options)
            else:
                start_own_session(num_cpus=os.cpu_count(), **options)
        except HyperscaleError:
            raise
        except Exception as problem:
            raise _unreachable(self.address, str(problem).strip() or type(problem).__name__) from problem

    def _resources(self, nodes: Sequence[Mapping[str, Any]]) -> Resources:
        """Settle what a pack asks for, and check that some node can give it."""
        alive = [node.get("Resources", {}) for node in nodes if node.get("Alive")]
        most_gpus = max((node.get("GPU", 0.0) for node in alive), default=0.0)
        gpus = self.gpus_per_pack if self.gpus_per_pack is not None else (_GPU_SHARE if most_gpus else 0.0)
        resources = Resources(cpus=self.cpus_per_pack, gpus=gpus)
        wanted = resources.bundle()
        if not any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in alive):
            have = "; ".join(f"CPU {node.get('CPU', 0):g}, GPU {node.get('GPU', 0):g}" for node in alive) or "no node"
            asked = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
            raise ResourceError(
                f"A pack asks for {asked}, which no node of the cluster can ever give (nodes: {have}). "
                "Lower --cpus-per-pack or --gpus-per-pack, or join a larger cluster."
            )
        return resources


def _trainable() -> type:
    """Return the Tune trainable of packs; a function, because Ray may only be imported when it is used."""
    from ray import tune

    class PackTrainable(tune.Trainable):  # type: ignore[misc]
        """Trains the pack whose number is in the trial's configuration, a slice per step."""

        def setup(self, config: dict[str, Any], packs: Sequence[Pack], checkpoints: str) -> None:
            import torch

            self._packs, self._checkpoints = packs, checkpoints
            self._device = "cuda" if torch.cuda.is_available() else "cpu"
            self._begin(config)

        def _begin(self, config: Mapping[str, Any]) -> None:
            pack = self._packs[config["pack"]]
            self._worker = PackWorker(pack, device=self._device, checkpoints=Path(self._checkpoints))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._begin(new_config)
            return True

        def step(self) -> dict[str, Any]:
            results = self._worker.advance(SLICE_S)
            report = {"fraction": self._worker.fraction, "done": self._worker.done}
            return {**report, RESULTS: Parcel.of(results)} if results else report

        def cleanup(self) -> None:
            if not self._worker.done:
                self._worker.save()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Keep nothing here: pack checkpoints lie in the store, where the next driver finds them too."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Take up nothing: the worker finds its own checkpoint."""

    return PackTrainable


def _callback(reports: Reports) -> Any:
    """Return the Tune callback that feeds ``reports``."""
    from ray import tune

    class Report(tune.Callback):  # type: ignore[misc]
        def __init__(self, reports: Reports) -> None:
            self.reports = reports

        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
            self.reports.take(trial.config["pack"], result)

    return Report(reports)


def _stopper(reports: Reports) -> Any:
    """Return the Tune stopper that ends everything once ``reports`` says so."""
    from ray import tune

    class Stop(tune.Stopper):  # type: ignore[misc]
        def __init__(self, reports: Reports) -> None:
            self.reports = reports

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
            return False

        def stop_all(self) -> bool:
            return self.reports.stopping

    return Stop(reports)


def _pickle_study_modules_by_value() -> None:
    """Let workers have classes that a study file defines itself (a target, an optimiser)."""
    from ray import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith("hyperscale_study_"):
            cloudpickle.register_pickle_by_value(module)


def _fit(
    packs: Sequence[Pack],
    events: Events,
    checkpoints: Path,
    resources: Resources,
    max_failures: int,
    scratch: Path,
) -> None:
    """Run all packs through one Tuner and report what its workers could not."""
    from ray import tune

    _pickle_study_modules_by_value()
    reports = Reports(events)
    trainable = tune.with_parameters(_trainable(), packs=list(packs), checkpoints=str(checkpoints))
    trainable = tune.with_resources(trainable, tune.PlacementGroupFactory([resources.bundle()]))
    tuner = tune.Tuner(
        trainable,
        param_space={"pack": tune.grid_search(list(range(len(packs))))},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_name_creator=_pack_name, trial_dirname_creator=_pack_name),
        run_config=tune.RunConfig(
            name="packs",
            storage_path=str(scratch),
            verbose=0,
            stop=_stopper(reports),
            callbacks=[_callback(reports)],
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with contextlib.redirect_stdout(sys.stderr):
        grid = tuner.fit()
    if reports.problem is not None:
        raise reports.problem
    if events.stopping:
        return
    problems = {result.config["pack"]: result.error for result in grid if result.config}
    any_problem = next(iter(grid.errors), None)
    for index, pack in enumerate(packs):
        if index not in reports.done:
            reason = _reason(problems.get(index) or any_problem, max_failures)
            events.ended(index, [_lost(trial, reason) for trial in pack.trials])


def _pack_name(trial: Any) -> str:
    return f"pack_{trial.config['pack']:05d}"


def _reason(error: BaseException | None, max_failures: int) -> str:
    text = str(error).strip().splitlines()[-1][:300] if error and str(error).strip() else "no result came back"
    if "never ran" in text:
        text += " Is RAY_AUTH_MODE here the cluster's own (token or disabled)?"
    return f"its worker was lost {max_failures + 1} times: {text}"


def _lost(trial: Trial, reason: str) -> TrialResult:
    return TrialResult(
        digest=trial.digest,
        setting_digest=trial.setting.digest(),
        seed=trial.seed,
        status=TrialStatus.FAILED,
        reason=reason,
    )
