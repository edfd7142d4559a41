"""Every public function of an expression is classified as it behaves: on parts of the rows against on all of them."""

from __future__ import annotations

import datetime as dt
import inspect
from contextlib import suppress
from typing import Final

import polars as pl
import pytest
from polars.exceptions import PolarsError
from polars.testing import assert_frame_equal

from frazil_coordinator.plan.exprs import from_expr, is_row_wise, is_separable
from frazil_coordinator.plan.looks import Look, Shape, looks_at, shape_of

ROWS: Final = 23
STEP: Final = 5
COLUMNS: Final = ("i", "j", "f", "s", "b", "d", "t", "du", "l", "a", "st", "bin", "c", "ls")
SCOPE: Final = {name: pl.col(name) for name in COLUMNS} | {"pl": pl, "dt": dt, "e": pl.element()}


def frame() -> pl.DataFrame:
    """Nulls, NaN, repeated and falling values in columns of all families."""
    numbers = range(ROWS)
    return pl.DataFrame(
        {
            "i": [n * 7 % 11 if n % 6 else None for n in numbers],
            "j": [n % 4 + 1 for n in numbers],
            "f": [float("nan") if n % 9 == 4 else n * 5 % 8 / 2 - 1 for n in numbers],
            "s": [f"{n % 5}a{n * 3 % 7}" if n % 8 else None for n in numbers],
            "b": [n % 3 == 0 if n % 5 else None for n in numbers],
            "d": [dt.date(2024, 2, 27) + dt.timedelta(days=n * 3 % 9) for n in numbers],
            "t": [dt.datetime(2024, 2, 27, tzinfo=dt.UTC) + dt.timedelta(hours=5 * n) for n in numbers],
            "du": [dt.timedelta(hours=n * 3 % 7) for n in numbers],
            "l": [[n % 3, None, n] for n in numbers],
            "ls": [[f"{n % 3}", "x"] for n in numbers],
        }
    ).with_columns(
        a=pl.col("l").list.to_array(3),
        st=pl.struct("i", "s"),
        bin=pl.col("s").cast(pl.Binary),
        c=pl.col("s").cast(pl.Categorical),
    )


