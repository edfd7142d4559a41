"""What a journal says of a query, and the segment that an older version wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from frazil_coordinator.journal.history import fold
from frazil_coordinator.journal.records import (
    Accepted,
    Ended,
    Planned,
    Publishing,
    Record,
    TakenOver,
    decode_segment,
    encode_segment,
)
from frazil_coordinator.schedule.commits import Commit, StageLaidOut, TaskCommitted, TaskDivided, TaskLost, as_taken_up
from frazil_coordinator.status import QueryState
from frazil_functions.errors import JournalError, WireError
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import BlockInfo, BlockRef, Descriptor, KeySummary, SinkFile, TaskStats

GOLDEN: Final = Path(__file__).parents[2] / "golden" / "journal" / "segment-v1.bin"
"""Written once, and never again: later versions must read it."""

GOLDEN_REUSED: Final = GOLDEN.with_name("segment-v1-reused.bin")
"""Written once, by ``python -m unit.journal.test_history`` in tests/, since answers may have been reused."""

ACCEPTED = Accepted(
    query=QueryId("q"),
    submitted_unix_s=1.5,
    labels=("a", "b"),
    settings={"start_small": False, "max_cost": None, "codec": "auto", "heartbeat_s": 5.0},
    discard_result=False,
    plan=b"sealed",
    idempotency_key="key",
    plan_digest="00ff",
)


def laid_out(stage: int, after: int) -> StageLaidOut:
    return StageLaidOut(stage=StageId(stage), finished=(StageId(0),), factors={"Join": 3.0}, after=after)


def committed(stage: int, task: int) -> TaskCommitted:
    block = BlockInfo(partition=1, offset=2, length=3, rows=4, crc32c=5, codec="ipc", low=b"\x01")
    descriptor = Descriptor(
        key="x/y",
        blocks=(block,),
        inline=b"\x00\xff",
        files=(SinkFile(path="a/b", rows=1, bytes=2),),
        keys=(KeySummary(column="k", values=b"v", complete=True),),
        stats=TaskStats(rows_in=1, requests={"get": 2}, seconds=0.5, cold_start=True),
    )
    return TaskCommitted(stage=StageId(stage), task=TaskIndex(task), attempt=2, descriptor=descriptor)


def reused() -> TaskCommitted:
    descriptor = Descriptor(key="kept/t/data/00/d/0-u", blocks=())
    return TaskCommitted(stage=StageId(0), task=TaskIndex(3), attempt=0, descriptor=descriptor, reused=True)


def divided(task: int, after: int) -> TaskDivided:
    return TaskDivided(stage=StageId(0), task=TaskIndex(task), attempt=1, after=after)


def ended() -> Ended:
    block = BlockRef(key="x", offset=0, length=1, rows=1, crc32c=2, codec="ipc", map_index=0, data=b"d")
    return Ended(
        state=QueryState.FAILED,
        started_unix_s=2.0,
        ended_unix_s=3.0,
        error=WireError(kind="query", message="m", where={"stage": "1"}, exception="ComputeError"),
        result_rows=1,
        result_bytes=1,
        blocks=(block,),
        profile=b"{}",
    )


def every_record() -> list[Record]:
    return [
        ACCEPTED,
        Planned(name="stages-1", stages=b"sealed", sink_folder="f", sink_stamp="s"),
        laid_out(1, 0),
        committed(0, 1),
        divided(2, 1),
        TakenOver(coordinator="c", unix_s=4.0),
        Publishing(),
        ended(),
    ]


def test_a_segment_of_version_1_is_read_as_it_was_meant() -> None:
    assert decode_segment(GOLDEN.read_bytes(), "golden") == tuple(every_record())


def test_an_answer_says_whether_it_was_reused_and_one_from_before_was_not() -> None:
    assert decode_segment(GOLDEN_REUSED.read_bytes(), "golden") == (reused(),)
    assert not any(one.reused for one in decode_segment(GOLDEN.read_bytes(), "g") if isinstance(one, TaskCommitted))


def test_the_records_of_a_query_say_how_far_it_is() -> None:
    remembered = fold(every_record(), segments=3)
    assert remembered.accepted == ACCEPTED
    assert [one.name for one in remembered.planned] == ["stages-1"]
    assert remembered.commits == (laid_out(1, 0), committed(0, 1), divided(2, 1))
    assert remembered.publishing
    assert remembered.ended == ended()
    assert remembered.takeovers == 1
    assert remembered.segments == 3


def test_a_loss_stands_among_the_commits_where_it_was_found() -> None:
    lost = TaskLost(stage=StageId(0), task=TaskIndex(1), after=1)
    records: list[Record] = [ACCEPTED, Planned(name="one"), committed(0, 1), lost, committed(0, 1)]
    assert fold(decode_segment(encode_segment("w", records), "s")).commits == tuple(records[2:])


def test_what_was_done_for_a_plan_that_was_given_up_does_not_count() -> None:
    records: list[Record] = [
        ACCEPTED,
        Planned(name="one"),
        laid_out(0, 0),
        committed(0, 0),
        Planned(name="two"),
        laid_out(0, 0),
    ]
    remembered = fold(records)
    assert [one.name for one in remembered.planned] == ["one", "two"]
    assert remembered.commits == (laid_out(0, 0),)


@pytest.mark.parametrize("records", [[], [Publishing()], [ACCEPTED, ACCEPTED]])
def test_a_journal_that_does_not_begin_with_one_acceptance_is_damaged(records: list[Record]) -> None:
    with pytest.raises(JournalError, match="damaged"):
        fold(records)


def test_decisions_stand_where_they_were_taken_and_not_where_they_were_written() -> None:
    """The second stage was laid out when one answer was known, and written behind two."""
    written: list[Commit] = [
        laid_out(0, 0),
        committed(0, 0),
        committed(0, 1),
        laid_out(1, 1),
        divided(3, 2),
        committed(0, 2),
    ]
    taken_up = [laid_out(0, 0), committed(0, 0), laid_out(1, 1), committed(0, 1), divided(3, 2), committed(0, 2)]
    assert list(as_taken_up(written)) == taken_up


if __name__ == "__main__":
    GOLDEN_REUSED.write_bytes(encode_segment("writer", [reused()]))
