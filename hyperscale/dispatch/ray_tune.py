"""The executor on Ray Tune: a Tune trial is a pack. The only file that imports Ray."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hyperscale.dispatch import ray_packs
from hyperscale.dispatch.executor import Events, Executor
from hyperscale.dispatch.pack_queue import PackQueue, Patience
from hyperscale.dispatch.parcels import Reports
from hyperscale.dispatch.probe import device_key_here, device_memory, measure_here
from hyperscale.dispatch.ray_head import HeadWatch, answers, await_return, cluster_seen_by, num_restarts
from hyperscale.dispatch.ray_session import (
    addresses_of,
    check_authenticated,
    check_speaks_ray,
    end_own_session,
    start_own_session,
)
from hyperscale.dispatch.worker import CHECKPOINT_INTERVAL_S, default_device
from hyperscale.errors import HyperscaleError, ResourceError
from hyperscale.packing import DEFAULT_MEMORY_BYTES, Pack, Speed
from hyperscale.settings.setting import Setting

_AHEAD, _MOST_AHEAD = "TUNE_MAX_PENDING_TRIALS_PG", 200
_GPU_SHARE = 0.25
_GROWN = 16
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
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
    problem = await_return(address) if num_restarts() else answers(address)
    if problem is not None:
        raise _unreachable(address, problem.strerror or str(problem))


def _unreachable(address: str | None, why: str) -> ResourceError:
    where = f"at {address!r}" if address else "on this machine"
    return ResourceError(
        f"Ray could not be reached {where}: {why.splitlines()[0]}. Give --address of a running cluster "
        "(auto, HOST:6379 or ray://HOST:10001), or leave it out to use this machine alone, "
        "or use --executor in-process. A cluster with token authentication wants RAY_AUTH_MODE=token and its token."
    )


@contextlib.contextmanager
def _looking_ahead(slots: float, num_packs: int) -> Iterator[None]:
    """Let some packs wait beside those that run: a cluster that can grow sees what for, and few are held back."""
    ahead = min(_MOST_AHEAD, max(2 * math.ceil(slots), num_packs // 4))
    if _AHEAD in os.environ:
        yield
        return
    os.environ[_AHEAD] = str(ahead)
    try:
        yield
    finally:
        del os.environ[_AHEAD]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one pack asks Ray for. Several packs share a GPU where ``gpus`` is a fraction."""

    cpus: float = 1.0
    gpus: float = 0.0

    def bundle(self) -> dict[str, float]:
        """Return the resources as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}


def _slots(have: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many packs fit on a node at once."""
    return int(min((have.get(name, 0.0) / amount for name, amount in wanted.items() if amount), default=0.0) + 1e-9)


class RayTune(Executor):
    """Trains every pack as one Tune trial on reused actors, embedded in this machine or on a cluster.

    ``address`` joins a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); without it ``RAY_ADDRESS`` is
    followed, and without that a Ray of its own is started, whatever else runs here. ``gpus_per_pack`` is None for the
    default: a quarter of a GPU where the cluster has any, else none; above 1 it must be whole. A pack whose worker
    dies begins again from its last checkpoint, as often as ``patience`` says.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus_per_pack: float = 1.0,
        gpus_per_pack: float | None = None,
        patience: Patience | None = None,
        checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
    ) -> None:
        chosen = address or os.environ.get("RAY_ADDRESS")
        self.address = None if chosen in ("", "local") else chosen
        self.cpus_per_pack = cpus_per_pack
        self.gpus_per_pack = gpus_per_pack
        self.patience = patience or Patience()
        self.checkpoint_interval_s = checkpoint_interval_s
        self.on_head_lost: Callable[[str], None] | None = None
        self._own_session = False

    def device_key(self) -> str:
        """Return the device of this machine, or of a worker of the cluster that is joined."""
        return str(self._remotely(device_key_here)) if self.address else super().device_key()

    def measure(self, members: Sequence[tuple[Setting, int]], memory_bytes: int) -> Speed | None:
        """Measure here, or on a worker of the cluster that is joined."""
        if self.address:
            ray_packs.pickle_study_modules_by_value()
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
        """How many packs may run at once: by this machine's cores, or by what the nodes of a joined cluster have.

        A cluster that can grow is taken for one of `_GROWN` workers at least, so that there are packs to grow for.
        """
        if not self.address:
            return max(1, int((os.cpu_count() or 1) / self.cpus_per_pack))
        nodes = self._session().nodes()
        wanted = self._resources(nodes).bundle()
        found = sum(_slots(node.get("Resources", {}), wanted) for node in nodes if node.get("Alive"))
        return max(1, found, _GROWN if ray_packs.may_grow() else 0)

    def run(self, packs: Sequence[Pack], events: Events, checkpoints: Path) -> None:
        """Start or join Ray, train the packs, and leave Ray as it was found."""
        ray = self._session()
        cluster = ray_packs.Cluster()
        queue = PackQueue(packs, events, checkpoints, patience=self.patience, alive=cluster.alive)
        reports = Reports(events, queue)
        scratch = Path(tempfile.mkdtemp(prefix="hyperscale-tune-"))
        try:
            resources = self._resources(ray.nodes())
            slots = ray.cluster_resources().get("CPU", 1.0) / self.cpus_per_pack
            with _looking_ahead(slots, len(packs)), self._watching(ray.get_runtime_context()):
                if not reports.finished:
                    ray_packs.fit(reports, cluster, resources.bundle(), self.checkpoint_interval_s, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if self._own_session:
                end_own_session()
                self._own_session = False
        if reports.problem is not None:
            raise reports.problem

    def _watching(self, context: Any) -> contextlib.AbstractContextManager[object]:
        """Watch the head, where somebody wants to know that it is gone."""
        if self.on_head_lost is None or str(self.address).startswith("ray://"):  # Ray Client tells of it by itself
            return contextlib.nullcontext()
        identify = cluster_seen_by(context.get_node_id())
        return HeadWatch(context.gcs_address, self.on_head_lost, identify=identify)

    def _connect(self) -> None:
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            check_address(self.address)
            check_authenticated(self.address)
            check_speaks_ray(self.address)
        try:
            # Never without an address: that would join whatever cluster last wrote its own on this machine.
            if self.address:
                with addresses_of(self.address):
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
        fits = any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in alive)
        if not fits and not ray_packs.may_grow():
            have = "; ".join(f"CPU {node.get('CPU', 0):g}, GPU {node.get('GPU', 0):g}" for node in alive) or "no node"
            asked = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
            raise ResourceError(
                f"A pack asks for {asked}, which no node of the cluster can ever give (nodes: {have}). "
                "Lower --cpus-per-pack or --gpus-per-pack, or join a larger cluster."
            )
        return resources