ROW_WISE: Final = """
i.abs() | i.add(1) | i.alias("z") | (i > 1).and_(b) | f.arccos() | f.arccosh() | f.arcsin() | f.arcsinh()
| f.arctan() | f.arctanh() | i.bin_intervals([2, 5], labels=["x", "y", "z"]) | i.bitwise_count_ones()
| i.bitwise_count_zeros() | i.bitwise_leading_ones() | i.bitwise_leading_zeros() | i.bitwise_trailing_ones()
| i.bitwise_trailing_zeros() | i.cast(pl.Int8) | f.cbrt() | f.ceil() | i.clip(2, 5) | f.cos() | f.cosh()
| f.cot() | f.degrees() | i.eq(1) | i.eq_missing(None) | f.erf() | f.erfc() | pl.all().exclude("i") | f.exp()
| f.fill_nan(0) | i.fill_null(0) | f.floor() | i.floordiv(2) | i.ge(2) | i.gt(2) | i.hash() | i.is_between(1, 4)
| f.is_close(1.0) | f.is_finite() | i.is_in([1, 2]) | f.is_infinite() | f.is_nan() | f.is_not_nan()
| i.is_not_null() | i.is_null() | i.le(2) | f.log() | f.log10() | f.log1p() | i.lt(2) | i.mod(3) | i.mul(2)
| i.ne(1) | i.ne_missing(None) | i.neg() | b.not_() | b.or_(b) | i.pipe(abs) | i.pow(2) | f.radians()
| j.reinterpret(signed=False) | i.repeat_by(2) | i.replace({1: 9}) | i.replace_strict({1: 9}, default=0)
| f.round(1) | f.round_sig_figs(1) | i.set_sorted() | f.sign() | f.sin() | f.sinh() | f.sqrt() | i.sub(1)
| f.cut([0.5]) | f.tan() | f.tanh() | d.to_physical() | i.truediv(2) | f.truncate(0) | i.truncdiv(2) | i.xor(1)
| s.str.contains("a") | s.str.contains_any(["a"]) | s.str.count_matches("a")
| s.str.encode("hex").str.decode("hex") | s.str.encode("hex") | s.str.ends_with("1") | s.str.escape_regex()
| s.str.extract(r"(\\d)") | s.str.extract_all("a") | s.str.extract_groups(r"(\\d)a") | s.str.extract_many(["a"])
| s.str.find("a") | s.str.find_many(["a"]) | s.str.head(1)
| pl.format("[{}]", j).str.json_decode(pl.List(pl.Int64)) | s.str.json_path_match("$.a") | s.str.len_bytes()
| s.str.len_chars() | s.str.normalize() | s.str.pad_end(5) | s.str.pad_start(5) | s.str.replace("a", "b")
| s.str.replace_all("a", "b") | s.str.replace_many(["a"], ["b"]) | s.str.reverse() | s.str.slice(1)
| s.str.split("a") | s.str.split_exact("a", 1) | s.str.splitn("a", 2) | s.str.starts_with("1")
| s.str.strip_chars("1") | s.str.strip_chars_end("1") | s.str.strip_chars_start("1") | s.str.strip_prefix("1")
| s.str.strip_suffix("1") | s.str.tail(1) | s.str.strptime(pl.Date, "%Y", strict=False)
| s.str.to_date("%Y", strict=False) | s.str.to_time("%H", strict=False)
| s.str.to_datetime("%Y", strict=False, time_unit="us") | s.str.to_decimal(scale=2)
| s.str.to_integer(strict=False) | s.str.to_lowercase() | s.str.to_titlecase() | s.str.to_uppercase()
| s.str.zfill(4) | d.dt.add_business_days(1, roll="forward") | t.dt.base_utc_offset()
| t.dt.cast_time_unit("ms") | d.dt.century() | d.dt.combine(dt.time(1))
| t.dt.convert_time_zone("Europe/Zurich") | t.dt.date() | d.dt.day() | d.dt.days_in_month() | t.dt.dst_offset()
| t.dt.epoch() | t.dt.hour() | d.dt.is_business_day() | d.dt.is_leap_year() | d.dt.iso_year()
| t.dt.microsecond() | d.dt.millennium() | t.dt.millisecond() | t.dt.minute() | d.dt.month() | d.dt.month_end()
| d.dt.month_start() | t.dt.nanosecond() | d.dt.offset_by("1mo") | d.dt.ordinal_day() | d.dt.quarter()
| d.dt.replace(day=1) | t.dt.replace_time_zone(None) | t.dt.round("3h") | t.dt.second() | d.dt.strftime("%d")
| t.dt.time() | t.dt.timestamp() | d.dt.to_string("%d") | du.dt.total_days() | du.dt.total_hours()
| du.dt.total_microseconds() | du.dt.total_milliseconds() | du.dt.total_minutes() | du.dt.total_nanoseconds()
| du.dt.total_seconds() | t.dt.truncate("7h") | d.dt.week() | d.dt.weekday() | d.dt.year() | l.list.agg(e.sum())
| ls.list.eval(e == "x").list.all() | ls.list.eval(e == "x").list.any() | l.list.arg_max() | l.list.arg_min()
| l.list.concat(l) | l.list.contains(1) | l.list.count_matches(1) | l.list.diff() | l.list.drop_nulls()
| l.list.eval(e.rank()) | l.list.filter(e > 1) | l.list.first() | l.list.gather([0]) | l.list.gather_every(2)
| l.list.get(0) | l.list.head(1) | l.list.head(1).list.item() | ls.list.join("-") | l.list.last() | l.list.len()
| l.list.max() | l.list.mean() | l.list.median() | l.list.min() | l.list.n_unique() | l.list.reverse()
| l.list.set_difference(l) | l.list.set_intersection(l) | l.list.set_symmetric_difference(l)
| l.list.set_union(l) | l.list.shift() | l.list.slice(1) | l.list.sort() | l.list.std() | l.list.sum()
| l.list.tail(1) | l.list.to_array(3) | l.list.to_struct(fields=["x"]) | l.list.unique(maintain_order=True)
| l.list.var() | l.list.sample(1, seed=1) | a.arr.agg(e.sum()) | a.arr.eval(e == 1).arr.all()
| a.arr.eval(e == 1).arr.any() | a.arr.arg_max() | a.arr.arg_min() | a.arr.contains(1) | a.arr.count_matches(1)
| a.arr.dot(a) | a.arr.eval(e + 1) | a.arr.first() | a.arr.get(0) | a.arr.head(1)
| s.str.split_exact("a", 1).struct.field("field_0") | pl.concat_arr(s, s).arr.join("-") | a.arr.last()
| a.arr.len() | a.arr.max() | a.arr.mean() | a.arr.median() | a.arr.min() | a.arr.n_unique() | a.arr.reverse()
| a.arr.shift() | a.arr.slice(1, 1) | a.arr.sort() | a.arr.std() | a.arr.sum() | a.arr.tail(1) | a.arr.to_list()
| a.arr.to_struct(fields=["x", "y", "z"]) | a.arr.unique(maintain_order=True) | a.arr.var()
| st.struct.drop(["s"]) | st.struct.eval(pl.field("i") + 1) | st.struct.field("i") | st.struct.json_encode()
| st.struct.rename_fields(["x", "y"]) | st.struct.unnest() | st.struct.with_fields(pl.field("i") + 1)
| bin.bin.contains(b"a") | bin.bin.encode("hex") | bin.bin.encode("hex").str.decode("hex")
| bin.bin.ends_with(b"1") | bin.bin.get(0, null_on_oob=True) | bin.bin.head(1) | bin.bin.size()
| bin.bin.slice(1) | bin.bin.starts_with(b"1") | bin.bin.tail(1)
| bin.bin.encode("hex").cast(pl.Binary).bin.decode("hex") | bin.bin.head(1).bin.reinterpret(dtype=pl.UInt8)
| c.cat.ends_with("1") | c.cat.len_bytes() | c.cat.len_chars() | c.cat.physical() | s.cat.to(pl.Categorical)
| c.cat.slice(1) | c.cat.starts_with("1") | i.name.keep() | i.name.prefix("p") | st.name.prefix_fields("p")
| i.name.replace("i", "k") | i.name.suffix("p") | st.name.suffix_fields("p") | i.name.to_lowercase()
| i.name.to_uppercase() | i.name.strip_prefix("x") | i.name.strip_suffix("x") | pl.all_horizontal(b, b)
| pl.any_horizontal(b, b) | pl.arctan2(f, f) | pl.business_day_count(d, d) | pl.coalesce(i, j)
| pl.concat_list(i, j) | pl.concat_str(s, j) | pl.date(2024, j, 1) | pl.date_ranges(d, d)
| pl.datetime(2024, j, 1) | pl.datetime_ranges(t, t) | pl.duration(days=j) | pl.format("{}-{}", i, s)
| pl.from_epoch(i) | pl.int_ranges(0, j) | pl.linear_spaces(0, j, 3) | pl.max_horizontal(i, j)
| pl.mean_horizontal(i, j) | pl.min_horizontal(i, j) | pl.struct(i, j) | pl.sum_horizontal(i, j)
| pl.when(i > 2).then(j) | s.cast(pl.Enum(["1a3"]), strict=False)
| s.cast(pl.Enum(["1a3"]), strict=False).to_physical() | pl.time(j)
| pl.time_ranges(pl.time(1), pl.time(j + 1), "1h") | pl.lit(1) + i | i.is_in(pl.Series([1, 2]))
| ls.cast(pl.List(pl.Categorical)) | pl.concat_arr(i, j)
"""

