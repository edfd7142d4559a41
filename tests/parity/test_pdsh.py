"""All 22 PDS-H queries give Polars' answers when they are cut into many tasks, on a folder and on a real S3 server.

On the folder every join shuffles, on S3 small sides are broadcast: each query runs both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

import frazil
from benchmarks.pdsh.data import generate, upload
from benchmarks.pdsh.harness import Outcome, many_tasks, run_polars, run_query
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.tables import Tables
from support.seaweed import SeaweedFS

SCALE_FACTOR = 0.1
BUCKET = "pdsh"
WITHOUT_EARLY_FALLBACK = 18

Run: TypeAlias = Callable[[int], Outcome]
"""Runs a query by its number, once: a second call returns the first's outcome."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tpch")
    generate(folder, scale_factor=SCALE_FACTOR, parts=8)
    return folder


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


def _runner(engine: frazil.Engine, tables: Tables, here: Tables) -> Run:
    return cache(lambda number: run_query(engine, number, tables, run_polars(number, here)))


@pytest.fixture(scope="module")
def on_folder(data: Path, exchange: Path) -> Iterator[Run]:
    tables = Tables.scan(str(data), scale_factor=SCALE_FACTOR)
    with frazil.local(max_functions=2, store=str(exchange), settings=many_tasks(broadcast=False)) as engine:
        yield _runner(engine, tables, tables)


@pytest.fixture(scope="module")
def on_s3(data: Path, seaweed: SeaweedFS) -> Iterator[Run]:
    here = Tables.scan(str(data), scale_factor=SCALE_FACTOR)
    options = seaweed.storage_options
    url = seaweed.url(f"{BUCKET}/data")
    upload(data, url, storage_options=options)
    tables = Tables.scan(url, scale_factor=SCALE_FACTOR, storage_options=options)
    store, settings = f"s3://{BUCKET}/exchange", many_tasks(broadcast=True)
    with frazil.local(max_functions=2, store=store, storage_options=options, settings=settings) as engine:
        yield _runner(engine, tables, here)


@pytest.mark.parametrize("number", QUERIES)
def test_a_query_on_a_folder_with_every_join_shuffled_equals_polars(number: int, on_folder: Run, exchange: Path) -> None:
    outcome = on_folder(number)
    assert outcome.difference is None
    assert outcome.figures.tasks > 1
    assert outcome.figures.requests.get("put", 0) > 1
    assert [path for path in exchange.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", QUERIES)
def test_a_query_on_s3_with_small_sides_broadcast_equals_polars(number: int, on_s3: Run, seaweed: SeaweedFS) -> None:
    outcome = on_s3(number)
    assert outcome.difference is None
    assert outcome.figures.tasks > 1
    assert outcome.figures.requests.get("put", 0) > 1
    assert seaweed.keys(BUCKET, "exchange/") == []


@pytest.mark.timeout(600)  # when it is run alone, it runs all queries
def test_most_queries_run_without_a_fallback_before_the_final_stage(on_folder: Run) -> None:
    early = {number: reasons for number in QUERIES if (reasons := on_folder(number).figures.early_fallbacks)}
    assert len(QUERIES) - len(early) >= WITHOUT_EARLY_FALLBACK, early


@pytest.mark.timeout(600)  # as above
def test_every_large_table_is_cut_into_several_tasks(on_folder: Run) -> None:
    widest = {number: max(stage.tasks for stage in on_folder(number).figures.stages) for number in QUERIES}
    assert {number: tasks for number, tasks in widest.items() if tasks < 4} == {}
