"""Joins of every kind, order, check and key, in stages over tiny splits, against single-node Polars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from support.frames import Case, check

Tables = Mapping[str, pl.LazyFrame]

LEFT = pl.DataFrame(
    {
        "id": range(19),
        "k": [n % 5 if n % 6 else None for n in range(19)],
        "x": [n / 2 if n % 7 else float("nan") for n in range(19)],
        "s": [f"s{n % 4}" for n in range(19)],
    }
)
RIGHT = pl.DataFrame(
    {
        "k": [3, 1, None, 8, 1, 3, 0, None, 9, 2, 1],
        "id": [4, 2, 7, 7, 30, 1, 0, 4, 5, 11, 2],
        "s": ["s1", "s2", None, "s0", "s9", "s1", "s1", "s2", "s0", None, "s3"],
        "w": range(11),
    }
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("joins")
    LEFT.write_parquet(folder / "l.parquet", row_group_size=5)
    RIGHT.write_parquet(folder / "r.parquet", row_group_size=3)
    return {"l": pl.scan_parquet(folder / "l.parquet"), "r": pl.scan_parquet(folder / "r.parquet")}


def _ordered(how: Any, order: Any, coalesce: bool | None) -> Case:
    """Return a join in an order; by one side only, the order of the other's rows is open."""
    first = "id" if order.startswith("left") else "w"
    return Case(
        lambda f: f["l"].join(f["r"], on="k", how=how, maintain_order=order, coalesce=coalesce),
        ordered="_" in order,
        order_of=(first,),
    )


CASES: dict[str, Case] = {
    f"{how} in the order of {order}, coalesce={coalesce}": _ordered(how, order, coalesce)
    for how in ("inner", "left", "right", "full")
    for order in ("left", "right", "left_right", "right_left")
    for coalesce in (None, True, False)
}

CASES |= {
    "semi in order": Case(lambda f: f["l"].join(f["r"], on="k", how="semi", maintain_order="left")),
    "anti in order, nulls equal": Case(
        lambda f: f["l"].join(f["r"], on="k", how="anti", maintain_order="left", nulls_equal=True)
    ),
    "full in order, with an odd suffix": Case(
        lambda f: f["l"].join(f["r"], on=["k", "s"], how="full", maintain_order="right_left", suffix="")
    ),
    "full on expressions in order": Case(
        lambda f: f["l"].join(
            f["r"], left_on=pl.col("id") % 3, right_on=pl.col("w") - 1, how="full", maintain_order="left_right"
        )
    ),
    "full, then sorted stably": Case(
        lambda f: f["l"].join(f["r"], on="k", how="full", maintain_order="left_right").sort("s", maintain_order=True)
    ),
    "full whose order nobody sees": Case(
        lambda f: f["l"].join(f["r"], on="k", how="full", maintain_order="right_left").group_by("s").agg(pl.len()),
        ordered=False,
    ),
    "aligned": Case(
        lambda f: pl.concat([f["l"].select("id", "x"), f["r"].select("id", q="k"), f["l"].select("id", "s")], how="align"),
        ordered=False,
        order_of=("id",),
    ),
    "aligned to the left": Case(
        lambda f: pl.concat([f["l"].select("id", "x"), f["r"].unique("id").select("id")], how="align_left"),
    ),
    "updated": Case(lambda f: f["l"].update(f["r"].unique("id", keep="first").select("id", s="s"), on="id", how="full")),
    "cross in the order of one row": Case(
        lambda f: f["r"].select(pl.col("w").sum()).join(f["l"], how="cross", maintain_order="left_right")
    ),
    "cross in the order of some rows in one task": Case(
        lambda f: f["l"].join(f["r"].sort("w").tail(3), how="cross", maintain_order="right_left")
    ),
    "cross in the order of both": Case(lambda f: f["l"].join(f["r"], how="cross", maintain_order="left_right")),
    "cross with nothing": Case(lambda f: f["l"].join(f["r"].filter(pl.col("w") * 2 < 0), how="cross"), ordered=False),
    "where columns are equal": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k") == pl.col("k_right"), pl.col("id") > pl.col("w")), ordered=False
    ),
    "where expressions are equal": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k_right") + 1 == pl.col("k") * 2, pl.col("s") != pl.col("s_right")),
        ordered=False,
    ),
    "where values of different types are equal": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("x") == pl.col("w")), ordered=False
    ),
    "where names clash": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("s") == pl.col("s@"), pl.col("id@") != pl.col("id"), suffix="@"),
        ordered=False,
    ),
    "where nothing is equal": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k") < pl.col("k_right"), pl.col("id") >= pl.col("w")), ordered=False
    ),
    "left where columns are equal and more": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k") == pl.col("k_right"), pl.col("id") > pl.col("w"), how="left"),
        ordered=False,
    ),
    "right where expressions are equal and more": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k_right") + 1 == pl.col("k") * 2, pl.col("x") > 1, how="right"),
        ordered=False,
    ),
    "full where strings are equal and more": Case(
        lambda f: f["l"].join_where(
            f["r"], pl.col("s") == pl.col("s@"), pl.col("id@") != pl.col("id"), how="full", suffix="@"
        ),
        ordered=False,
    ),
    "left where a side matches nothing": Case(
        lambda f: f["l"].join_where(f["r"].filter(pl.col("w") * 2 < 0), pl.col("k") == pl.col("k_right"), how="left"),
        ordered=False,
    ),
    "left where nothing is equal": Case(
        lambda f: f["l"].join_where(f["r"], pl.col("k") < pl.col("k_right"), how="left"), ordered=False
    ),
    "on a literal": Case(lambda f: f["l"].join(f["r"], left_on=pl.lit(1), right_on=pl.lit(1)), ordered=False),
    "of a side that matches nothing": Case(
        lambda f: f["l"].join(f["r"].filter(pl.col("w") * 2 < 0), on="k", how="full"), ordered=False
    ),
    "names that clash": Case(lambda f: f["l"].join(f["r"], on="k", suffix="").drop("s"), ordered=False),
}


