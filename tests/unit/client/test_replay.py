"""Running a task again in this process, for tasks that a coordinator seldom makes, and refusals before anything runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from msgspec import structs
from polars.testing import assert_frame_equal

from frazil._replay import Replay
from frazil_functions.bundle import Bundle, with_blocks
from frazil_functions.errors import DeadlineError, QueryError, RequestError, to_wire
from frazil_functions.run import run_task
from frazil_functions.storage import FolderStore
from frazil_functions.task import BlockRef, Descriptor, ExchangeInput, Output, TaskLimits, TaskRequest, input_path
from support.tasks import task_request

ROWS = pl.DataFrame({"k": [1, 2, 3, 4], "v": ["a", "b", "c", "d"]})


def bundle(request: TaskRequest) -> Bundle:
    return Bundle(request=request, frazil_version="0.1.0", made_unix_s=0.0)


def written(store: FolderStore, task: int) -> Descriptor:
    """Run a task that writes two partitions into the exchange."""
    output = Output(kind="hash", partitions=2, hash_keys=(pl.col("k").meta.serialize(),), prefix="exchange/0/q/0/0")
    output = structs.replace(output, inline_limit_bytes=0)
    return run_task(task_request(ROWS.lazy(), task=task, output=output), store=store)


def blocks_of(one: Descriptor, task: int) -> tuple[BlockRef, ...]:
    return tuple(
        BlockRef(
            key=one.key or "", offset=info.offset, length=info.length, rows=info.rows, crc32c=info.crc32c, codec=info.codec,
            map_index=task,
        )
        for info in one.blocks
    )  # fmt: skip


def test_a_task_that_copies_blocks_is_run_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    blocks = [block for task in range(2) for block in blocks_of(written(store, task), task)]
    request = structs.replace(
        task_request(),
        fragment=b"",
        inputs=(ExchangeInput(blocks=tuple(blocks)),),
        output=Output(kind="combined", prefix="exchange/0/q/1/0"),
    )
    before = [found.key for found in store.list("")]
    with Replay(bundle(with_blocks(request, store))) as replay:
        run = replay.run()
        assert sorted(run.frames) == [0, 1, 2, 3], "each block as it is"
        assert_frame_equal(run.frame().sort("k"), pl.concat([ROWS, ROWS]).sort("k"), check_row_order=False)
        assert_frame_equal(replay.inputs[0].collect(), run.frame())
        assert "COPY" in replay.plan()
        with pytest.raises(RequestError, match="copies blocks"):
            _ = replay.fragment
    assert [found.key for found in store.list("")] == before


def test_bounds_of_the_function_do_not_hold_here(tmp_path: Path) -> None:
    late = structs.replace(task_request(), deadline_unix_s=1.0)
    with pytest.raises(DeadlineError):
        run_task(late, store=FolderStore(tmp_path))
    # In a function, a limit that is exceeded by so much ends the process.
    assert Replay(bundle(structs.replace(late, limits=TaskLimits(memory_bytes=1)))).run().frame().height == 3


def test_a_large_input_is_read_from_the_exchange_and_never_written_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    refs = blocks_of(written(store, 0), 0)
    plan = pl.scan_parquet(input_path(0), schema=ROWS.schema).filter(pl.col("k") > 1)
    request = structs.replace(task_request(plan), inputs=(ExchangeInput(blocks=refs),))
    with pytest.raises(RequestError, match="not in the bundle: too many"):
        Replay(structs.replace(bundle(request), left_out="too many")).run()
    before = [found.key for found in store.list("")]
    with Replay(bundle(request), store=store) as replay:
        assert replay.missing_bytes == sum(ref.length for ref in refs)
        assert sorted(replay.run().frame()["k"].to_list()) == [2, 3, 4]
        assert sorted(replay.fragment.select("k").collect()["k"].to_list()) == [2, 3, 4]
    assert [found.key for found in store.list("")] == before


def test_what_failed_says_so() -> None:
    error = to_wire(QueryError("no", exception="ColumnNotFoundError"))
    replay = Replay(structs.replace(bundle(task_request()), error=error))
    assert repr(replay) == "Replay(q/0/0/0, failed: query)"
    assert isinstance(replay.error, QueryError)
