"""What `ui` does: the MLflow UI on a store, from its start to Ctrl-C."""

from __future__ import annotations

import signal
import subprocess

import click

from hyperscale.errors import StoreError
from hyperscale.recording.credentials import hidden
from hyperscale.recording.mlflow_server import UiServer, serve_ui
from hyperscale.recording.store import Store
from hyperscale.verbs import open_mlflow

_END_S = 20.0


def serve(store: Store, tracking_uri: str | None, *, host: str, port: int, auth: bool) -> int:
    """Start the UI, print its addresses once it answers, and stay until it ends; return its exit code."""
    if not tracking_uri and not store.folder.exists():
        raise StoreError(f"The store {store.folder} does not exist. Run a study first, or name another with --store.")
    uri = tracking_uri or store.tracking_uri
    server = serve_ui(uri, store.artifacts, host=host, port=port, auth=auth, state=store.folder)
    if not server.command:
        _say_addresses(server, store, tracking_uri)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    click.echo("Starting the MLflow UI …", err=True)
    with subprocess.Popen(server.command, env=dict(server.environment)) as process:
        try:
            server.wait(process)
            _say_addresses(server, store, tracking_uri)
            return process.wait()
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, by force where it does not heed."""
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _say_addresses(server: UiServer, store: Store, tracking_uri: str | None) -> None:
    """Print where the UI is, and for each study its trials and its curve."""
    click.echo(f"MLflow UI: {hidden(server.address)}" + ("   (Ctrl-C ends it)" if server.command else ""))
    if server.note:
        click.echo(server.note, err=True)
    base = hidden(server.address).split("/#")[0]
    for name, trials, chart in open_mlflow(store, tracking_uri).addresses(base):
        click.echo(f"  {name}\n    trials           {trials}\n    error against N  {chart}")
