"""Packs as Tune trials: the trainable, the searcher that hands packs out, and the callback that hears of them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperscale.dispatch.pack_queue import UNKNOWN_NODE, members_of
from hyperscale.dispatch.parcels import RESULTS, Parcel, Reports
from hyperscale.dispatch.worker import PackWorker, device_readings
from hyperscale.packing import Pack

SLICE_S = 1.0
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|running low on memory", re.IGNORECASE)
_NODE_DIED = re.compile(r"node (it was on|was terminated|has been marked dead|has died|died)", re.IGNORECASE)
_CAUSE = re.compile(r"dead because|unavailable:|Worker exit", re.IGNORECASE)
_LEADER = re.compile(r"^.*(?:dead because |unavailable: |Worker exit detail: )")
_NODE_LABEL = "ray.io/node-id"


def trainable() -> type:
    """Return the Tune trainable of packs; a function, because Ray may only be imported when it is used."""
    import ray
    from ray import tune

    class PackTrainable(tune.Trainable):  # type: ignore[misc]
        """Trains the members of a pack that the trial's configuration names, a slice per step."""

        def setup(
            self, config: dict[str, Any], packs: Sequence[Pack], checkpoints: str, checkpoint_interval_s: float
        ) -> None:
            import torch

            self._packs, self._checkpoints, self._interval_s = packs, checkpoints, checkpoint_interval_s
            self._device = "cuda" if torch.cuda.is_available() else "cpu"
            self._node = ray.get_runtime_context().get_node_id()
            self._begin(config)

        def _begin(self, config: Mapping[str, Any]) -> None:
            whole, first = self._packs[config["pack"]], config["first"]
            self._worker = PackWorker(
                members_of(whole, first, config["last"]),
                device=self._device,
                checkpoints=Path(self._checkpoints),
                checkpoint_interval_s=self._interval_s,
                origins=[(members_of(whole, *part), first - part[0]) for part in config["origins"]],
            )

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._begin(new_config)
            return True

        def step(self) -> dict[str, Any]:
            results = self._worker.advance(SLICE_S)
            report = {
                "fraction": self._worker.fraction,
                "done": self._worker.done,
                "node": self._node,
                "readings": device_readings(self._device),
            }
            return {**report, RESULTS: Parcel.of(results)} if results else report

        def cleanup(self) -> None:
            if not self._worker.done:
                self._worker.save()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Keep nothing here: pack checkpoints lie in the store, where the next driver finds them too."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Take up nothing: the worker finds its own checkpoint."""

    return PackTrainable


def resources_of(bundle: Mapping[str, float]) -> Callable[[Mapping[str, Any]], Any]:
    """Return what Tune asks of a configuration's trial: one bundle, away from the nodes the configuration avoids."""

    def resources(config: Mapping[str, Any]) -> Any:
        from ray import tune

        if not config.get("avoid"):
            return tune.PlacementGroupFactory([dict(bundle)])
        elsewhere = {_NODE_LABEL: f"!in({config['avoid']})"}
        return tune.PlacementGroupFactory([dict(bundle)], bundle_label_selector=[elsewhere])

    return resources


