"""Passwords in addresses, arguments and the environment: taken out of text, whatever they are made of."""

from __future__ import annotations

import pytest

from hyperscale.recording.secrecy import masked, without_secrets


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgresql://me:secret@db/mlflow", "postgresql://me:***@db/mlflow"),
        ("postgresql+psycopg2://me:se/cr@et@db:5/m", "postgresql+psycopg2://me:***@db:5/m"),
        ("https://me:a%40b@host refused", "https://me:***@host refused"),
        ("http://:secret@host", "http://:***@host"),
        ("postgresql://db/mlflow?user=me&password=secret&x=1", "postgresql://db/mlflow?user=me&password=***&x=1"),
        ("host=db password=secret user=me", "host=db password=*** user=me"),
        ("http://127.0.0.1:5000/api?mail=a@b", "http://127.0.0.1:5000/api?mail=a@b"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_passwords(given: str, wanted: str) -> None:
    """The rest of the address stays as it is."""
    assert masked(given) == wanted


def test_a_password_is_taken_out_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As written in the address and as it reads, and the environment's."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "from-the-environment")
    text = without_secrets("no p%40ssword nor p@ssword nor from-the-environment", "http://me:p%40ssword@host")
    assert text == "no *** nor *** nor ***"
