"""What is said of a worker that was lost, and what Tune is asked for a pack."""

from __future__ import annotations

import pytest

from hyperscale.dispatch.ray_packs import names_node_types, plain_reason, resources_of

KILLED = """Failure # 1 (occurred at 2026-11-26_04-44-17)
The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tpid: 1491
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed
"""
UNAVAILABLE = (
    "The actor 10b8 is unavailable: The actor is temporarily unavailable: UnexpectedSystemExit: Worker exits with an "
    "exit code 1. The process receives a SIGTERM.. The task may or may not have been executed on the actor."
)
NODE = "The actor died because its node has died. Node Id: 22ae\nThe actor's node was terminated unexpectedly: spot."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (KILLED, "Worker unexpectedly exits with a connection error code 2. End of file"),
        (UNAVAILABLE, "UnexpectedSystemExit: Worker exits with an exit code 1. The process receives a SIGTERM"),
        (NODE, "The actor's node was terminated unexpectedly: spot"),
        ("a line\nTask was killed due to the node running low on memory.\nmore", "Task was killed due to the node "
         "running low on memory"),
        ("ValueError: no such module", "ValueError: no such module"),
        ("", "no word of why"),
    ],
)  # fmt: skip
def test_a_reason_is_one_line_that_tells(text: str, reason: str) -> None:
    """Of Ray's paragraphs the sentence on the cause is kept."""
    assert plain_reason(text) == reason


def test_a_pack_keeps_away_from_nodes() -> None:
    """A configuration that avoids nodes asks for a bundle elsewhere; one that avoids none for any."""
    resources = resources_of({"CPU": 1.0})
    assert resources({"avoid": ""}) == resources({})
    assert resources({"avoid": "ab12,cd34"}) != resources({})
    assert "!in(ab12,cd34)" in repr(resources({"avoid": "ab12,cd34"}))


def test_an_autoscaler_is_told_by_its_node_types() -> None:
    """Ray reports nodes as types of their own where nothing scales, and the configured types where something does."""
    fixed = b'{"autoscaler_report": {"active_nodes": {"node_cf0a": 1}, "node_type_mapping": {"cf0a": "node_cf0a"}}}'
    empty = b'{"autoscaler_report": {"active_nodes": {}, "node_type_mapping": {"ff00": "ray.head.default"}}}'
    scaled = b'{"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}'
    assert [names_node_types(status) for status in (fixed, scaled, empty, b"{}")] == [False, True, True, False]
