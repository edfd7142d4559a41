"""An exchange costs the requests that the design says, counted by the functions and, apart from them, on the wire.

P maps and R reducers: P PUT + P·R GET, and no LIST or HEAD (docs/exchange.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import frazil
from frazil_coordinator.schedule.bind import query_prefixes
from support.counting_s3 import RequestLog, count_requests
from support.parity import assert_same
from support.polling import eventually
from support.seaweed import SeaweedFS

ROWS_A_SPLIT = 64
BUCKET = "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a profile, and what the wire says of the objects that it wrote."""

    kind: str
    tasks: int
    put: int
    get: int
    other: int
    wire_put: int
    wire_get: int


@pytest.fixture(scope="module")
def wire(seaweed: SeaweedFS) -> Iterator[RequestLog]:
    seaweed.make_bucket(BUCKET)
    with count_requests(seaweed.endpoint) as log:
        yield log


def run(lf: pl.LazyFrame, settings: frazil.Settings, seaweed: SeaweedFS, wire: RequestLog) -> list[Stage]:
    """Run a query over the counted store, compare its answer with Polars's, and return what each stage asked for."""
    options = {**seaweed.storage_options, "aws_endpoint_url": wire.endpoint}
    with frazil.local(max_functions=2, settings=settings, store=f"s3://{BUCKET}/x", storage_options=options) as engine:
        wire.clear()
        assert_same(lf.collect(engine=engine), lf.collect(), ordered=False)
        query = engine.last_query
        assert query is not None
        stages: list[Any] = list(query.profile()["stages"])  # type: ignore[call-overload]  # JSON
        eventually(lambda: not seaweed.keys(BUCKET), "the exchange prefix is empty")
    assert wire.counts(f"{BUCKET}/x")["HEAD"] == 0
    (prefix,) = query_prefixes("exchange", query.id)
    return [
        Stage(
            kind=stage["kind"],
            tasks=stage["tasks"],
            put=stage["requests"].get("put", 0),
            get=stage["requests"].get("get", 0),
            other=sum(count for name, count in stage["requests"].items() if name not in ("put", "get")),
            wire_put=wire.counts(f"{BUCKET}/x/{prefix}{stage['stage']}/")["PUT"],
            wire_get=wire.counts(f"{BUCKET}/x/{prefix}{stage['stage']}/")["GET"],
        )
        for stage in stages
    ]


def settings(**changes: Any) -> frazil.Settings:
    return frazil.Settings(
        start_small=False, max_rows_per_split=ROWS_A_SPLIT, inline_limit_bytes=0, broadcast_limit_bytes=0, **changes
    )


def table(path: Path, rows: int) -> pl.LazyFrame:
    """Write a table in which every split has rows for every partition."""
    pl.DataFrame({"key": [n % 32 for n in range(rows)], "value": range(rows)}).write_parquet(
        path, row_group_size=ROWS_A_SPLIT
    )
    return pl.scan_parquet(path)


@pytest.mark.parametrize(("maps", "reducers"), [(2, 4), (4, 2), (4, 3), (6, 5)])
def test_a_shuffle_costs_a_put_a_map_and_a_get_a_map_and_reducer(
    maps: int, reducers: int, seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path
) -> None:
    lf = table(tmp_path / "t.parquet", maps * ROWS_A_SPLIT).group_by("key").agg(pl.col("value").median())
    scan, group_by, *rest = run(lf, settings(shuffle_partitions=reducers), seaweed, wire)
    assert rest == []
    assert (scan.tasks, group_by.tasks) == (maps, reducers)
    assert (scan.put, scan.get) == (maps, 0)
    assert group_by.get == maps * reducers
    assert (scan.wire_put, scan.wire_get) == (maps, maps * reducers)
    assert group_by.put == group_by.wire_put == reducers
    assert scan.other == group_by.other == 0


def test_a_hash_join_costs_the_shuffles_of_its_two_sides(seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path) -> None:
    left, right = table(tmp_path / "l.parquet", 3 * ROWS_A_SPLIT), table(tmp_path / "r.parquet", 2 * ROWS_A_SPLIT)
    joined = left.join(right.rename({"value": "other"}), on="key")
    stages = run(joined, settings(shuffle_partitions=3), seaweed, wire)
    (join,) = [stage for stage in stages if stage.kind == "join"]
    scans = [stage for stage in stages if stage is not join]
    assert sorted(stage.tasks for stage in scans) == [2, 3]
    assert sum(stage.put for stage in scans) == sum(stage.wire_put for stage in scans) == 3 + 2
    assert join.get == sum(stage.wire_get for stage in scans) == (3 + 2) * 3


def test_a_broadcast_costs_a_put_a_map_and_a_get_a_map_and_reader(
    seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path
) -> None:
    left, right = table(tmp_path / "l.parquet", 5 * ROWS_A_SPLIT), table(tmp_path / "r.parquet", 2 * ROWS_A_SPLIT)
    small = right.filter(pl.col("value") < 32 * 3).rename({"value": "other"})
    plan = left.join(small, on="key")
    wide = frazil.Settings(start_small=False, max_rows_per_split=ROWS_A_SPLIT, inline_limit_bytes=0)
    stages = run(plan, wide, seaweed, wire)
    scan = next(stage for stage in stages if stage.tasks == 2)
    join = next(stage for stage in stages if stage.tasks == 5)
    assert scan.put == scan.wire_put == 2
    assert join.get == scan.wire_get == 2 * 5


def test_a_join_and_a_group_by_on_the_same_key_shuffle_once(seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path) -> None:
    left, right = table(tmp_path / "l.parquet", 3 * ROWS_A_SPLIT), table(tmp_path / "r.parquet", 2 * ROWS_A_SPLIT)
    plan = left.join(right.rename({"value": "other"}), on="key").group_by("key").agg(pl.col("other").median())
    stages = run(plan, settings(shuffle_partitions=3), seaweed, wire)
    assert sum(stage.get for stage in stages) == (3 + 2) * 3


def test_a_shuffle_in_two_levels_costs_the_roots_instead(
    seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.schedule.combine._WORTH", 0)  # so few requests would be left as they are
    lf = table(tmp_path / "t.parquet", 9 * ROWS_A_SPLIT).group_by("key").agg(pl.col("value").median())
    scan, combine, group_by = run(lf, settings(shuffle_partitions=4, two_level_requests=35), seaweed, wire)
    assert (scan.tasks, combine.kind, combine.tasks, group_by.tasks) == (9, "combine", 3 * 2, 4)
    assert (scan.put, combine.put, group_by.put) == (9, 3 * 2, 4)
    assert combine.get == scan.wire_get == 9 * 2
    assert group_by.get == combine.wire_get == 3 * 4
    assert combine.wire_put == 3 * 2
    assert scan.other == combine.other == group_by.other == 0


def test_output_that_fits_travels_inline_and_costs_no_request_at_all(
    seaweed: SeaweedFS, wire: RequestLog, tmp_path: Path
) -> None:
    lf = table(tmp_path / "t.parquet", 4 * ROWS_A_SPLIT).group_by("key").agg(pl.col("value").median())
    inline = frazil.Settings(start_small=False, max_rows_per_split=ROWS_A_SPLIT, shuffle_partitions=3)
    for stage in run(lf, inline, seaweed, wire):
        assert (stage.put, stage.get, stage.other, stage.wire_put, stage.wire_get) == (0, 0, 0, 0, 0)
