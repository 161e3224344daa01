"""Packed records: every value and type comes back, of one trial or of all seeds of a setting."""

from __future__ import annotations

from dataclasses import replace

from hyperscale.recording.mlflow_packed import pack, pack_setting, unpack
from tests.test_mlflow_store import changed, make_file, make_records


def test_a_record_survives_packing() -> None:
    """Every value and type; torn or missing tags are no record."""
    columns = {"a": 1, "b": 1.0, "c": "1", "d": "λ\n", "e": 2**60, "f": 0.1 + 0.2, "g": True}
    odd = replace(make_records(make_file())[0], columns=columns)
    unpacked = unpack(pack(odd, (3, 1)).tags)
    assert unpacked is not None
    assert (unpacked.records, unpacked.orders) == ((odd,), ((3, 1),))
    assert [type(v) for v in unpacked.records[0].columns.values()] == [int, float, str, str, int, float, bool]
    assert unpack({}) is None
    assert unpack({"mlflow.hyperscale.record.0": "torn"}) is None


def test_a_setting_s_records_survive_packing() -> None:
    """Each seed with its own result and place; curves too long for tags go to one artifact and come back."""
    seeds = make_records(make_file())[:2]
    unpacked = unpack(pack_setting(seeds, [(0, 0), (0, 1)]).tags)
    assert unpacked is not None
    assert (unpacked.records, unpacked.orders) == (tuple(seeds), ((0, 0), (0, 1)))
    values = [((i * 2654435761) % 2**32) / 2**32 for i in range(6000)]
    long = [changed(record, curves={"points": [values, values[i:]]}) for i, record in enumerate(seeds)]
    for some in (long, long[:1]):
        packed = pack_setting(some, [(0, index) for index in range(len(some))])
        assert packed.curves is not None
        bare = unpack(packed.tags)
        assert bare is not None
        assert bare.curves_file
        assert bare.with_curves(packed.curves).records == tuple(some)


def test_no_tag_is_longer_than_mlflow_keeps() -> None:
    """MLflow cuts tags silently."""
    seeds = [changed(make_records(make_file())[0], digest=f"{i:064}", seed=i) for i in range(200)]
    packed = pack_setting(seeds, [(0, seed) for seed in range(200)])
    assert all(len(text) <= 8000 for text in packed.tags.values())