OTHERS: Final[dict[Look, str]] = {
    Look.NEAR: """
i.shift() | i.shift(-2, fill_value=0) | i.diff() | i.pct_change(2) | i.rolling_mean(3)
| i.rolling_sum(3, center=True) | i.rolling_min(2) | i.rolling_max(2) | i.rolling_median(3)
| i.rolling_quantile(0.3, window_size=3) | i.rolling_std(3) | i.rolling_var(3) | i.rolling_skew(3)
| i.rolling_kurtosis(4) | i.rolling_rank(3) | pl.rolling_corr(i, j, window_size=4)
| pl.rolling_cov(i, j, window_size=4) | i.forward_fill(1) | i.backward_fill(2)
| i.fill_null(strategy="forward", limit=1) | f.peak_max() | f.peak_min()
""",
    Look.CARRIED: """
i.cum_sum() | i.cum_count() | i.cum_max(reverse=True) | i.cum_min() | j.cum_prod() | i.forward_fill()
| i.backward_fill() | j.rle_id() | pl.int_range(pl.len()) | pl.row_index() | i.fill_null(strategy="backward")
| pl.cum_count("i") | pl.cum_sum("i")
""",
    Look.GROUP: """
i.sum().over(j) | i.shift().over(j, order_by=f) | i.is_unique() | i.is_duplicated() | i.is_first_distinct()
| i.is_last_distinct() | i.max().over(j, mapping_strategy="join") | i.rank().over(j)
""",
    Look.AGGREGATE: """
b.all() | b.any() | i.approx_n_unique() | i.arg_max() | i.arg_min() | i.bitwise_and() | i.bitwise_or()
| i.bitwise_xor() | i.count() | i.dot(j) | i.entropy() | i.first() | i.has_nulls() | i.implode() | i.index_of(3)
| i.is_empty() | i.is_sorted() | i.item() | i.kurtosis() | i.last() | i.len() | i.max() | i.max_by(f) | i.mean()
| i.median() | i.min() | i.min_by(f) | i.n_unique() | f.nan_max() | f.nan_min() | i.null_count() | i.product()
| i.quantile(0.3) | i.skew() | i.std() | i.sum() | i.var() | pl.len() | pl.corr(i, j) | pl.cov(i, j)
| i - i.mean() | pl.when(i > i.max()).then(1) | i.is_in(j.implode()) | pl.implode("i") | pl.approx_n_unique("i")
| pl.any("b") | pl.max("i") | pl.mean("i") | pl.median("i") | pl.min("i") | pl.n_unique("i")
| pl.quantile("i", 0.2) | pl.std("i") | pl.sum("i") | pl.var("i") | pl.count("i") | i.lower_bound()
| i.upper_bound() | i.approx_quantile(0.5) | s.str.join("-") | pl.first("i") | pl.last("i")
""",
    Look.WHOLE: """
i.append(j) | i.arg_sort() | i.arg_true() | i.arg_unique() | i.bin_quantiles([0.5], labels=["x", "y"])
| i.bin_ranks(2, labels=["x", "y"]) | i.bottom_k(2) | i.bottom_k_by(f, 2) | i.cumulative_eval(e.sum())
| f.drop_nans() | i.drop_nulls() | i.ewm_mean(alpha=0.5) | i.ewm_mean_by(t, half_life="1d")
| i.ewm_std(alpha=0.5) | i.ewm_sum(alpha=0.5) | i.ewm_sum_by(t, half_life="1d") | i.ewm_var(alpha=0.5)
| l.explode() | i.extend_constant(1, 2) | i.filter(b) | i.gather([0]) | i.gather_every(2) | i.get(0) | i.head(2)
| i.hist() | i.interpolate() | i.interpolate_by(t) | i.limit(2) | i.mode() | f.qcut(2) | i.rank()
| i.reshape((-1, 1)) | i.reverse() | i.rle() | i.rolling(t, period="1d") | i.rolling_max_by(t, "1d")
| i.rolling_mean_by(t, "1d") | i.rolling_median_by(t, "1d") | i.rolling_min_by(t, "1d")
| i.rolling_quantile_by(t, "1d", quantile=0.5) | i.rolling_rank_by(t, "1d") | i.rolling_std_by(t, "1d")
| i.rolling_sum_by(t, "1d") | i.rolling_var_by(t, "1d") | i.sample(2) | i.search_sorted(3) | i.shuffle()
| i.slice(1, 2) | i.sort() | i.sort_by(f) | i.tail(2) | i.top_k(2) | i.top_k_by(f, 2) | i.unique()
| i.unique_counts() | i.value_counts() | s.str.to_date() | s.str.to_datetime() | s.str.to_time()
| l.list.explode() | a.arr.explode() | i.sum().over(j, mapping_strategy="explode") | pl.arg_sort_by(i)
| pl.arg_where(b) | pl.int_range(pl.len() + 1) | pl.lit(pl.Series([1, 2])) | pl.date_range(d.min(), d.max())
| pl.repeat(1, pl.len()) | st.struct.with_fields(pl.field("i").sum()) | i.fill_null(strategy="min")
| i.fill_null(strategy="mean") | pl.head("i", 2) | pl.tail("i", 2) | pl.linear_space(0, 1, pl.len())
| pl.datetime_range(t.min(), t.max()) | pl.ones(3) | pl.zeros(3) | pl.arange(pl.len() - 1) | pl.time_range()
""",
}

