"""Large CSV and NDJSON files, cut at ends of lines, against single-node Polars on the same files."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

import frazil
from frazil_coordinator.plan.planner import plan_query
from frazil_functions.errors import BordersError
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same
from support.profiles import collect_same, fallbacks, most_tasks
from support.seaweed import SeaweedFS

TINY = frazil.Settings(start_small=False, split_target_bytes=90)
FRAME = pl.DataFrame(
    {
        "a": range(60),
        "s": [
            None if n % 7 == 0 else f'line {n}\nwith, a "quote" and\r\nmore' if n % 3 == 0 else f"s{n}" for n in range(60)
        ],
        "x": [n / 4 for n in range(60)],
    }
)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=TINY) as started:
        yield started


def _check(engine: frazil.Engine, lf: pl.LazyFrame) -> None:
    stages = collect_same(engine, lf)
    assert most_tasks(stages) > 4
    assert not fallbacks(stages)


CSV: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it is": ({}, {}),
    "without header": ({"include_header": False}, {"has_header": False}),
    "without header, new names": ({"include_header": False}, {"has_header": False, "new_columns": ["u", "v", "w"]}),
    "new names": ({}, {"new_columns": ["u", "v", "w"]}),
    "names by function": ({}, {"with_column_names": lambda names: [name.upper() for name in names]}),
    "schema": ({}, {"schema": {"a": pl.Int16, "s": pl.String, "x": pl.Float32}}),
    "schema in another order": ({}, {"schema": {"x": pl.Float32, "s": pl.String, "a": pl.Int16}}),
    "overrides": ({}, {"schema_overrides": {"a": pl.String}}),
    "overrides by position": ({}, {"schema_overrides": [pl.Int8, pl.String, pl.Float32]}),
    "no inference": ({}, {"infer_schema": False}),
    "missing and extra columns": (
        {},
        {"schema": {"a": pl.Int64, "q": pl.Int8}, "missing_columns": "insert", "extra_columns": "ignore"},
    ),
    "row index": ({}, {"row_index_name": "i", "row_index_offset": 5}),
    "file path": ({}, {"include_file_paths": "file"}),
    "both": ({}, {"row_index_name": "i", "include_file_paths": "file"}),
    "carriage returns": ({"line_terminator": "\r\n"}, {}),
    "other bytes": ({"separator": ";", "quote_char": "'"}, {"separator": ";", "quote_char": "'"}),
    "lossy": ({}, {"encoding": "utf8-lossy"}),
    "ragged lines": ({}, {"truncate_ragged_lines": True, "ignore_errors": True}),
    "null values": ({"null_value": "-"}, {"null_values": "-"}),
    "skipped rows": ({}, {"skip_rows": 2, "has_header": False, "schema_overrides": {"column_1": pl.String}}),
    "skipped rows after the header": ({}, {"skip_rows_after_header": 3}),
    "one file of several": ({}, {"glob": False}),
    "first rows": ({}, {"n_rows": 50, "row_index_name": "i"}),
}


@pytest.mark.parametrize("name", CSV)
def test_one_csv_file_is_cut_inside_and_equals_polars(engine: frazil.Engine, tmp_path: Path, name: str) -> None:
    writing, reading = CSV[name]
    FRAME.write_csv(tmp_path / "0.csv", **writing)
    lf = pl.scan_csv(tmp_path / "0.csv", **reading)
    _check(engine, lf)
    first = lf.collect_schema().names()[-1]
    _check(engine, lf.filter(pl.col(first).is_not_null()).select(first))


def test_several_files_large_and_small_are_cut_in_order(engine: frazil.Engine, tmp_path: Path) -> None:
    for number, (start, rows) in enumerate([(0, 30), (30, 1), (31, 0), (31, 29)]):
        FRAME.slice(start, rows).write_csv(tmp_path / f"{number}.csv")
    lf = pl.scan_csv(tmp_path / "*.csv", row_index_name="i", include_file_paths="file")
    _check(engine, lf)
    _check(engine, lf.group_by("file").agg(pl.col("i").max(), pl.len()).sort("file"))


def test_one_ndjson_file_is_cut_inside_and_equals_polars(engine: frazil.Engine, tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in FRAME.with_columns(n=pl.struct("a", "x"), l=pl.concat_list("a", "a")).to_dicts()]
    (tmp_path / "0.ndjson").write_text("\n".join(rows[:20]) + "\n\n" + "\r\n".join(rows[20:]))
    lf = pl.scan_ndjson(tmp_path / "0.ndjson", row_index_name="i", include_file_paths="file")
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("i") % 2 == 1).unnest("n", separator="_").explode("l"))


def test_ranges_on_s3(engine: frazil.Engine, seaweed: SeaweedFS) -> None:
    url = seaweed.url("lines/0.csv")
    seaweed.put("lines", "0.csv", FRAME.write_csv().encode())
    _check(engine, pl.scan_csv(url, storage_options=cast("Any", seaweed.storage_options), include_file_paths="file"))


def test_rows_that_were_read_are_counted(engine: frazil.Engine, tmp_path: Path) -> None:
    FRAME.select("a", "x").write_csv(tmp_path / "0.csv")
    stages = collect_same(engine, pl.scan_csv(tmp_path / "0.csv").filter(pl.col("a") < 5))
    assert stages[0]["rows_in"] == 60 + 1  # with the line of names


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("compressed", gzip.compress(FRAME.write_csv().encode()), {}),
        ("comment_prefix", FRAME.write_csv().encode(), {"comment_prefix": "#"}),
        ("columns", b'"a\nb",c\n' + b"1,2\n" * 100, {}),
    ],
)
def test_file_that_can_t_be_cut_is_one_split_with_the_reason(
    engine: frazil.Engine, tmp_path: Path, name: str, text: bytes, options: dict[str, Any]
) -> None:
    (tmp_path / "0.csv").write_bytes(text)
    stages = collect_same(engine, pl.scan_csv(tmp_path / "0.csv", **options))
    (reason,) = fallbacks(stages)
    assert name in reason


def test_compressed_files_are_one_split_each(engine: frazil.Engine, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.csv.gz").write_bytes(gzip.compress(FRAME.slice(number * 12, 12).write_csv().encode()))
    assert collect_same(engine, pl.scan_csv(tmp_path / "*.csv.gz"))[0]["tasks"] == 5


MISLEADING = "a,b\n" + "".join(f'{n},"{"x" * 40}' + "\n1,2\n" * 40 + f'{"y" * 40}"\n' for n in range(4))
"""Long quoted fields that look like lines, so that the bytes around a cut tell nothing."""


def test_quotes_that_hide_line_ends_are_met_and_the_query_is_planned_again(
    engine: frazil.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.plan.lines._WINDOWS", (64,))
    (tmp_path / "0.csv").write_text(MISLEADING)
    lf = pl.scan_csv(tmp_path / "0.csv", infer_schema=False)
    assert plan_query(lf.serialize(), TINY).stages[0].tasks > 1
    with pytest.raises(BordersError):
        answer_in_stages(lf, TINY, FolderStore(tmp_path / "store"))
    stages = collect_same(engine, lf)
    (reason,) = fallbacks(stages)
    assert "split_text_files" in reason


def _random_csv(source: random.Random) -> tuple[str, dict[str, Any]]:
    separator, quote = source.choice([",", ";"]), source.choice(['"', '"', "'", None])
    eol, width, mark = source.choice(["\n", "\r\n"]), source.randint(1, 4), quote or '"'
    clean = source.random() < 0.7

    def field() -> str:
        kind = source.random()
        if quote and kind < 0.4:
            inner = ("a", " ", separator, "\n", "\r\n", mark * 2, "x")
            return mark + "".join(source.choice(inner) for _ in range(source.randint(0, 6))) + mark
        if not clean and kind < 0.45:
            return source.choice([mark, f"a{mark}", f"{mark}a", f"a{mark}b", "x\r"])
        return source.choice(["", str(source.randint(-50, 50)), "é", " x", "2024-01-03"])

    header = source.random() < 0.7
    lines = [separator.join(f"c{n}" for n in range(width))] if header else []
    for _ in range(source.randint(1, 40)):
        ragged = 0 if clean or source.random() > 0.05 else source.choice([-1, 1])
        row = separator.join(field() for _ in range(max(1, width + ragged)))
        lines.append("" if source.random() < 0.05 else row)
    options: dict[str, Any] = {"separator": separator, "quote_char": quote, "has_header": header}
    choices: list[dict[str, Any]] = [
        {"truncate_ragged_lines": True},
        {"ignore_errors": True},
        {"infer_schema": False},
        {"infer_schema_length": 5},
        {"try_parse_dates": True},
        {"row_index_name": "i"},
        {"include_file_paths": "file"},
        {"skip_rows": 1},
        {"skip_rows_after_header": 1},
        {"comment_prefix": "#"},
        {"empty_string_is_null": False},
    ]
    for choice in source.sample(choices, source.randint(0, 3)):
        options |= choice
    return eol.join(lines) + source.choice([eol, ""]), options


@pytest.mark.filterwarnings("ignore:CSV malformed")
@pytest.mark.parametrize("block", range(4))
def test_random_files_give_the_answer_or_the_error_of_polars(tmp_path: Path, block: int) -> None:
    source = random.Random(block)
    cut = 0
    for number in range(40):
        text, options = _random_csv(source)
        path = tmp_path / f"{number}.csv"
        path.write_text(text, newline="")
        lf = pl.scan_csv(path, **options)
        settings = frazil.Settings(start_small=False, split_target_bytes=source.choice([1, 20, 60]))
        expected = outcome(lambda: lf.collect(engine="streaming"))  # noqa: B023  # called at once
        try:
            actual = outcome(lambda: answer_in_stages(lf, settings, FolderStore(tmp_path / "store")))  # noqa: B023
        except BordersError:
            continue
        if isinstance(actual, str) or isinstance(expected, str):
            assert isinstance(actual, str), f"{text!r} {options}"
            assert actual == expected, f"{text!r} {options}"
            continue
        assert_same(actual, expected, ordered=True)
        cut += plan_query(lf.serialize(), settings).stages[0].tasks > 1
    assert cut > 5
