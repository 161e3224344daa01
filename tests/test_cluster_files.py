"""The files of cluster/: what schemas and shells can check without a cluster, and that all are closed by default."""

from __future__ import annotations

import copy
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from compose_pydantic import ComposeSpecification
from pydantic import ValidationError

from hyperscale.cli import main

CLUSTER = Path(__file__).parent.parent / "cluster"
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and "secrets" not in path.parts)
SCRIPTS = [path for path in FILES if path.suffix in (".sh", ".sbatch")]
LAUNCHER_FILES = [CLUSTER / "onpremise.yaml", CLUSTER / "aws.yaml"]
KUBERNETES_FILES = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
KUBERNETES_VERSION = "1.34"

# Fields of ray.io/v1 that these files may use, from the reference of KubeRay's API: no package carries its schema.
CLUSTER_FIELDS = {
    "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs",
}  # fmt: skip
HEAD_FIELDS = {"serviceType", "rayStartParams", "template"}
WORKER_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
JOB_FIELDS = {
    "entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
    "submitterPodTemplate", "rayClusterSpec",
}  # fmt: skip


def ids(path: Path) -> str:
    """Return a path as the name of a case."""
    return str(path.relative_to(CLUSTER))


def checked_launcher_file(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content as Ray's cluster launcher fills it in, after its own check."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(content))
    validate_config(prepared)
    return dict(prepared)


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=ids)
def test_launcher_files_pass_ray_s_own_check(path: Path) -> None:
    """Ray's schema takes each file, and refuses it with one name misspelt."""
    from jsonschema import ValidationError as SchemaError

    content = yaml.safe_load(path.read_text())
    assert checked_launcher_file(content)["cluster_name"] == "hyperscale"
    with pytest.raises(SchemaError):
        checked_launcher_file({**content, "setup_comands": []})


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=ids)
def test_launched_clusters_want_a_token_and_keep_the_dashboard_in(path: Path) -> None:
    """Every `ray start` has the token's mode, the head's dashboard listens on loopback, the token's file is private."""
    content = yaml.safe_load(path.read_text())
    starts = [
        command
        for part in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in content[part]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.ray/auth_token" in content["file_mounts"].values()
    assert any("chmod 600" in command for command in content["setup_commands"])


def test_the_cloud_s_head_stays_and_its_workers_are_spot() -> None:
    """On AWS the head is on demand; workers are spot, from none up; groups and roles are the user's own."""
    prepared = checked_launcher_file(yaml.safe_load((CLUSTER / "aws.yaml").read_text()))
    nodes = prepared["available_node_types"]
    head, gpu = nodes[prepared["head_node_type"]]["node_config"], nodes["gpu"]["node_config"]
    assert "InstanceMarketOptions" not in head
    assert gpu["InstanceMarketOptions"]["MarketType"] == "spot"
    assert (nodes["gpu"]["min_workers"], nodes["gpu"]["max_workers"]) == (0, prepared["max_workers"])
    for node in (head, gpu):
        assert node["SecurityGroupIds"]
        assert node["IamInstanceProfile"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every document of the Kubernetes files."""
    for path in KUBERNETES_FILES:
        for number, document in enumerate(yaml.safe_load_all(path.read_text())):
            yield f"{path.name}:{number}", document


DOCUMENTS = dict(documents())
RAY_CLUSTERS = {
    name: document["spec"].get("rayClusterSpec", document["spec"])
    for name, document in DOCUMENTS.items()
    if document["apiVersion"] == "ray.io/v1"
}


def check_pod(template: dict[str, Any]) -> None:
    """Check a pod template against Kubernetes' schema, unknown fields included."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", **template["metadata"]},
        "spec": template["spec"],
    }
    kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)


def templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pod templates of a Ray cluster."""
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_kubernetes_own_kinds_pass_its_schema() -> None:
    """The claim and the network policy pass, and would not with an unknown field."""
    own = [document for document in DOCUMENTS.values() if document["apiVersion"] != "ray.io/v1"]
    assert {document["kind"] for document in own} == {"PersistentVolumeClaim", "NetworkPolicy"}
    for document in own:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**own[0], "specs": {}}, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("name", RAY_CLUSTERS)
def test_ray_clusters_on_kubernetes(name: str) -> None:
    """Known fields, pods that Kubernetes takes, a token, no service outside, no rights that are not needed."""
    cluster = RAY_CLUSTERS[name]
    assert set(cluster) <= CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for template in templates(cluster):
        check_pod(template)
        assert template["metadata"]["labels"] == {"app": "hyperscale"}
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["runAsNonRoot"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert {"requests", "limits"} <= set(container["resources"])


def test_the_job_on_kubernetes() -> None:
    """Known fields, a submitter that Kubernetes takes, and an entrypoint that `run` understands."""
    (job,) = (document for document in DOCUMENTS.values() if document["kind"] == "RayJob")
    assert set(job["spec"]) <= JOB_FIELDS
    check_pod(job["spec"]["submitterPodTemplate"])
    words = job["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "hyperscale.cli", "run"]
    parsed = main.commands["run"].make_context("run", words[4:]).params
    assert parsed["address"] == "auto"
    assert Path(parsed["store_folder"]).is_absolute()


def test_ray_versions_are_the_tested_one() -> None:
    """Ray's version on Kubernetes is the one that constraints.txt installs in the image."""
    (version,) = re.findall(r"^ray==(.+)$", (CLUSTER.parent / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert {cluster["rayVersion"] for cluster in RAY_CLUSTERS.values()} == {version}


@pytest.mark.parametrize("path", SCRIPTS, ids=ids)
def test_scripts_are_sound(path: Path) -> None:
    """`bash -n` and shellcheck have nothing to say, and the script may be executed."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for command in (["bash", "-n"], [str(shellcheck)]):
        result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    assert os.access(path, os.X_OK)


def pretend(folder: Path, **programs: str) -> dict[str, str]:
    """Write programs that note how they were called, and return an environment in which they are found first."""
    for name, body in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{folder}/calls"\n{body}\n')
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}


def test_the_slurm_script_starts_drives_and_ends_a_cluster(tmp_path: Path) -> None:
    """Head, then the others; `run` with its options and exit code; a token of mode 600 that is gone afterwards."""
    environment = pretend(
        tmp_path,
        scontrol='printf "n1\\nn2\\nn3\\n"',
        hostname='echo "10.0.0.1 10.0.0.2"',
        srun='while [[ $1 == --* ]]; do shift; done; exec "$@"',
        ray="[[ $1 == status ]] || exec sleep 60",
        hyperscale=f'stat -c "%a $RAY_AUTH_MODE" "$RAY_AUTH_TOKEN_PATH" > "{tmp_path}/token"; exit 7',
    )
    job = {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "16",
    }
    script = [str(CLUSTER / "slurm.sbatch"), "a study.py", "/shared/a store", "--seeds", "2"]
    result = subprocess.run(script, env={**environment, **job}, capture_output=True, text=True, check=False, timeout=60)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert result.returncode == 7, result.stderr
    starts = [call for call in calls if call.startswith("ray start")]
    assert "--num-gpus=4 --head --node-ip-address=10.0.0.1 --port=24242 --dashboard-host=127.0.0.1" in " ".join(starts)
    assert sum("--address=10.0.0.1:24242" in call for call in starts) == 2
    assert "hyperscale run a study.py --address 10.0.0.1:24242 --store /shared/a store --seeds 2" in calls
    assert not any(call.startswith("ray stop") for call in calls)
    assert (tmp_path / "token").read_text() == "600 token\n"
    assert not (tmp_path / ".hyperscale" / "4242").exists()


def test_the_slurm_script_refuses_a_store_that_nodes_do_not_share(tmp_path: Path) -> None:
    """Without a study and an absolute store it says how it is called, and starts nothing."""
    for words in ([], ["study.py"], ["study.py", "results"]):
        result = subprocess.run(
            [str(CLUSTER / "slurm.sbatch"), *words], env=pretend(tmp_path), capture_output=True, text=True, check=False
        )
        assert (result.returncode, "usage:" in result.stderr) == (2, True)


def test_the_slurm_script_passes_the_end_on(tmp_path: Path) -> None:
    """SIGINT, which Slurm sends before the time is up, reaches the run, whose exit code is waited for."""
    environment = pretend(
        tmp_path,
        scontrol="echo n1",
        hostname="echo 10.0.0.1",
        srun='while [[ $1 == --* ]]; do shift; done; exec "$@"',
        ray="[[ $1 == status ]] || exec sleep 60",
    )
    (tmp_path / "hyperscale").write_text(
        f"#!{sys.executable}\nimport pathlib, sys, time\ntry:\n"
        f"    pathlib.Path({str(tmp_path / 'running')!r}).touch()\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5)\n    sys.exit(130)\n"
    )
    (tmp_path / "hyperscale").chmod(0o755)
    script = ["env", "--default-signal=INT", str(CLUSTER / "slurm.sbatch"), "study.py", "/store"]
    process = subprocess.Popen(script, env={**environment, "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1"})
    while not (tmp_path / "running").exists():
        assert process.poll() is None
    process.send_signal(2)
    assert process.wait(timeout=60) == 130
    assert not (tmp_path / ".hyperscale" / "1").exists()


def test_the_mlflow_server_s_passwords_stay_off_its_command_line(tmp_path: Path) -> None:
    """Passwords are made once with mode 600, reach MLflow by environment, and it listens on loopback."""
    secrets = tmp_path / "secrets"
    environment = pretend(tmp_path, mlflow=f'env > "{tmp_path}/environment"') | {"SECRETS": str(secrets)}
    folder = tmp_path / "mlflow-files"
    shutil.copytree(CLUSTER / "mlflow", folder, ignore=shutil.ignore_patterns("secrets"))
    for _ in range(2):
        subprocess.run([str(folder / "secrets.sh")], env=environment, check=True, capture_output=True)
        values = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(values) == {"database_password", "admin_password", "session_key"}
    assert len(set(values.values())) == 3
    assert {len(value) for value in values.values()} == {48}
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    subprocess.run([str(folder / "start.sh")], env={**environment, "ARTIFACTS": "/artifacts"}, check=True)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--app-name basic-auth --host 127.0.0.1 --port 5000" in call
    assert not any(value in call for value in values.values())
    given = dict(line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines())
    assert given["MLFLOW_AUTH_ADMIN_PASSWORD"] == values["admin_password"]
    assert given["MLFLOW_BACKEND_STORE_URI"] == (
        f"postgresql+psycopg2://mlflow:{values['database_password']}@127.0.0.1:5432/mlflow"
    )
    assert Path(given["MLFLOW_AUTH_CONFIG_PATH"]).exists()


def test_the_compose_file() -> None:
    """It is a compose file, its database is not published, what is published is on loopback, passwords are files."""
    content = yaml.safe_load((CLUSTER / "mlflow" / "compose.yaml").read_text())
    ComposeSpecification.model_validate(content)
    with pytest.raises(ValidationError):
        ComposeSpecification.model_validate({**content, "servces": {}, "services": {"x": {"imag": "y"}}})
    assert "ports" not in content["services"]["database"]
    assert content["services"]["mlflow"]["ports"] == ["${MLFLOW_BIND:-127.0.0.1}:5000:5000"]
    assert content["networks"]["inside"] == {"internal": True}
    files = {path for service in content["services"].values() for path in service["secrets"]}
    assert files == set(content["secrets"])
    assert all(secret["file"].startswith("./secrets/") for secret in content["secrets"].values())
    assert "secrets" in (CLUSTER / "mlflow" / ".dockerignore").read_text().split()
    assert "/cluster/mlflow/secrets/" in (CLUSTER.parent / ".gitignore").read_text()


SECRETS = (
    r"(?i)(password|token|secret|session_key)[\"']?\s*[:=]\s*[\"']?(?=[^\s\"']*\d)[A-Za-z0-9+/]{12,}",
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@$]+:[^/\s@$]+@",
)
OPEN = (
    r"0\.0\.0\.0|(?:dashboard-host|--host|node-ip-address)[=: ]+[\"']?(?!127\.0\.0\.1|localhost|::1|OTHER|\"?\$)[^\s]"
)


def findings(text: str) -> list[str]:
    """Return what looks like a secret, or opens a port to other machines, outside comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [match.group() for pattern in (*SECRETS, OPEN) for match in re.finditer(pattern, code)]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_file_holds_a_secret_or_opens_a_port(path: Path) -> None:
    """No password or key in any file; the one 0.0.0.0 is inside a container whose port is published on loopback."""
    assert findings(path.read_text()) == (["0.0.0.0"] if path.name == "compose.yaml" else [])


@pytest.mark.parametrize(
    "text",
    [
        "ray start --head --dashboard-host=0.0.0.0", "dashboard-host: 10.0.0.1", "mlflow server --host example.org",
        "CidrIp: 0.0.0.0/0", "POSTGRES_PASSWORD: abcdefgh1234567", "token = 'a1b2c3d4e5f6a7b8'", "AKIAABCDEFGHIJKLMNOP",
        "postgresql://mlflow:swordfish@database/mlflow",
    ],
)  # fmt: skip
def test_the_search_for_secrets_and_open_ports_finds_them(text: str) -> None:
    """Each of these would be found."""
    assert findings(text)


def blocks() -> dict[str, list[str]]:
    """Return the fenced blocks of the README's sections."""
    sections = re.split(r"^## ", (CLUSTER / "README.md").read_text(), flags=re.MULTILINE)
    return {part.splitlines()[0]: re.findall(r"```\n(.*?)```", part, flags=re.DOTALL) for part in sections}


@pytest.mark.parametrize(
    "section", ["One machine", "A list of hosts", "AWS", "Kubernetes", "Slurm", "MLflow with PostgreSQL"]
)
def test_each_way_has_its_three_commands(section: str) -> None:
    """Start, run and stop stand in one block, marked so."""
    (block, *_) = blocks()[section]
    for word in ("# start", "# run", "# stop"):
        assert word in block, word


def test_the_commands_of_the_readme_are_commands() -> None:
    """Every `hyperscale` line of a block parses: verbs, options and their values."""
    lines = [line for found in blocks().values() for block in found for line in block.splitlines()]
    checked = 0
    for line in lines:
        command = re.sub(r"\s+#.*$", "", line).split("hyperscale ", 1)
        if len(command) < 2 or not re.fullmatch(r"([A-Z_]+=\S+ )*(\.venv/bin/)?", command[0]):
            continue
        verb, *words = command[1].split()
        found = main.commands[verb]
        assert isinstance(found, click.Command)
        found.make_context(verb, words)
        checked += 1
    assert checked >= 8


def test_every_file_is_in_the_readme() -> None:
    """Each file of cluster/ is linked or named."""
    text = (CLUSTER / "README.md").read_text()
    for path in set(FILES) - {CLUSTER / "README.md"}:
        assert path.name in text, path