def _checked(how: Any, rule: Any) -> dict[str, Case]:
    return {
        f"{how} that fails its check {rule}": Case(
            lambda f: f["l"].join(f["r"], on="k", how=how, validate=rule), ordered=False
        ),
        f"{how} of unique keys, checked {rule}": Case(
            lambda f: f["l"].join(f["r"], left_on="id", right_on="w", how=how, validate=rule), ordered=False
        ),
        f"{how} of keys that are null twice, checked {rule}": Case(
            lambda f: f["l"].join(f["r"].unique("k", keep="first"), on="k", how=how, validate=rule, nulls_equal=True),
            ordered=False,
        ),
    }


for _how in ("inner", "left", "full", "right"):
    for _rule in ("m:1", "1:m", "1:1"):
        CASES |= _checked(_how, _rule)


@pytest.mark.parametrize("broadcast", [False, True], ids=["hash", "broadcast"])
@pytest.mark.parametrize("name", CASES)
def test_answer_equals_polars(name: str, broadcast: bool, tables: Tables, tmp_path: Path) -> None:
    check(CASES[name], tables, tmp_path, broadcast=broadcast)


_N: Final = pl.col("n")
_DAY: Final = pl.datetime(2024, 1, 1) + pl.duration(days=_N)
KEYS: Final = {
    "i64": _N, "i8": _N.cast(pl.Int8), "u64": _N.cast(pl.UInt64), "i128": _N.cast(pl.Int128), "f32": _N.cast(pl.Float32),
    "f64": pl.when(_N == 0).then(-0.0).when(_N == 7).then(float("nan")).otherwise(_N.cast(pl.Float64)),
    "decimal": _N.cast(pl.Decimal(10, 2)), "decimal4": _N.cast(pl.Decimal(12, 4)), "string": _N.cast(pl.String),
    "categorical": _N.cast(pl.String).cast(pl.Categorical), "enum": _N.cast(pl.String).cast(pl.Enum(list("0123456789"))),
    "enum2": _N.cast(pl.String).cast(pl.Enum(list("9876543210"))), "binary": _N.cast(pl.String).cast(pl.Binary),
    "date": _DAY.cast(pl.Date), "us": _DAY, "ms": _DAY.cast(pl.Datetime("ms")), "utc": _DAY.dt.replace_time_zone("UTC"),
    "duration": pl.duration(days=_N), "list": pl.concat_list(_N, _N), "struct": pl.struct(a=_N, b=_N.cast(pl.String)),
    "array": pl.concat_list(_N, _N).cast(pl.Array(pl.Int64, 2)), "boolean": _N > 2,
}  # fmt: skip
PAIRS = [(one, one) for one in KEYS] + [
    ("i64", "i8"), ("i8", "u64"), ("u64", "i64"), ("i128", "i64"), ("i64", "f64"), ("f32", "f64"), ("decimal", "decimal4"),
    ("i64", "decimal"), ("string", "categorical"), ("categorical", "enum"), ("enum", "enum2"), ("date", "us"), ("us", "ms"),
    ("us", "utc"), ("string", "binary"), ("i64", "string"), ("boolean", "i8"), ("list", "array"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=lambda name: str(name))
@pytest.mark.parametrize("nulls_equal", [False, True], ids=["nulls differ", "nulls equal"])
def test_keys_of_every_pair_of_types_match_as_in_polars(one: str, two: str, nulls_equal: bool, tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [1, 2, 3, None, 2, 5, 0, 1, 7, 3]}).select(id=pl.int_range(10), a=KEYS[one], b=KEYS[two])
    case = Case(
        lambda f: f["t"].select("id", "a").join(f["t"].select("b", j="id").head(9), left_on="a", right_on="b", how="full",
                                               nulls_equal=nulls_equal),
        ordered=False,
    )  # fmt: skip
    check(case, {"t": frame.lazy()}, tmp_path, broadcast=False)