NAMESPACES: Final = ("arr", "bin", "cat", "dt", "list", "name", "str", "struct")
NOT_SAMPLED: Final = frozenset(
    {*NAMESPACES, "ext", "meta", "deserialize"}
    | {"inspect", "map", "map_batches", "map_elements", "rolling_map", "pipe_with_dtype", "name.map", "name.map_fields"}
    | {"cum_fold", "cum_reduce", "cum_sum_horizontal", "defer", "fold", "groups", "map_groups", "reduce"}  # run Python
    | {"all", "col", "element", "exclude", "field", "lit", "nth", "sql_expr", "self_dtype", "dtype_of"}  # no operations
    | {"list.to_map", "list.explode", "arr.explode", "struct_with_fields"}
)
"""Public names of which there is no sample: no operations on values, or they run Python, which is refused."""

LOOKS_ROW_WISE_HERE: Final = frozenset(
    {
        "pl.when(i > i.max()).then(1)",  # never true
        "pl.repeat(1, pl.len())",
        "i.rle()",  # no two equal values follow each other
        "i.reshape((-1, 1))",  # polars knows that other shapes give other numbers of rows
    }
)


def _samples(text: str) -> list[str]:
    return [" ".join(sample.split()) for sample in text.split(" | ") if sample.strip(" \n|")]