def searcher(reports: Reports, cluster: Cluster) -> Any:
    """Return the Tune searcher that suggests what the queue of ``reports`` hands out."""
    from ray.tune.search import Searcher

    class PackSearcher(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def set_search_properties(self, *_: Any, **__: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            part = reports.next(trial_id)
            if part is None:
                return str(Searcher.FINISHED) if reports.finished else None
            nodes = [cluster.identify(name) for name in reports.queue.avoided(part)]
            return {
                "pack": part.pack,
                "first": part.first,
                "last": part.last,
                "attempt": part.attempt,
                "origins": part.origins,
                "avoid": ",".join(sorted(node for node in nodes if node)),
            }

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            """Learn nothing here: the callback is told more."""

        def save(self, checkpoint_path: str) -> None:
            """Keep nothing: the journal is what a next run goes by."""

        def restore(self, checkpoint_path: str) -> None:
            """Take up nothing."""

    return PackSearcher()


def callback(reports: Reports, cluster: Cluster) -> Any:
    """Return the Tune callback that feeds ``reports``, and ends workers that are overdue."""
    from ray import tune

    class Report(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self._actors: dict[str, Any] = {}
            self._ended: dict[str, str] = {}

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, *, trial: Any, **_: Any) -> None:
            self._actors[trial.trial_id] = trial.temporary_state.ray_actor
            reports.queue.started(trial.trial_id)

        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
            reports.take(trial.trial_id, result, cluster.name(result.get("node")))

        def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
            self._actors.pop(trial.trial_id, None)

        def on_trial_error(self, *, trial: Any, **_: Any) -> None:
            text = self._ended.pop(trial.trial_id, None) or _reason(trial)
            node = cluster.node_of(self._actors.pop(trial.trial_id, None))
            reports.lost(trial.trial_id, text, node, out_of_memory=bool(_OUT_OF_MEMORY.search(text)))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            for key, why in reports.queue.overdue():
                if key not in self._ended:
                    self._ended[key] = why
                    cluster.end(self._actors.get(key))

    return Report()


class Cluster:
    """The nodes of the Ray that is joined, by names a person knows: host names, with a piece of the id if shared."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def _look(self) -> list[Mapping[str, Any]]:
        import ray

        nodes = list(ray.nodes())
        hosts = [str(node.get("NodeManagerHostname") or node.get("NodeManagerAddress")) for node in nodes]
        for node, host in zip(nodes, hosts, strict=True):
            self._names[node["NodeID"]] = host if hosts.count(host) == 1 else f"{host}/{node['NodeID'][:6]}"
        return nodes

    def name(self, node_id: str | None) -> str:
        """Return the name of a node."""
        if node_id is not None and node_id not in self._names:
            self._look()
        return self._names.get(node_id or "", UNKNOWN_NODE)

    def identify(self, name: str) -> str | None:
        """Return the id of the node of a name."""
        return next((node_id for node_id, known in self._names.items() if known == name), None)

    def alive(self) -> list[str]:
        """Return the names of the nodes that are up."""
        alive = [node["NodeID"] for node in self._look() if node.get("Alive")]
        return [self._names[node_id] for node_id in alive]

    def node_of(self, actor: Any) -> str | None:
        """Return the node that an actor was on, dead or alive, where Ray still knows."""
        if actor is None:
            return None
        with contextlib.suppress(Exception):  # a private table: without it the node's last report must do
            from ray._private.state import state

            node_id = state.actor_table(actor._actor_id.hex()).get("Address", {}).get("NodeID")
            return self.name(node_id) if node_id else None
        return None

    def end(self, actor: Any) -> None:
        """Kill an actor that is overdue."""
        import ray

        if actor is not None:
            with contextlib.suppress(Exception):  # it may have died on its own just now
                ray.kill(actor)


def may_grow() -> bool:
    """Whether the cluster has an autoscaler, which may add a node that gives what no node gives now."""
    with contextlib.suppress(Exception):  # internal tables: without their word the nodes that are up decide
        from ray._private.state import state
        from ray.experimental import internal_kv

        if state.get_cluster_config() is not None:
            return True
        return names_node_types(internal_kv._internal_kv_get(b"__autoscaling_status") or b"{}")
    return False


def names_node_types(status: bytes) -> bool:
    """Whether an autoscaler's report is of node types; without an autoscaler each node is a type of its own."""
    report = json.loads(status).get("autoscaler_report") or {}
    names = {*(report.get("active_nodes") or {}), *(report.get("node_type_mapping") or {}).values()}
    return any(not str(name).startswith("node_") for name in names)


def _reason(trial: Any) -> str:
    """Return why a trial's worker was lost, in one line."""
    with contextlib.suppress(Exception):  # a file that Tune writes for people
        return plain_reason(Path(trial.error_file).read_text())
    return "no word of why"


def plain_reason(text: str) -> str:
    """Return the line of Ray's word on a dead worker that tells most, cut short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (_OUT_OF_MEMORY, _NODE_DIED, _CAUSE):
        told = [line for line in lines if pattern.search(line)]
        if told:
            return re.split(r"\. (?:Some common|The task may)|\.{2,}", _LEADER.sub("", told[-1]))[0][:300].rstrip(".")
    return lines[-1][:300].rstrip(".") if lines else "no word of why"


def pickle_study_modules_by_value() -> None:
    """Let workers have classes that a study file defines itself (a target, an optimiser)."""
    from ray import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith("hyperscale_study_"):
            cloudpickle.register_pickle_by_value(module)


def stopper(reports: Reports) -> Any:
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


def fit(
    reports: Reports,
    cluster: Cluster,
    bundle: Mapping[str, float],
    checkpoint_interval_s: float,
    scratch: Path,
) -> None:
    """Train what the queue of ``reports`` holds through one Tuner, until it is empty or ``reports`` says stop."""
    from ray import tune

    queue = reports.queue
    pickle_study_modules_by_value()
    packs = tune.with_parameters(
        trainable(),
        packs=list(queue.packs),
        checkpoints=str(queue.checkpoints),
        checkpoint_interval_s=checkpoint_interval_s,
    )
    tuner = tune.Tuner(
        tune.with_resources(packs, resources_of(bundle)),
        tune_config=tune.TuneConfig(
            search_alg=searcher(reports, cluster),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="packs",
            storage_path=str(scratch),
            verbose=0,
            stop=stopper(reports),
            callbacks=[callback(reports, cluster)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with contextlib.redirect_stdout(sys.stderr):
        tuner.fit()


def _trial_name(trial: Any) -> str:
    config = trial.config
    return f"pack_{config['pack']:05d}_{config['first']}_{config['last']}_{config['attempt']}"
