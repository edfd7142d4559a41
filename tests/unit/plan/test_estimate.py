"""What a query is expected to read, move and need: bounds that hold, on files whose footers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from frazil_coordinator.plan.caps import check_caps, check_task_times
from frazil_coordinator.plan.figures import Amount, StageEstimate, total
from frazil_coordinator.plan.memory import PROCESS_BYTES
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.volumes import row_bytes
from frazil_coordinator.prices import Prices
from frazil_coordinator.settings import Settings
from frazil_functions.errors import CapError

ROWS = 20
TINY = Settings(start_small=False, max_rows_per_split=4, broadcast_limit_bytes=0, inline_limit_bytes=0, shuffle_partitions=3)


@pytest.fixture
def t(tmp_path: Path) -> pl.LazyFrame:
    pl.DataFrame(
        {"k": [n % 3 for n in range(ROWS)], "x": range(ROWS), "s": [f"text {n}" for n in range(ROWS)]}
    ).write_parquet(tmp_path / "t.parquet")
    return pl.scan_parquet(tmp_path / "t.parquet")


def _plan(lf: pl.LazyFrame, settings: Settings = TINY) -> StageGraph:
    return plan_query(lf.serialize(), settings)


def _root(lf: pl.LazyFrame, settings: Settings = TINY) -> StageEstimate:
    return _plan(lf, settings).estimates[-1]


def _exact(value: int) -> Amount:
    return Amount(value=value)


def _at_most(value: int) -> Amount:
    return Amount(value=value, bound="at_most")


def test_bytes_scanned_are_those_of_the_footer_for_the_columns_that_are_read(t: pl.LazyFrame, tmp_path: Path) -> None:
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    sizes = {group.column(n).path_in_schema: group.column(n).total_compressed_size for n in range(group.num_columns)}
    assert _root(t.select("x")).bytes_scanned == _exact(sizes["x"])
    assert _root(t).bytes_scanned == _exact(sum(sizes.values()))


@pytest.mark.parametrize(
    ("build", "rows"),
    [
        (lambda t: t.with_columns(y=pl.col("x") * 2), _exact(ROWS)),
        (lambda t: t.filter(pl.col("x") > 3), _at_most(ROWS)),
        (lambda t: t.group_by("k").agg(pl.col("x").median()), _at_most(ROWS)),
        (lambda t: t.unique("k"), _at_most(ROWS)),
        (lambda t: t.select(pl.col("x").sum(), pl.len().alias("n")), _exact(1)),
        (lambda t: t.filter(pl.col("x") > 3).head(2), _at_most(2)),
        (lambda t: t.sort("x").head(2), _at_most(2)),
        (lambda t: t.sort("x"), _exact(ROWS)),
        (lambda t: t.join(t, on="k", how="semi"), _at_most(ROWS)),
        (lambda t: t.join(t, on="k"), Amount(value=ROWS, bound="about")),
        (lambda t: t.join(t, on="k", how="full"), Amount(value=2 * ROWS, bound="about")),
        (lambda t: t.select("x").join(t.select(y="x"), how="cross"), _exact(ROWS * ROWS)),
        (lambda t: pl.concat([t, t.filter(pl.col("x") > 1)]), _at_most(2 * ROWS)),
        (lambda t: t.with_columns(l=pl.concat_list("x", "x")).explode("l"), Amount(value=ROWS, bound="about")),
        (lambda t: pl.LazyFrame({"a": [1, 2, 3]}), _exact(3)),
    ],
)
def test_rows_out_are_as_good_as_the_operators_allow(
    t: pl.LazyFrame, build: Callable[[pl.LazyFrame], pl.LazyFrame], rows: Amount
) -> None:
    assert _root(build(t)).rows_out == rows


def test_rows_of_text_files_are_not_known_but_their_bytes_are(tmp_path: Path) -> None:
    for part in range(2):
        pl.DataFrame({"a": range(9)}).write_csv(tmp_path / f"{part}.csv")
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    found = total(stage.bytes_scanned for stage in _plan(pl.scan_csv(tmp_path / "*.csv")).estimates)
    assert (found.value, found.is_upper) == (size, True)
    assert _root(pl.scan_csv(tmp_path / "*.csv").select("a")).rows_in.bound == "unknown"


def test_a_shuffle_is_a_put_a_map_and_a_get_a_map_and_reducer(t: pl.LazyFrame) -> None:
    scan, group_by = _plan(t.group_by("k").agg(pl.col("x").median())).estimates
    assert (scan.puts, scan.gets) == (_at_most(5), _exact(0))
    assert (group_by.gets, group_by.puts) == (_at_most(5 * 3), _at_most(3))


def test_what_surely_travels_inline_costs_no_request(t: pl.LazyFrame) -> None:
    inline = Settings(start_small=False, max_rows_per_split=4)
    stages = _plan(t.select(pl.col("x").sum()), inline).estimates
    assert [(stage.puts, stage.gets) for stage in stages] == [(_exact(0), _exact(0))] * 2


def test_a_local_table_costs_no_requests_and_a_remote_one_does(t: pl.LazyFrame) -> None:
    assert _root(t).scan_gets == _exact(0)


def test_memory_is_the_bytes_of_a_task_times_the_factor_of_its_heaviest_operator(t: pl.LazyFrame) -> None:
    scan, median = _plan(t.select("k", "x").group_by("k").agg(pl.col("x").median())).estimates
    assert scan.memory_bytes == PROCESS_BYTES + int(2.5 * (3 * scan.bytes_scanned.value // 5))
    assert median.memory_bytes == PROCESS_BYTES + int(3.0 * (median.bytes_in.value // 3))


def test_dollars_are_the_price_table_times_the_figures(t: pl.LazyFrame) -> None:
    free = Settings(
        price_vcpu_second=0,
        price_gib_second=0,
        price_1000_gets=0,
        price_1000_puts=0,
        start_small=False,
        max_rows_per_split=4,
    )
    assert sum(stage.dollars for stage in _plan(t.sort("x"), free).estimates) == 0
    prices = Prices.of(Settings(price_egress_gb=0.09))
    expected = 10 * (2 * 0.000024 + 4 * 0.0000025) + 3 * 0.0004 / 1000 + 5 * 0.005 / 1000 + 0.09
    requests = {"get": 2, "head": 1, "put": 4, "list": 1, "delete": 9}
    assert prices.dollars(function_seconds=10, requests=requests, bytes_read=10**9) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("dtype", "bytes_", "bound"),
    [
        (pl.Int64(), 8, "exact"),
        (pl.Date(), 4, "exact"),
        (pl.Decimal(38, 2), 16, "exact"),
        (pl.Array(pl.Int16, 3), 6, "exact"),
        (pl.Struct({"a": pl.Int64(), "b": pl.Boolean()}), 9, "exact"),
        (pl.String(), 24, "about"),
        (pl.List(pl.Int8), 12, "about"),
    ],
)
def test_width_of_a_value_is_exact_unless_it_varies(dtype: pl.DataType, bytes_: int, bound: str) -> None:
    assert row_bytes(pl.Schema({"a": dtype})) == Amount(value=bytes_, bound=bound)  # type: ignore[arg-type]  # a literal


# Caps


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        ({"max_bytes_scanned": 10}, r"would scan [\d,]+ bytes, more than max_bytes_scanned=10 allows"),
        ({"max_cost": 0.0000001}, r"would cost about \$[\d.]+, more than max_cost=\$1e-07 allows"),
        ({"max_tasks": 7}, r"would have 8 tasks, more than max_tasks=7 allows"),
    ],
)
def test_query_above_a_cap_is_refused_with_estimate_and_cap(t: pl.LazyFrame, caps: dict[str, int], says: str) -> None:
    settings = Settings(start_small=False, max_rows_per_split=4, shuffle_partitions=3, **caps)  # type: ignore[arg-type]
    with pytest.raises(CapError, match=says):
        check_caps(_plan(t.group_by("k").agg(pl.col("x").median()), settings), settings)


def test_query_at_its_caps_is_let_through(t: pl.LazyFrame) -> None:
    graph = _plan(t.group_by("k").agg(pl.col("x").median()))
    scanned = total(stage.bytes_scanned for stage in graph.estimates).value
    check_caps(graph, Settings(max_bytes_scanned=scanned, max_tasks=8, max_cost=sum(e.dollars for e in graph.estimates)))


def test_query_that_can_not_be_estimated_is_run_unless_there_is_a_cap(
    t: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise pl.exceptions.ComputeError("only a function knows")

    monkeypatch.setattr("frazil_coordinator.plan.planner.estimate", fail)
    graph = _plan(t.select("x"))
    assert graph.estimates == ()
    check_caps(graph, Settings(max_tasks=5))
    for cap in ({"max_bytes_scanned": 10**9}, {"max_cost": 10**9}):
        with pytest.raises(CapError, match="not known beforehand"):
            check_caps(graph, Settings(**cap))  # type: ignore[arg-type]  # by name


def test_scan_that_is_not_split_counts_with_the_size_of_its_files(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(9)}).write_csv(tmp_path / "one.csv")
    size = (tmp_path / "one.csv").stat().st_size
    graph = _plan(pl.scan_csv(tmp_path / "one.csv"))
    check_caps(graph, Settings(max_bytes_scanned=size))
    with pytest.raises(CapError, match="max_bytes_scanned"):
        check_caps(graph, Settings(max_bytes_scanned=size - 1))


def test_a_task_that_the_platform_would_end_is_refused_with_what_to_do(tmp_path: Path) -> None:
    pl.DataFrame({"k": [1, 2], "x": [1.0, 2.0]}).write_parquet(tmp_path / "t.parquet")
    settings = Settings(start_small=False)
    graph = _plan(pl.scan_parquet(tmp_path / "t.parquet").group_by("k").agg(pl.col("x").sum()), settings)
    longest = max(
        estimate.function_seconds / stage.tasks for stage, estimate in zip(graph.stages, graph.estimates, strict=True)
    )
    check_task_times(graph, settings, longest * 1.01)
    check_task_times(graph, settings, None)
    with pytest.raises(CapError, match=r"stage \d+ .* is ended after .* s \(the functions' timeoutSeconds\): .*max_task_s"):
        check_task_times(graph, settings, longest / 2)
    # Who sets the setting tries it all the same, or is stricter than the platform.
    check_task_times(graph, Settings(max_task_s=longest * 2), longest / 2)
    with pytest.raises(CapError, match="max_task_s"):
        check_task_times(graph, Settings(max_task_s=longest / 2), None)
