"""The packed records: what programs read of a run in MLflow.

A run carries the whole `TrialRecord` of each of its trials (one, or all seeds of a setting) as compressed JSON in
tags under the ``mlflow.`` prefix, which the MLflow UI hides. There numbers stay numbers and integers stay integers,
and reading a study back takes one search, not one request a trial. Records too long for tags keep their curves in
the artifact ``curves.json``.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hyperscale.trial import TrialRecord, TrialResult

CURVES_FILE = "curves.json"

_TAG = "mlflow.hyperscale.record"
_TAG_LENGTH = 7500  # MLflow cuts tags at 8000 characters, silently
_MAX_TAGS, _MOST_TAGS = 4, 12  # for one trial, and for any number

Order = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Hidden tags that hold records, and the text of their curves where they had to go to an artifact."""

    tags: Mapping[str, str]
    curves: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """Records as they were packed, with their places; ``curves_file`` says that their curves lie in the artifact."""

    records: tuple[TrialRecord, ...]
    orders: tuple[Order, ...]
    curves_file: bool

    def with_curves(self, text: str) -> Unpacked:
        """Put the curves of the artifact back into the records."""
        curves = json.loads(text)
        if len(self.records) == 1 and self.records[0].result.digest not in curves:
            curves = {self.records[0].result.digest: curves}  # as runs of one trial keep them
        records = tuple(
            replace(record, result=replace(record.result, curves=curves[record.result.digest]))
            for record in self.records
        )
        return replace(self, records=records, curves_file=False)


def pack(record: TrialRecord, order: Order = ()) -> Packed:
    """Return one trial's record as hidden tags; `unpack` is the inverse, to the last bit and type.

    ``order`` is the trial's place in the study file, by which a study that is read back is sorted.
    """
    data = {"result": record.result.to_json(), "columns": dict(record.columns), "order": list(order)}
    tags = _tags({**data, "curves_file": False})
    if len(tags) <= _MAX_TAGS:
        return Packed(tags=tags, curves=None)
    bare = {**record.result.to_json(), "curves": {}}
    return Packed(tags=_tags({**data, "result": bare, "curves_file": True}), curves=_dump(dict(record.result.curves)))


def pack_setting(records: Sequence[TrialRecord], orders: Sequence[Order]) -> Packed:
    """Return the records of one setting's trials as hidden tags; `unpack` is the inverse."""
    results = [record.result.to_json() for record in records]
    data = {"columns": dict(records[0].columns), "orders": [list(order) for order in orders]}
    tags = _tags({**data, "results": results, "curves_file": False})
    if len(tags) <= min(_MAX_TAGS * len(records), _MOST_TAGS):
        return Packed(tags=tags, curves=None)
    bare = [{**result, "curves": {}} for result in results]
    curves = {result["digest"]: result["curves"] for result in results}
    return Packed(tags=_tags({**data, "results": bare, "curves_file": True}), curves=_dump(curves))


def _tags(data: Mapping[str, object]) -> dict[str, str]:
    text = base64.b64encode(zlib.compress(_dump(data).encode(), 9)).decode()
    parts = [text[i : i + _TAG_LENGTH] for i in range(0, len(text), _TAG_LENGTH)]
    return {f"{_TAG}.{index}": part for index, part in enumerate(parts)}


def _dump(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def unpack(tags: Mapping[str, str]) -> Unpacked | None:
    """Return the records that a run's tags hold, or None if they hold none that are whole."""
    parts: list[str] = []
    while (part := tags.get(f"{_TAG}.{len(parts)}")) is not None:
        parts.append(part)
    try:
        data = json.loads(zlib.decompress(base64.b64decode("".join(parts), validate=True)))
        results = data["results"] if "results" in data else [data["result"]]
        orders = data["orders"] if "orders" in data else [data["order"]]
        columns = data["columns"]
        return Unpacked(
            records=tuple(TrialRecord(result=TrialResult.from_json(result), columns=columns) for result in results),
            orders=tuple(tuple(order) for order in orders),
            curves_file=bool(data["curves_file"]),
        )
    except (ValueError, KeyError, TypeError, zlib.error):
        return None
