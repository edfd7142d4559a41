"""Results in each format, whole or in pages: what Polars' own writers write, however it is cut into blocks."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.api import create_app
from frazil_coordinator.api.accept import choose_format
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.formats import MEDIA_TYPES, NotAcceptableError, ResultFormat, encoded
from frazil_coordinator.settings import Settings
from frazil_functions.errors import StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import CountingStore, FolderStore
from support.fragments import FragmentPlatform, plan_in_stages

FLAT = pl.DataFrame(
    {
        "text": ['a "quoted", one', "two\nlines", None, "", "ü"],
        "number": [1, None, -3, 4, 5],
        "real": [0.1, 1e300, float("nan"), None, float("inf")],
        "decimal": pl.Series([Decimal("1.25"), None, Decimal("-3.00"), Decimal(0), Decimal(7)], dtype=pl.Decimal(20, 2)),
        "date": [dt.date(2020, 1, 1), None, dt.date(1969, 12, 31), None, None],
        "moment": pl.Series([dt.datetime(2020, 1, 1, 2, 3, 4, 5, dt.UTC)] * 5, dtype=pl.Datetime("us", "Europe/Berlin")),
        "time": [dt.time(1, 2, 3), None, None, None, None],
        "wide": pl.Series([2**100, None, 0, 1, 2], dtype=pl.Int128),
        "kind": pl.Series(["x", "y", None, "x", "x"], dtype=pl.Enum(["x", "y"])),
        "nothing": [None] * 5,
        "flag": [True, None, False, True, True],
    }
)
NESTED = FLAT.with_columns(
    list=pl.Series([[1], [], None, [2, None], [3]]), inner=pl.struct("number", "text"), span=pl.duration(days="number")
)
BINARY = pl.DataFrame({"bytes": [b"a", b"\xff"], "deep": [[b"x"], None]})


async def blocks_of(*frames: pl.DataFrame | StorageError) -> AsyncGenerator[pl.DataFrame, None]:
    for frame in frames:
        if isinstance(frame, StorageError):
            raise frame
        yield frame


async def written(form: ResultFormat, *frames: pl.DataFrame | StorageError) -> bytes:
    return b"".join([chunk async for chunk in encoded(blocks_of(*frames), form)])


CUTS: dict[str, Callable[[pl.DataFrame], tuple[pl.DataFrame, ...]]] = {
    "one block": lambda frame: (frame,),
    "blocks of one row": lambda frame: tuple(frame.iter_slices(1)),
    "with empty blocks": lambda frame: (frame.clear(), frame[:2], frame.clear(), frame[2:], frame.clear()),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("frame", [FLAT, FLAT.clear()], ids=["rows", "no rows"])
async def test_csv_is_that_of_polars(frame: pl.DataFrame, cut: str) -> None:
    assert (await written(ResultFormat.CSV, *CUTS[cut](frame) or (frame,))).decode() == frame.write_csv()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("frame", [NESTED, NESTED.clear()], ids=["rows", "no rows"])
async def test_json_and_ndjson_are_those_of_polars(frame: pl.DataFrame, cut: str) -> None:
    frames = CUTS[cut](frame) or (frame,)
    assert (await written(ResultFormat.JSON, *frames)).decode() == frame.write_json()
    assert (await written(ResultFormat.NDJSON, *frames)).decode() == frame.write_ndjson()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("frame", [NESTED, BINARY, NESTED.clear()], ids=["nested", "binary", "no rows"])
async def test_parquet_reads_as_what_polars_writes(frame: pl.DataFrame, cut: str, tmp_path: Path) -> None:
    frame.write_parquet(tmp_path / "own.parquet")
    got = pl.read_parquet(io.BytesIO(await written(ResultFormat.PARQUET, *CUTS[cut](frame) or (frame,))))
    own = pl.read_parquet(tmp_path / "own.parquet")
    assert got.schema == own.schema
    assert_frame_equal(got, own)


@pytest.mark.parametrize(
    ("form", "frame"),
    [
        (ResultFormat.CSV, NESTED.select("list")),
        (ResultFormat.CSV, NESTED.select("span")),
        (ResultFormat.CSV, BINARY.select("bytes")),
        (ResultFormat.JSON, BINARY.select("bytes")),
        (ResultFormat.NDJSON, BINARY.select("deep")),
    ],
)
async def test_what_polars_can_not_write_is_refused_before_the_first_byte(form: ResultFormat, frame: pl.DataFrame) -> None:
    with pytest.raises(NotAcceptableError, match=form.value):
        await anext(encoded(blocks_of(frame), form))


@pytest.mark.parametrize("form", ResultFormat)
async def test_an_error_of_the_store_half_way_is_that_error(form: ResultFormat) -> None:
    with pytest.raises(StorageError, match="gone"):
        await written(form, FLAT, StorageError("gone"))


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "arrow"), ("*/*", "arrow"), ("application/*", "arrow"), ("text/*", "csv"), ("text/csv", "csv"),
        ("Text/CSV; charset=utf-8", "csv"),
        ("application/json, text/csv;q=0.9", "json"), ("text/csv;q=0.5, */*;q=0.1", "csv"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "arrow"), ("application/x-ndjson", "ndjson"),
        ("application/vnd.apache.arrow.stream;q=0, */*", "parquet"), ("nonsense, text/csv", "csv"),
        ("application/vnd.apache.parquet", "parquet"),
    ],
)  # fmt: skip
def test_the_format_that_is_liked_most_is_chosen(accept: str, form: str) -> None:
    assert choose_format(accept, None) is ResultFormat(form)
    assert choose_format(accept, ResultFormat.JSON) is ResultFormat.JSON


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "nonsense", "text/csv;q=x"])
def test_who_takes_nothing_that_there_is_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match="text/csv"):
        choose_format(accept, None)


TABLE = pl.DataFrame({"a": range(120_000), "b": [f"{number}" for number in range(120_000)]})
"""Three blocks of at most 50,000 rows."""


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path))


@pytest.fixture
async def coordinator(store: CountingStore) -> AsyncIterator[Coordinator]:
    made = Coordinator(
        settings=Settings(), platform=FragmentPlatform(store), store=store, planner=plan_in_stages(1), sweep_after_s=()
    )
    yield made
    await made.aclose()


@pytest.fixture
async def client(coordinator: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(coordinator))
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as opened:
        yield opened


async def ended(coordinator: Coordinator, frame: pl.DataFrame) -> QueryId:
    query = (await coordinator.submit(frame.lazy().serialize())).id
    assert (await coordinator.wait(query)).error is None
    return query


async def test_a_result_comes_in_the_format_that_is_asked_for(coordinator: Coordinator, client: httpx.AsyncClient) -> None:
    path = f"/v1/queries/{await ended(coordinator, TABLE)}/result"
    for form, media_type in MEDIA_TYPES.items():
        for response in (
            await client.get(path, headers={"accept": media_type}),
            await client.get(path, params={"format": form.value}),
        ):
            assert response.status_code == 200
            assert response.headers["content-type"].partition(";")[0] == media_type
            assert response.headers["vary"] == "Accept"
            data = io.BytesIO(response.content)
            match form:
                case ResultFormat.ARROW:
                    assert_frame_equal(pl.read_ipc_stream(data), TABLE)
                case ResultFormat.PARQUET:
                    assert_frame_equal(pl.read_parquet(data), TABLE)
                case ResultFormat.CSV:
                    assert response.text == TABLE.write_csv()
                case ResultFormat.JSON:
                    assert response.text == TABLE.write_json()
                case ResultFormat.NDJSON:
                    assert response.text == TABLE.write_ndjson()


async def test_what_can_not_be_sent_is_a_problem_that_lists_what_can(
    coordinator: Coordinator, client: httpx.AsyncClient
) -> None:
    path = f"/v1/queries/{await ended(coordinator, BINARY)}/result"
    refusals = await client.get(path, headers={"accept": "image/png"}), await client.get(path, params={"format": "csv"})
    for refused in refusals:
        assert refused.status_code == 406
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["formats"] == list(MEDIA_TYPES.values())
    assert (await client.get(path, params={"format": "xlsx"})).status_code == 400


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 10), (0, None), (49_999, 2), (50_000, 50_000), (100_001, None), (119_999, 5), (0, 0), (120_000, 3), (10**9, None)],
)
async def test_a_page_is_that_slice_of_the_result(
    coordinator: Coordinator, client: httpx.AsyncClient, offset: int, limit: int | None
) -> None:
    path = f"/v1/queries/{await ended(coordinator, TABLE)}/result"
    params = {"offset": offset, **({} if limit is None else {"limit": limit})}
    expected = TABLE.slice(offset, limit)
    arrow = await client.get(path, params=params)
    assert_frame_equal(pl.read_ipc_stream(io.BytesIO(arrow.content)), expected)
    assert (await client.get(path, params={**params, "format": "csv"})).text == expected.write_csv()


async def test_pages_and_parquet_leave_a_large_result_and_reading_all_of_it_does_not(
    coordinator: Coordinator, client: httpx.AsyncClient, store: CountingStore
) -> None:
    large = pl.DataFrame({"a": range(1_500_000), "b": pl.Series(range(1_500_000)).hash(7)})
    query = await ended(coordinator, large)
    path, total = f"/v1/queries/{query}/result", coordinator.status(query).bytes
    assert total is not None
    blocks = store.requests.get("get", 0)
    read = store.bytes.get("get", 0)
    page = await client.get(path, params={"offset": 1_499_990, "limit": 5})
    assert_frame_equal(pl.read_ipc_stream(io.BytesIO(page.content)), large.slice(1_499_990, 5))
    assert store.requests["get"] == blocks + 1
    assert store.bytes["get"] - read < total
    parquet = await client.get(path, params={"format": "parquet"})
    assert_frame_equal(pl.read_parquet(io.BytesIO(parquet.content)), large)
    assert (await client.get(path, params={"format": "ndjson", "limit": 1})).text == large.head(1).write_ndjson()
    assert (await client.get(path, params={"format": "csv"})).text == large.write_csv()
    assert (await client.get(path)).status_code == 410
