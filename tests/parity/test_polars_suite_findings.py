"""What Polars' own tests found (docs/polars-suite.md): plans that once gave another answer than Polars, or none."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest

from frazil_coordinator.plan.model import ScanSource
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.pushdown import observe
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.errors import QueryError
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages
from support.parity import assert_same

Check: TypeAlias = Callable[..., None]
SETTINGS = Settings(start_small=False, max_rows_per_split=4)


@pytest.fixture
def same(tmp_path: Path) -> Check:
    """Return a function that runs a query in stages and compares the answer with that of Polars."""

    def check(query: pl.LazyFrame, *, ordered: bool = True, distributed: bool = False) -> None:
        plan = plan_query(query.serialize(), SETTINGS)
        assert not distributed or not plan.fallbacks
        actual = answer_in_stages(plan, SETTINGS, FolderStore(tmp_path / "store"))
        assert_same(actual, query.collect(), ordered=ordered)

    return check


NUMBERS = pl.Series(range(10))
WORDS = pl.Series([str(n) for n in range(10)])
TABLE = pl.LazyFrame({"n": range(10), "s": ["x"] * 10, "l": [[n, 9] for n in range(10)]})


@pytest.mark.parametrize(
    "expr",
    [
        pl.concat_str("s", pl.lit(WORDS)),
        pl.when(pl.col("n") > 2).then("n").fill_null(NUMBERS),
        pl.coalesce(pl.when(pl.col("n") > 4).then("n"), NUMBERS),
        pl.col("n").clip(NUMBERS - 1, NUMBERS + 1),
        pl.max_horizontal("n", NUMBERS * 2),
        pl.struct("n", NUMBERS.alias("z")),
        pl.col("n").is_between(NUMBERS, NUMBERS),
        pl.col("s").str.contains(pl.lit(pl.Series(["x", "y"] * 5))),
        pl.col("s").repeat_by(NUMBERS),
        pl.col("l").list.contains(NUMBERS),
        pl.col("n").replace_strict(pl.Series([1]), pl.Series([7]), default=pl.lit(NUMBERS)),
        pl.col("n") + NUMBERS,
    ],
    ids=str,
)
def test_a_literal_column_belongs_to_the_rows_of_the_whole_table(expr: pl.Expr, same: Check) -> None:
    same(TABLE.select(expr.alias("out")))


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("n").is_in([2, 3, 5, 7]),
        pl.col("n").is_in(pl.Series([2, 3, 5, 7]).implode()),
        pl.col("n").replace(pl.Series([1, 2]), pl.Series([5, 6])),
        pl.col("n").replace_strict([1, 2], ["a", "b"], default="c"),
        pl.col("s").str.contains_any(["x", "y"]),
        pl.col("s").str.replace_many(["x", "y"], ["p", "q"]),
        pl.col("s").str.extract_many(pl.Series(["x", "y"]).implode()),
    ],
    ids=str,
)
def test_a_literal_column_that_is_looked_at_as_a_whole_goes_to_every_task(expr: pl.Expr, same: Check) -> None:
    same(TABLE.select(expr.alias("out")), distributed=True)


VALUES = pl.LazyFrame(
    {"x": [1, 2, 3, 4, 5, 6], "y": [2, 3, 1, 9, 8, 4], "z": [20, 30, 10, 90, 80, 40], "g": [0, 0, 1, 1, 0, 1]}
)


@pytest.mark.filterwarnings("ignore:`is_in` with a collection:DeprecationWarning")
@pytest.mark.parametrize(
    "query",
    [
        VALUES.select(pl.col("x").is_in(pl.col("y"))),
        VALUES.with_columns(o=~pl.col("x").is_in(pl.col("y") + 1)),
        VALUES.select(pl.col("x").is_in(pl.col("y").shift(1))),
        VALUES.select(pl.col("x").is_in("y").sum()),
        VALUES.select(pl.col("x").is_in("y").sum().over("g")),
        VALUES.filter(pl.col("x").is_in("y") & (pl.col("g") > 0)).select("x"),
        VALUES.sort(pl.col("x").is_in("y"), "x"),
        VALUES.group_by("g").agg(pl.col("x").is_in("y").alias("l")).sort("g"),
        VALUES.group_by(pl.col("x").is_in("y")).agg(pl.len()).sort("x"),
        VALUES.select(pl.col("x").replace(pl.col("y"), pl.col("z"))),
        pl.SQLContext(t=VALUES).execute("SELECT x = ANY(t.y) AS a, x != ANY(t.y) AS b FROM t"),
    ],
    ids=lambda query: query.explain(optimized=False).partition("\n")[0],
)
def test_a_column_that_values_are_looked_for_in_is_the_whole_column(query: pl.LazyFrame, same: Check) -> None:
    same(query)


def test_a_column_of_lists_that_values_are_looked_for_in_is_looked_at_row_by_row(same: Check) -> None:
    same(VALUES.select(pl.col("x").is_in(pl.concat_list("y", "z"))))
    same(VALUES.select(pl.col("x").is_in(pl.col("y").implode())), distributed=True)


def test_a_literal_column_sees_the_order_that_a_unique_kept(same: Check) -> None:
    table = pl.LazyFrame({"x": [0, 1, 2, 3, 4], "y": [3, 4, 0, 1, 2]}).unique(maintain_order=True)
    same(table.with_columns(out=pl.lit(pl.Series([0, 1, 2, 3, 4]))).unique(), ordered=False)


@pytest.mark.parametrize("first", ["left", "right"])
@pytest.mark.parametrize("nulls_last", [True, False])
@pytest.mark.parametrize("nulls", [0, 2, 9])
def test_sorted_inputs_are_merged_with_nulls_where_they_have_them(
    first: str, nulls_last: bool, nulls: int, tmp_path: Path
) -> None:
    def side(values: list[int | None], name: str) -> pl.LazyFrame:
        frame = pl.DataFrame({"a": values, "side": name}, schema_overrides={"a": pl.Int32})
        return frame.sort("a", nulls_last=nulls_last, maintain_order=True).lazy()

    sides = [side([*range(9), *[None] * nulls], "with nulls"), side([1, 4, 4, 7, None], "other")]
    left, right = sides if first == "left" else sides[::-1]
    query = left.merge_sorted(right, "a", maintain_order=True)
    assert not plan_query(query.serialize(), SETTINGS).fallbacks
    # Polars' in-memory engine merges nulls at the end in another order.
    assert_same(answer_in_stages(query, SETTINGS, FolderStore(tmp_path)), query.collect(engine="streaming"), ordered=True)


def test_a_file_that_matches_a_glob_in_several_ways_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "x=1" / "y=2"
    folder.mkdir(parents=True)
    pl.DataFrame({"a": range(9)}).write_parquet(folder / "part=0.parquet", row_group_size=2)
    query = pl.scan_parquet(f"{tmp_path}/**/**/*.parquet", hive_partitioning=True)
    assert_same(answer_in_stages(query, SETTINGS, FolderStore(tmp_path / "store")), query.collect(), ordered=True)


def test_a_frame_of_billions_of_rows_without_bytes_is_planned_at_once() -> None:
    frame = pl.Series([{}], dtype=pl.Struct({})).new_from_index(0, 1 << 31).to_frame()
    graph = plan_query(frame.lazy().select(pl.len()).serialize(), SETTINGS)
    assert max(stage.tasks for stage in graph.stages) == 1


def test_a_frame_is_cut_into_no_more_parts_than_a_stage_may_have_tasks() -> None:
    settings = Settings(start_small=False, max_rows_per_split=1, max_tasks_per_stage=7)
    graph = plan_query(pl.LazyFrame({"n": range(100)}).select(pl.col("n") + 1).serialize(), settings)
    assert [stage.tasks for stage in graph.stages] == [7]


def test_a_plan_on_which_polars_panics_has_nothing_pushed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("unreachable")

    monkeypatch.setattr(pl.LazyFrame, "collect", panic)
    arena = Arena.of(TABLE.select("n"))
    (leaf,) = [number for number in arena.reachable() if arena.kind(number) == "DataFrameScan"]
    assert observe(arena, {0: ([leaf], TABLE.collect_schema())}) is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files of unusual names, one of them hidden, one empty."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("k=1/a.parquet", "k=1/.b.parquet", "k=2/_a.parquet", "k=3 4/a.parquet"):
        (root / name).parent.mkdir(exist_ok=True)
        pl.DataFrame({"name": [name] * 5}).write_parquet(root / name)
    (root / "k=1" / "empty.parquet").touch()
    return root


@pytest.mark.parametrize("options", [{}, {"include_file_paths": "path"}, {"hidden_file_prefix": [".", "_"]}], ids=str)
@pytest.mark.parametrize("pattern", ["/", "/**/*.parquet", "/k=[12]/*", "/k=3%204/", "/k=3%204/a.parquet"])
@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_files_are_listed_as_polars_lists_them(
    scheme: str, pattern: str, options: dict[str, Any], folders: Path, same: Check
) -> None:
    path = f"{scheme}{folders}{pattern}"
    if not scheme and "%" in pattern:
        path = path.replace("%20", " ")
    same(pl.scan_parquet(path, hive_partitioning=True, **options), distributed=True)


def test_names_with_per_cents_below_a_url_are_left_to_polars(tmp_path: Path, same: Check) -> None:
    pl.DataFrame({"a": range(9)}).write_parquet(tmp_path / "a%20b.parquet")
    query = pl.scan_parquet(f"file://{tmp_path}/*.parquet")
    assert "per cents" in str(plan_query(query.serialize(), SETTINGS).fallbacks)
    same(query)


def test_a_folder_without_files_is_an_empty_table_of_the_given_schema(tmp_path: Path, same: Check) -> None:
    query = pl.scan_parquet(tmp_path, schema={"x": pl.Int64}, hive_schema={"h": pl.String}).with_row_index()
    same(query)
    same(query.group_by("h").agg(pl.len(), pl.sum("x")))


ROWS = pl.DataFrame({"n": range(11), "s": [None, *map(str, range(10))]})


@pytest.mark.parametrize("kind", ["parquet", "ipc", "csv", "ndjson"])
def test_files_that_came_as_bytes_are_distributed(kind: str, same: Check) -> None:
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer in buffers:
        getattr(ROWS, f"write_{kind}")(buffer)
        buffer.seek(0)
    scan = getattr(pl, f"scan_{kind}")(buffers, row_index_name="row", n_rows=19)
    same(scan.with_columns(pl.col("n") * 2), distributed=True)
    same(scan.group_by("s").agg(pl.sum("n", "row")), ordered=False, distributed=True)


def test_bytes_that_are_no_file_fail_only_when_they_are_looked_at(same: Check) -> None:
    broken = pl.scan_csv(b"a,b\n1,2\n" + b"3,4\n" * 9 + b"x,5\n", schema={"a": pl.Int64, "b": pl.Int64})
    same(broken.select("b"))
    with pytest.raises(QueryError, match="could not parse"):
        same(broken)


def test_bytes_that_hold_more_rows_than_a_plan_may_are_read_by_a_function() -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"n": [7] * 100_000}).write_parquet(buffer)
    settings = replace(SETTINGS, max_plan_bytes=100_000)
    assert buffer.tell() < 10_000
    plan = plan_query(pl.scan_parquet(buffer.getvalue()).serialize(), settings)
    assert plan.fallbacks == ("a scan of in-memory buffers is not split",)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("no Parquet")], ids=["missing", "broken"])
def test_a_file_whose_folder_is_filtered_out_is_not_opened(
    spoil: Callable[[Path], object], tmp_path: Path, same: Check
) -> None:
    files = [tmp_path / f"year={year}" / "a.parquet" for year in (2024, 2025)]
    for file in files:
        file.parent.mkdir()
        pl.DataFrame({"n": range(9)}).write_parquet(file)
    scan = pl.scan_parquet(files, hive_schema={"year": pl.Int64}, hive_partitioning=True)
    spoil(files[1])
    same(scan.filter(pl.col("year") < 2025))
    with pytest.raises(QueryError):
        same(scan)


def test_a_file_of_a_known_schema_is_not_opened_for_no_rows(tmp_path: Path, same: Check) -> None:
    same(pl.scan_csv(tmp_path / "missing.csv", schema={"n": pl.Int64}).head(0))


PAIRS = pl.LazyFrame({"a": range(9), "b": range(9, 0, -1), "g": [0, 1, 1] * 3})


@pytest.mark.parametrize(
    "expr",
    [
        pl.min_horizontal(pl.min_horizontal(pl.all()), 7).first(),
        pl.col("a") - pl.sum_horizontal(pl.all()).mean(),
        pl.all() - pl.max_horizontal(pl.all().abs()).sum(),
        pl.struct(pl.col("a", "b")).last(),
        pl.concat_list(pl.col("a", "b") * 2).first(),
        pl.sum_horizontal(pl.col("a", "b").max()),
        pl.coalesce(pl.all()).shift(),
    ],
    ids=str,
)
def test_a_selector_inside_a_function_of_many_columns_stands_for_all_of_them_at_once(expr: pl.Expr, same: Check) -> None:
    same(PAIRS.select(expr), distributed=True)
    same(PAIRS.with_columns(expr), distributed=True)
    same(PAIRS.group_by("g").agg(expr).sort("g"))


LARGE = pl.LazyFrame({"a": pl.Series([1, 2, None, 2**100], dtype=pl.UInt128)})
MONEY = pl.LazyFrame({name: pl.Series(["1.5", None] * 6).cast(pl.Decimal(18, 6)) for name in "ab"})


@pytest.mark.parametrize(
    "query",
    [LARGE.select(pl.col("a").cum_sum()), LARGE.select(pl.col("a").product()), MONEY.select(pl.sum_horizontal("a", "b"))],
    ids=["running sum", "product", "sum of decimals, in several tasks"],
)
def test_where_polars_is_wrong_about_a_type_its_user_gets_what_polars_yields(query: pl.LazyFrame, same: Check) -> None:
    assert query.collect_schema() != query.collect().schema, "polars has mended it: this test, and Output.final, can go"
    same(query, distributed=True)


@pytest.mark.parametrize(("offset", "length"), [(-2, 1), (-1, None), (2, 5), (1, 1), (-9, 7), (-9, 1), (9, 1), (0, 0)])
def test_one_task_that_reads_several_files_reads_only_those_that_a_slice_touches(
    offset: int, length: int | None, tmp_path: Path, same: Check
) -> None:
    for number in range(4):
        pl.DataFrame({"n": [number]}).write_parquet(tmp_path / f"{number}.parquet")
    query = pl.scan_parquet(tmp_path / "*.parquet", row_index_name="i").slice(offset, length)
    same(query)
    (stage,) = plan_query(query.serialize(), SETTINGS).stages
    (source,) = stage.sources
    assert isinstance(source, ScanSource)
    read = [Path(split.path).stem for split in source.splits[0]]
    assert stage.tasks == 1
    touched = query.collect()["n"].cast(pl.String).to_list()
    assert read == (touched or ["0"])
