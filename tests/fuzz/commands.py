"""The command line in this process, and what every command must come to: an exit code, words, sound JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from click.testing import CliRunner, Result

from hyperscale.cli import main
from tests.fuzz.endings import LONGEST_ERROR, Ending, check_message

CHEAP_STUDY = '''"""Cheap: two settings of two steps."""

from hyperscale import Approximation, FreshPoints, Monolithic, SobolevBall, Study

study = Study(
    name="cheap",
    settings=[
        Approximation(
            method=Monolithic(primary_widths=(width,)),
            target=SobolevBall(x_dim=1, conditioning_dim=1, levels=2),
            steps=2,
            points=FreshPoints(instances=2, points=2),
            grid_points=3,
        )
        for width in (2, 4)
    ],
    seeds=range(2),
    metrics=("rmse",),
)
'''


def invoke(words: Sequence[str]) -> Result:
    """Run the command line with these words."""
    return CliRunner().invoke(main, list(words))


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} in JSON")


def check(shown: Result, *, codes: Sequence[int] = (0, 1, 2), as_json: bool = False, given: int = 0) -> Ending:
    """Check that a command ended by itself, with words on standard error where it refused, and with sound JSON.

    ``given`` is the length of the words that were typed, which a message may repeat.
    """
    if shown.exception is not None and not isinstance(shown.exception, SystemExit):
        raise shown.exception
    assert shown.exit_code in codes, (shown.exit_code, shown.output[-500:])
    if shown.exit_code == 130:
        assert shown.stderr == "Interrupted.\n"
        return Ending.CLEAR_ERROR
    if shown.exit_code == 2:
        assert not shown.stdout, f"words on standard output: {shown.stdout[:200]}"
        told = re.search(r"^Error: .*", shown.stderr, flags=re.MULTILINE | re.DOTALL)
        assert told, shown.stderr[-500:]
        check_message(told[0], most=LONGEST_ERROR + given)
        return Ending.CLEAR_ERROR
    assert "Traceback" not in shown.output
    shown.output.encode()
    if as_json:
        json.loads(shown.stdout, parse_constant=_refuse)
    return Ending.RIGHT_ANSWER
