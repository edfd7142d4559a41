"""Tasks whose files and exchange are on a real S3 server."""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.arena import Arena
from frazil_functions.errors import QueryError, SourceError
from frazil_functions.run import run_task
from frazil_functions.scan_files import stat_file
from frazil_functions.storage import Store, open_store
from frazil_functions.task import ScanInput, Split, input_path
from support.functions import exchange_of, rows_of, task
from support.seaweed import SeaweedFS

FRAME = pl.DataFrame({"a": range(100), "b": [str(i % 7) for i in range(100)]})


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def arena_of(path: str, options: Mapping[str, str]) -> Arena:
    return Arena.of(
        pl.scan_parquet(path, schema=dict(FRAME.schema), glob=False, storage_options=dict(options), credential_provider=None)
    )


def fragment(options: Mapping[str, str]) -> bytes:
    """Return the plan of a placeholder scan with the options of the user's."""
    arena = arena_of("s3://any/where", options)
    arena.payload(arena.root)["sources"] = {"Paths": [{"inner": input_path(0)}]}
    return arena.encode()


@pytest.fixture
def store(seaweed: SeaweedFS) -> Store:
    return open_store(seaweed.url("functions-exchange/x"), seaweed.storage_options)


def planned(seaweed: SeaweedFS, key: str) -> ScanInput:
    """Put the file, and return the split that plans to read it."""
    seaweed.put("functions-data", key, parquet(FRAME))
    path = f"s3://functions-data/{key}"
    arena = arena_of(path, seaweed.storage_options)
    options = arena.payload(arena.root)["unified_scan_args"]
    assert isinstance(options, dict)
    known = stat_file(path, options["cloud_options"])
    assert known.etag
    return ScanInput(splits=(Split(path=path, offset=20, rows=50, size=known.size, etag=known.etag),))


def test_a_task_reads_its_split_and_writes_its_exchange(seaweed: SeaweedFS, store: Store) -> None:
    given = planned(seaweed, "read.parquet")
    written = run_task(task(fragment(seaweed.storage_options), given), store=store)
    assert_frame_equal(rows_of(store, written), FRAME.slice(20, 50))
    assert len(exchange_of(written).blocks) == 1
    assert written.stats.requests == {"put": 1}


def test_an_object_that_was_replaced_since_planning_is_refused(seaweed: SeaweedFS, store: Store) -> None:
    given = planned(seaweed, "replaced.parquet")
    seaweed.put("functions-data", "replaced.parquet", parquet(FRAME.reverse()))
    before = [info.key for info in store.list("")]
    with pytest.raises(SourceError, match="replaced"):
        run_task(task(fragment(seaweed.storage_options), given), store=store)
    assert [info.key for info in store.list("")] == before


def test_a_missing_object_and_wrong_credentials_are_what_they_are_in_polars(seaweed: SeaweedFS, store: Store) -> None:
    given = planned(seaweed, "gone.parquet")
    seaweed.client().delete_object(Bucket="functions-data", Key="gone.parquet")
    with pytest.raises(QueryError) as missing:
        run_task(task(fragment(seaweed.storage_options), given), store=store)
    assert missing.value.exception == "FileNotFoundError"
    wrong = {**seaweed.storage_options, "aws_secret_access_key": "a wrong secret"}
    with pytest.raises(QueryError) as refused:
        run_task(task(fragment(wrong), given), store=store)
    assert refused.value.exception == "PermissionError"
    assert "a wrong secret" not in str(refused.value)
