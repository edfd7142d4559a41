"""The command that runs Polars' own tests, over a small checkout that is written here."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from benchmarks.polars_suite.__main__ import main
from benchmarks.polars_suite.records import read_records
from benchmarks.polars_suite.runs import CHECKOUT_VARIABLE

CONFIGURATION = """
    [tool.pytest.ini_options]
    addopts = ["--strict-config", "--strict-markers", "--import-mode=importlib", "-m not slow"]
    markers = ["slow", "release", "docs", "hypothesis", "benchmark", "ci_only", "write_disk"]
    filterwarnings = ["error"]
"""

TESTS = """
    import pytest

    import polars as pl
    from polars.lazyframe import engine_config

    LONG = pl.LazyFrame({"a": range(20), "b": [1, 2] * 10})
    SHORT = pl.LazyFrame({"a": [1, 2]})

    @pytest.mark.parametrize("engine", ["auto", "in-memory", "streaming"])
    def test_grouped(engine):
        expected = pl.DataFrame({"b": [1, 2], "a": [90, 100]})
        assert LONG.group_by("b").agg(pl.col("a").sum()).sort("b").collect(engine=engine).equals(expected)

    def test_that_falls_back():
        assert LONG.select(pl.col("a").shuffle(seed=1)).collect().height == 20

    def test_of_few_rows():
        assert SHORT.select(pl.col("a") + 1).collect()["a"].to_list() == [2, 3]

    def test_of_the_same_error():
        with pytest.raises(pl.exceptions.ColumnNotFoundError):
            SHORT.select("z").collect()

    def shown(value):
        return f"<{value}>"

    def test_with_a_function_of_its_module():
        assert SHORT.select(pl.col("a").map_elements(shown, return_dtype=pl.String)).collect()["a"][1] == "<2>"

    def test_of_the_engine_itself():
        assert type(engine_config._select_engine("streaming")) is pl.StreamingEngine

    def test_of_explain():
        assert "FILTER" in LONG.filter(pl.col("a") > 1).explain(engine="streaming", optimized=False)

    @pytest.mark.write_disk
    def test_with_a_sink(tmp_path):
        LONG.sink_parquet(tmp_path / "a.parquet")
        assert pl.scan_parquet(tmp_path / "a.parquet").collect().height == 20

    def test_that_polars_fails():
        raise AssertionError

    @pytest.mark.slow
    def test_that_is_slow():
        raise AssertionError
"""
MODULE = "tests/unit/lazyframe/test_small.py"
OF_THE_ENGINE = f'"{MODULE}::test_of_the_engine_itself" = "is about the engine itself"\n'


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "polars" / "py-polars"
    module = folder / MODULE
    module.parent.mkdir(parents=True)
    for package in (folder / "tests", folder / "tests/unit", module.parent):
        (package / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(dedent(CONFIGURATION))
    module.write_text(dedent(TESTS))
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(folder.parent))
    return folder


def run(folder: Path, exceptions: str, *options: str) -> int:
    folder.mkdir(exist_ok=True)
    table = folder / "exceptions.toml"
    table.write_text(exceptions)
    return main(["--folder", str(folder), "--jobs", "1", "--max-functions", "1", "--exceptions", str(table), *options])


@pytest.mark.timeout(600)  # five processes that import everything, one after the other
def test_both_figures_come_from_one_command_and_a_failure_can_be_excused(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "suite"
    assert run(folder, "") == 1
    told = capsys.readouterr().out
    assert "passed:      9 (90.00 %) of the 10 tests that pass on Polars alone" in told
    assert "distributed: 4 (80.00 %) of the 5 tests with a query over more rows than a split" in told
    assert f"FAILED {MODULE}::test_of_the_engine_itself" in told
    assert "select looks at more than one row: shuffle" in told

    records = read_records(folder / "records.jsonl")
    assert {record.outcome for record in records.values()} == {"passed", "failed"}
    assert all(
        records[f"{MODULE}::test_grouped[{engine}]"].queries[0].tasks > 1 for engine in ("auto", "in-memory", "streaming")
    )
    assert records[f"{MODULE}::test_of_few_rows"].queries[0].rows == 2
    assert f"{MODULE}::test_that_polars_fails" not in records

    assert run(folder, OF_THE_ENGINE, "--again=failed") == 0
    assert "excused: 1   failed: 0   stale exceptions: 0" in capsys.readouterr().out
    assert read_records(folder / "records.jsonl").keys() == records.keys()


def test_a_missing_checkout_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(CHECKOUT_VARIABLE, raising=False)
    assert run(tmp_path, "") == 2
    assert CHECKOUT_VARIABLE in capsys.readouterr().err
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(tmp_path))
    assert run(tmp_path, "") == 2
    assert "no py-polars/tests/unit" in capsys.readouterr().err