ALL: Final = {sample.lstrip("| "): Look.ROW for sample in _samples(ROW_WISE.replace("\n|", " | "))} | {
    sample.lstrip("| "): look for look, text in OTHERS.items() for sample in _samples(text.replace("\n|", " | "))
}


def _expr(sample: str) -> pl.Expr:
    expr = eval(sample, dict(SCOPE))
    assert isinstance(expr, pl.Expr)
    return expr


def _values(rows: pl.DataFrame, expr: pl.Expr) -> pl.DataFrame:
    return rows.lazy().select(expr).collect(engine="in-memory")


def _is_same_on_parts(expr: pl.Expr) -> bool:
    """Return whether parts of the rows, down to single rows, give the values of all rows, one a row."""
    rows = frame()
    whole = _values(rows, expr)
    if whole.height != ROWS:
        return False
    for step in (STEP, 1):
        try:
            parts = [_values(rows.slice(start, step), expr) for start in range(0, ROWS, step)]
            assert_frame_equal(pl.concat(parts), whole, categorical_as_str=True)
        except (AssertionError, PolarsError):
            return False
    return True


@pytest.mark.parametrize("sample", ALL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_function_is_classified_as_it_behaves(sample: str) -> None:
    expr = _expr(sample)
    raw = from_expr(expr)
    assert looks_at(raw) is ALL[sample]
    assert is_row_wise(raw) is (ALL[sample] is Look.ROW)
    if ALL[sample] is Look.ROW:
        assert _is_same_on_parts(expr)


@pytest.mark.parametrize("sample", [sample for sample, look in ALL.items() if look is not Look.ROW])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_not_row_wise_is_not_so_for_no_reason(sample: str) -> None:
    with suppress(PolarsError):  # it has no answer on these rows
        assert _is_same_on_parts(_expr(sample)) is (sample in LOOKS_ROW_WISE_HERE)


def _public_names() -> list[str]:
    names = [name for name in dir(pl.Expr) if not name.startswith("_")]
    for space in NAMESPACES:
        names += [f"{space}.{name}" for name in dir(getattr(pl.col("x"), space)) if not name.startswith("_")]
    return [name for name in names if name not in NOT_SAMPLED]


def _public_functions() -> list[str]:
    functions = {name: getattr(pl, name) for name in dir(pl) if inspect.isfunction(getattr(pl, name))}
    made = [name for name, function in functions.items() if "Expr" in str(inspect.signature(function).return_annotation)]
    return [f"pl.{name}" for name in made if not name.startswith("_") and name not in NOT_SAMPLED]


@pytest.mark.parametrize("name", [*_public_names(), *_public_functions()])
def test_every_public_function_has_a_sample(name: str) -> None:
    called = f"{name}(" if name.startswith("pl.") else f".{name}("
    assert any(called in sample for sample in ALL)


@pytest.mark.parametrize(
    "sample", ["i.filter(b)", "i.drop_nulls()", "f.drop_nans()", "l.explode()", "i.filter(b).alias('z')"]
)
def test_some_functions_may_be_applied_to_parts_although_they_change_the_number_of_rows(sample: str) -> None:
    expr, rows = _expr(sample), frame()
    assert is_separable(from_expr(expr))
    parts = [_values(rows.slice(start, 2), expr) for start in range(0, ROWS, 2)]
    assert_frame_equal(pl.concat(parts), _values(rows, expr))


@pytest.mark.parametrize("sample", ["i.head(2)", "i.unique()", "i.filter(i > i.mean())", "i.filter(b) + j", "pl.lit(1)"])
def test_others_may_not(sample: str) -> None:
    assert not is_separable(from_expr(_expr(sample)))


@pytest.mark.parametrize(
    ("sample", "shape"),
    [
        ("i + 1", Shape.COLUMN),
        ("pl.lit(1) + 1", Shape.SCALAR),
        ("i.sum() / pl.len()", Shape.SCALAR),
        ("i - i.mean()", Shape.COLUMN),
        ("i.is_in(pl.Series([1, 2])) & (i > i.mean())", Shape.COLUMN),
        ("i.filter(b)", Shape.OTHER),
        ("i.filter(b).sum()", Shape.SCALAR),
        ("i.shift() + i", Shape.COLUMN),
        ("i.unique() + 1", Shape.OTHER),
        ("i.sort()", Shape.COLUMN),
        ("i.head(2).sort()", Shape.OTHER),
        ("i.get(0)", Shape.SCALAR),
        ("i.rank().over(j)", Shape.COLUMN),
        ("i.drop_nulls().cum_sum()", Shape.OTHER),
        ("pl.int_range(pl.len())", Shape.COLUMN),
        ("pl.lit(pl.Series([1]))", Shape.OTHER),
    ],
)
def test_number_of_values_of_an_expression(sample: str, shape: Shape) -> None:
    assert shape_of(from_expr(_expr(sample))) is shape
