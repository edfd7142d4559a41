"""Serialised plans as arenas: what is read, joined, digested and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest
from polars.io.plugins import register_io_source

from frazil_functions.arena import Arena, plan_header
from frazil_functions.errors import PlanError, PlanVersionError, PythonPlanError


@pytest.fixture
def table(tmp_path: Path) -> pl.LazyFrame:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1, 2, 3], "s": ["x", "y", "x"]}).write_parquet(path)
    return pl.scan_parquet(path)


def _sql(lf: pl.LazyFrame) -> pl.LazyFrame:
    return pl.SQLContext(t=lf, eager=False).execute("SELECT s, SUM(a) AS n FROM t GROUP BY s ORDER BY s")


QUERIES: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "scan": lambda t: t,
    "frame": lambda t: pl.LazyFrame({"a": [1]}),
    "filter with a 128-bit literal": lambda t: t.filter(pl.col("a") < 10**20),
    "join of a scan and a frame": lambda t: t.join(pl.LazyFrame({"a": [1, 9]}), on="a", how="left"),
    "vertical concat with inline inputs": lambda t: pl.concat([t, t.slice(1, 1), pl.LazyFrame({"a": [7], "s": ["z"]})]),
    "pivot, whose columns are a frame": lambda t: t.join(pl.LazyFrame({"a": [1, 2]}), on="a").pivot(
        "s", on_columns=["x", "y"], index="a", values="a", aggregate_function="sum", maintain_order=True
    ),
    "horizontal concat": lambda t: pl.concat([t, t.select(b="a")], how="horizontal"),
    "sql, which refers to its tables by name": _sql,
    "sql inside a larger plan": lambda t: _sql(t).join(_sql(t), on="s").filter(pl.col("n") > 0),
}


@pytest.mark.parametrize("name", QUERIES)
def test_decoded_and_encoded_plan_gives_the_same_answer(name: str, table: pl.LazyFrame) -> None:
    query = QUERIES[name](table)
    assert Arena.of(query).lazy().sort(pl.all()).collect().equals(query.sort(pl.all()).collect())


@pytest.mark.parametrize("name", QUERIES)
def test_plan_appended_to_another_arena_keeps_its_answer_and_digest(name: str, table: pl.LazyFrame) -> None:
    query = QUERIES[name](table)
    arena = Arena.of(pl.LazyFrame({"other": [1, 2]}).filter(pl.col("other") > 1))
    root = arena.append(Arena.of(query))
    assert arena.lazy(root).sort(pl.all()).collect().equals(query.sort(pl.all()).collect())
    assert arena.digest(root) == Arena.of(query).digest()


def test_digest_differs_with_the_rows_of_a_frame() -> None:
    assert Arena.of(pl.LazyFrame({"a": [1]})).digest() != Arena.of(pl.LazyFrame({"a": [2]})).digest()


def test_consumers_read_the_replacement_after_a_redirect(table: pl.LazyFrame) -> None:
    arena = Arena.of(_sql(table))
    (scan,) = [number for number in arena.reachable() if arena.kind(number) == "Scan"]
    arena.redirect({scan: arena.append(Arena.of(pl.LazyFrame({"a": [5, 6], "s": ["q", "q"]})))})
    assert arena.lazy().collect().rows() == [("q", 11)]


@pytest.mark.parametrize("plan", [b"", b"hello", b"PAR1" * 40])
def test_bytes_that_are_no_plan_are_refused(plan: bytes) -> None:
    with pytest.raises(PlanError, match="not a polars plan"):
        Arena.decode(plan)


def test_truncated_plan_is_refused_wherever_it_is_cut(table: pl.LazyFrame) -> None:
    plan = table.filter(pl.col("a") > 1).serialize()
    for length in range(11, len(plan), 17):
        with pytest.raises(PlanError):
            Arena.decode(plan[:length])


def test_plan_of_another_polars_version_is_refused_by_name() -> None:
    plan = pl.LazyFrame({"a": [1]}).serialize()
    with pytest.raises(PlanVersionError, match=f"polars {pl.__version__}"):
        Arena.decode(plan[:15] + b"0" * 64 + plan[79:])


def test_plan_that_contains_itself_is_refused() -> None:
    key = {"idx": 1, "version": 1}
    node = {"Filter": {"input": key, "predicate": {"Column": "a"}}}
    plans = [{"value": None, "version": 0}, {"value": node, "version": 1}]
    document = {"root": key, "dataframes": [], "dsl_plans": plans}
    with pytest.raises(PlanError, match="contains itself"):
        Arena.decode(plan_header() + msgspec.msgpack.encode(document))


def test_plan_that_refers_to_a_missing_node_is_refused() -> None:
    node = {"SQL": {"query": "SELECT 1", "relations": [["t", {"idx": 7, "version": 1}]], "catalog_tables": []}}
    document = {
        "root": {"idx": 1, "version": 1},
        "dataframes": [],
        "dsl_plans": [{"value": None, "version": 0}, {"value": node, "version": 1}],
    }
    with pytest.raises(PlanError, match="input is missing"):
        Arena.decode(plan_header() + msgspec.msgpack.encode(document))


PYTHON: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "map_elements": lambda t: t.select(pl.col("a").map_elements(lambda x: x, return_dtype=pl.Int64)),
    "map_batches of a column": lambda t: t.select(pl.col("a").map_batches(lambda s: s, return_dtype=pl.Int64)),
    "map_batches of a frame": lambda t: t.map_batches(lambda df: df),
    "map_groups": lambda t: t.group_by("s").map_groups(lambda df: df, schema={"a": pl.Int64, "s": pl.String}),
    "python source": lambda t: register_io_source(lambda *_: iter([pl.DataFrame({"a": [1]})]), schema={"a": pl.Int64}),
    "pipe_with_schema": lambda t: t.pipe_with_schema(lambda lf, schema: lf),
}


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
def test_python_objects_are_found_without_unpickling_them(
    name: str, table: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PYTHON[name](table).serialize()
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(PythonPlanError, match=r"refused \(a setting\)"):
        Arena.decode(plan).refuse_python("a setting")


def test_binary_and_list_literals_are_not_taken_for_python_objects(table: pl.LazyFrame) -> None:
    query = table.select(pl.lit(b"\x80\x02abc"), pl.col("a").is_in([0, 11, 7, 128, 5]))
    Arena.of(query).refuse_python("a setting")


def test_a_node_is_whole_without_the_arena_it_came_from() -> None:
    source = pl.LazyFrame({"k": [1, 1, 2], "s": ["x", "y", "x"], "v": [1, 2, 3]})
    pivot = source.pivot("s", on_columns=["x", "y"], index="k", values="v", aggregate_function="sum", maintain_order=True)
    theirs = Arena.of(pivot)
    elsewhere = Arena()
    other = elsewhere.append(Arena.of(source.with_columns(pl.col("v") * 10)))
    elsewhere.root = elsewhere.add(elsewhere.with_inputs(theirs.nodes[theirs.root], [other]))
    assert elsewhere.lazy().collect().rows() == [(1, 10, 20), (2, 30, 0)]
    assert theirs.digest() != elsewhere.digest()


def test_a_frame_that_is_missing_is_a_corrupt_plan() -> None:
    plan = pl.LazyFrame({"a": [1]}).serialize()
    document = msgspec.msgpack.decode(plan[79:])
    document["dataframes"] = document["dataframes"][:1]
    with pytest.raises(PlanError, match="frame is missing"):
        Arena.decode(plan[:79] + msgspec.msgpack.encode(document))
