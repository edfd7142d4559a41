"""Operators that move, reshape and combine whole frames, in stages over tiny splits, against single-node Polars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest

import frazil
from support.frames import Case, check
from support.parity import assert_same

Tables = Mapping[str, pl.LazyFrame]

ROWS = 23


def _table() -> pl.DataFrame:
    numbers = range(ROWS)
    frame = pl.DataFrame(
        {
            "id": numbers,
            "k": [n % 4 if n % 5 else None for n in numbers],
            "x": [float("nan") if n % 7 == 0 else (n / 2 if n % 3 else None) for n in numbers],
            "z": [-0.0 if n % 2 else 0.0 for n in numbers],
            "s": [f"s{n % 6}" if n % 8 else None for n in numbers],
            "n": [None] * ROWS,
            "i8": [n - 11 for n in numbers],
        },
        schema_overrides={"n": pl.Int32, "i8": pl.Int8},
    )
    return frame.with_columns(
        c=pl.col("s").cast(pl.Categorical),
        e=pl.col("s").cast(pl.Enum([f"s{n}" for n in range(6)])),
        dec=(pl.col("id") / 4).cast(pl.Decimal(12, 2)),
        l=pl.concat_list("id", "k"),
        st=pl.struct("k", "s"),
        d=pl.date(2024, 1, 1) + pl.duration(days=pl.col("id") % 9),
        dtm=pl.datetime(2024, 3, 31, 1, time_zone="Europe/Berlin") + pl.duration(hours=pl.col("id")),
        du=pl.duration(hours=pl.col("i8")),
        t=pl.time(pl.col("id")),
        b=pl.col("id") % 3 == 0,
        bin=pl.col("s").cast(pl.Binary),
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("frames")
    frame = _table()
    frame.slice(0, 14).write_parquet(folder / "a.parquet", row_group_size=5)
    frame.slice(14).write_parquet(folder / "b.parquet")
    frame.clear().write_parquet(folder / "none.parquet")
    frame.head(1).write_parquet(folder / "one.parquet")
    other = pl.DataFrame({"id": [3, 1, None, 1, 40], "v": ["a", "b", "c", "d", "e"]})
    return {
        "t": pl.scan_parquet([folder / "a.parquet", folder / "b.parquet"]),
        "none": pl.scan_parquet(folder / "none.parquet"),
        "one": pl.scan_parquet(folder / "one.parquet"),
        "r": other.lazy(),
    }


def _shuffled(tables: Tables) -> pl.LazyFrame:
    """Rows out of an exchange, in a known order."""
    return tables["t"].sort("z", "id", descending=[True, False])


def _kept(tables: Tables) -> pl.LazyFrame:
    """Rows of which some tasks have none."""
    return tables["t"].filter(pl.col("id") > 9)


CASES: dict[str, Case] = {
    "unpivot": Case(lambda f: f["t"].unpivot(["id", "i8"], index="s")),
    "unpivot with names": Case(
        lambda f: f["t"].unpivot(cs.integer(), index=["s", "l"], variable_name="which", value_name="w")
    ),
    "unpivot of everything": Case(lambda f: f["t"].select("id", "k", "x").unpivot()),
    "unpivot all but the index": Case(lambda f: f["t"].select("s", "id", "x").unpivot(index="s")),
    "unpivot of no column": Case(lambda f: f["t"].select("s", "id").unpivot(on=[], index=["s", "id"])),
    "unpivot of no row": Case(lambda f: f["none"].unpivot(["id", "i8"], index="s"), one_task=True),
    "unpivot after an exchange": Case(lambda f: _shuffled(f).unpivot(["id", "x"], index="z").filter(pl.col("value") > 3)),
    "unpivot whose order nobody sees": Case(
        lambda f: f["t"].unpivot(["id", "i8"], index="s").group_by("s", "variable").agg(pl.col("value").sum()), ordered=False
    ),
    "pivot": Case(
        lambda f: f["t"].pivot("k", on_columns=[1, 2, 9], index="s", values="id", aggregate_function="sum"), ordered=False
    ),
    "pivot in order of first appearance": Case(
        lambda f: f["t"].pivot(
            "k", on_columns=[1, 2], index="s", values=["id", "x"], aggregate_function="max", maintain_order=True
        )
    ),
    "pivot by first": Case(
        lambda f: f["t"].pivot("s", on_columns=["s1", "s4"], index=["k", "b"], values="id", aggregate_function="first"),
        ordered=False,
    ),
    "pivot by an expression": Case(
        lambda f: f["t"].pivot(
            "k", on_columns=[0, 3], index="s", values="id", aggregate_function=pl.element().max() - pl.element().min()
        ),
        ordered=False,
    ),
    "pivot on several columns": Case(
        lambda f: f["t"].pivot(
            ["k", "b"],
            on_columns=pl.DataFrame({"k": [1, 2], "b": [True, False]}),
            index="s",
            values="id",
            aggregate_function="len",
        ),
        ordered=False,
    ),
    "pivot of all that is left": Case(
        lambda f: f["t"].select("s", "k", "id", "z").pivot("k", on_columns=[1, 2], values="id", aggregate_function="last"),
        ordered=False,
    ),
    "pivot of colocated rows": Case(
        lambda f: (
            f["t"]
            .group_by("s", "k")
            .agg(pl.col("id").sum())
            .pivot("k", on_columns=[1, 2], index="s", values="id", aggregate_function="sum")
        ),
        ordered=False,
    ),
    "pivot of nothing": Case(
        lambda f: f["none"].pivot("k", on_columns=[1], index="s", values="id", aggregate_function="sum"), one_task=True
    ),
    "pivot without index": Case(
        lambda f: f["t"].select("k", "id").pivot("k", on_columns=[1, 2], values="id", aggregate_function="sum"),
        fallback=True,
    ),
    "side by side, of the same rows": Case(
        lambda f: pl.concat([f["t"].select("id"), f["t"].select(q="s")], how="horizontal")
    ),
    "side by side, of different tables": Case(
        lambda f: pl.concat(
            [_shuffled(f).select("id", "l"), f["t"].select(q="s"), f["t"].select("n").reverse()], how="horizontal"
        )
    ),
    "side by side, of one task and many": Case(
        lambda f: pl.concat(
            [f["t"].select("id"), pl.LazyFrame({"q": range(ROWS)}).sort("q", descending=True)], how="horizontal"
        )
    ),
    "side by side, too short": Case(lambda f: pl.concat([f["t"].select("id"), _kept(f).select(q="s")], how="horizontal")),
    "side by side, one row too short": Case(
        lambda f: pl.concat([f["t"].select("id"), f["t"].filter(pl.col("id") != 4).select(q="s")], how="horizontal")
    ),
    "side by side, nothing beside something": Case(
        lambda f: pl.concat([f["t"].select("id"), f["t"].filter(pl.col("id") * 2 < 0).select(q="s")], how="horizontal")
    ),
    "side by side, filled up": Case(
        lambda f: pl.concat([_kept(f).select("id"), f["t"].select(q="s"), f["r"].select("v")], how="horizontal_extend")
    ),
    "side by side, filled up with nothing": Case(
        lambda f: pl.concat(
            [f["t"].select("id"), f["t"].filter(pl.col("id") * 2 < 0).select(q="s")], how="horizontal_extend"
        )
    ),
    "side by side, names that clash": Case(
        lambda f: pl.concat([f["t"].select("id"), _kept(f).select("id")], how="horizontal")
    ),
    "side by side, then aggregated": Case(
        lambda f: (
            pl.concat([_shuffled(f).select("id"), f["t"].select(q="i8")], how="horizontal")
            .group_by("q")
            .agg(pl.col("id").sum())
        ),
        ordered=False,
    ),
    "merge of sorted tables": Case(
        lambda f: f["t"].select("id", "s").merge_sorted(f["t"].select(pl.col("id") + 5, "s"), key="id", maintain_order=True)
    ),
    "merge of sorted tables with nulls and ties": Case(
        lambda f: (
            f["t"]
            .select("k", "id")
            .sort("k", maintain_order=True)
            .merge_sorted(f["t"].select("k", -pl.col("id")).sort("k", maintain_order=True), key="k", maintain_order=True)
        )
    ),
    "merge with nothing": Case(
        lambda f: (
            f["t"].select("id").merge_sorted(f["t"].filter(pl.col("id") * 2 < 0).select("id"), key="id", maintain_order=True)
        )
    ),
    "reverse": Case(lambda f: f["t"].reverse()),
    "reverse of a sort": Case(lambda f: _shuffled(f).reverse().head(7)),
    "reverse of some columns": Case(lambda f: f["t"].select(pl.col("id", "l").reverse(), q=(pl.col("k") + 1).reverse())),
    "reverse of a filter": Case(lambda f: _kept(f).reverse()),
    "reverse of nothing": Case(lambda f: f["t"].filter(pl.col("id") * 2 < 0).reverse()),
    "reverse of one column beside another": Case(lambda f: f["t"].select("id", pl.col("k").reverse())),
    "every third row": Case(lambda f: f["t"].gather_every(3)),
    "every fifth row from the second on": Case(lambda f: _kept(f).gather_every(5, 2)),
    "every row beyond the last": Case(lambda f: f["t"].gather_every(3, 100)),
    "slice in the middle of a filter": Case(lambda f: _kept(f).slice(5)),
    "slice of a sort to its end": Case(lambda f: _shuffled(f).slice(20)),
    "slice beyond the end of a filter": Case(lambda f: _kept(f).slice(50)),
    "slice from far behind": Case(lambda f: _kept(f).slice(-100, 95)),
    "head of columns": Case(lambda f: _kept(f).select(pl.col("id", "s").head(3))),
    "tail of columns": Case(lambda f: _kept(f).select(pl.all().tail(3))),
    "filter of columns": Case(lambda f: f["t"].select(pl.col("id", "x").filter(pl.col("k") > 1))),
    "columns in the order of another": Case(
        lambda f: f["t"].select(pl.col("id", "s").sort_by("x", "id", descending=[True, False], nulls_last=True))
    ),
    "first rows of several lengths": Case(lambda f: _kept(f).select(pl.col("id").slice(1, 2), pl.col("s").gather([3, 0]))),
    "rows at numbers": Case(lambda f: f["t"].select(pl.col("id", "l").gather([7, 0, 7]))),
    "rows at numbers that don't exist": Case(lambda f: f["t"].select(pl.col("id").gather([7, 70]))),
    "rows at a number that doesn't exist, as null": Case(
        lambda f: f["t"].select(pl.col("id").gather([7, 70], null_on_oob=True))
    ),
    "rows at numbers from the end": Case(lambda f: f["t"].select(pl.col("id").gather([-1]))),
    "constants": Case(lambda f: f["t"].select(pl.lit(1), two=pl.lit(2) * pl.lit(3)), one_task=True),
    "constants over rows that can't be computed": Case(
        lambda f: f["t"].filter(pl.col("s").cast(pl.Int64) > 1).select(pl.lit(1)), one_task=True
    ),
    "constants beside a column": Case(lambda f: f["t"].select("id", two=pl.lit(2) * pl.lit(3))),
    "constants joined": Case(lambda f: f["t"].select(pl.lit(1)).join(f["r"], how="cross"), ordered=False),
    "rows updated by a constant": Case(lambda f: f["t"].select("id", "x").update(f["r"].select(x=pl.lit(1.0)))),
    "no column": Case(lambda f: f["t"].select([]), one_task=True),
    "schema that matches": Case(lambda f: f["t"].match_to_schema(_table().schema)),
    "schema with a default": Case(
        lambda f: (
            f["t"]
            .select("id", "i8")
            .match_to_schema(
                {"i8": pl.Int64, "q": pl.Int32},
                missing_columns={"q": pl.lit(3)},
                extra_columns="ignore",
                integer_cast="upcast",
            )
        )
    ),
    "schema that does not match": Case(lambda f: f["t"].match_to_schema({"id": pl.String})),
    "rows said to be sorted": Case(lambda f: f["t"].set_sorted("id").group_by("k").agg(pl.col("id").max()), ordered=False),
    "concat in any order": Case(lambda f: pl.union([f["t"].select("id"), _kept(f).select("id")]), ordered=False),
    "count": Case(lambda f: f["t"].count()),
    "null_count": Case(lambda f: f["t"].null_count()),
    "quantile": Case(lambda f: f["t"].select("id", "s").quantile(0.3, "linear")),
}

EXACT = ("sum", "min", "max")
for _name in EXACT:
    CASES |= {
        f"{_name} of every column": Case(lambda f, name=_name: getattr(f["t"].drop("l", "st", "bin"), name)()),  # type: ignore[misc]
        f"{_name} of no row": Case(
            lambda f, name=_name: getattr(f["t"].filter(pl.col("id") * 2 < 0).drop("l", "st", "bin"), name)()  # type: ignore[misc]
        ),
    }
for _name in ("mean", "std", "var"):
    CASES[f"{_name} of numbers and texts"] = Case(lambda f, name=_name: getattr(f["t"].select("id", "x", "s", "b"), name)())  # type: ignore[misc]


GATHER = Case(lambda f: f["t"].gather(f["t"].filter(pl.col("id") % 4 == 1).select(pl.col("id").cast(pl.UInt32))))


@pytest.mark.parametrize("broadcast", [False, True])
def test_rows_are_looked_up_in_many_tasks_when_the_frame_may_be_broadcast(
    broadcast: bool, tables: Tables, tmp_path: Path
) -> None:
    check(replace(GATHER, fallback=not broadcast), tables, tmp_path, broadcast=broadcast)


@pytest.mark.parametrize("broadcast", [False, True], ids=["hash", "broadcast"])
@pytest.mark.parametrize("name", CASES)
def test_answer_equals_polars(name: str, broadcast: bool, tables: Tables, tmp_path: Path) -> None:
    check(CASES[name], tables, tmp_path, broadcast=broadcast)


def test_queries_collected_together_compute_what_they_share_once(tables: Tables) -> None:
    sums = tables["t"].group_by("k").agg(pl.col("id").sum(), pl.len().alias("n"))
    lfs = [sums.sort("k"), sums.select(pl.col("id").max()), sums.filter(pl.col("n") > 3).sort("k"), tables["t"].select("id")]
    settings = frazil.Settings(start_small=False, max_rows_per_split=4)
    with frazil.local(max_functions=1, settings=settings) as engine:
        answers = pl.collect_all(lfs, engine=engine)
        for answer, lf in zip(answers, lfs, strict=True):
            assert_same(answer, lf.collect(), ordered=True)
        pl.collect_all(lfs[:3], engine=engine)
        assert engine.last_query is not None
        assert engine.last_query.explain().count("(partial)") == 2  # of the shared groups, and of the largest sum
