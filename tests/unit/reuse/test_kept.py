"""Answers that are kept: by how many requests, for whom, for how long; and the form in which they are."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import pytest

from frazil_coordinator.reuse.digests import TaskDigest
from frazil_coordinator.reuse.forms import Kept, KeptResult, decode_kept, decode_result, encode_kept, encode_result
from frazil_coordinator.reuse.kept import KeptAnswers, collect_kept
from frazil_functions.errors import JournalError
from frazil_functions.ids import QueryId
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockInfo, BlockRef, Descriptor, KeySummary, TaskStats

GOLDEN: Final = Path(__file__).parents[2] / "golden" / "reuse" / "kept-v1.bin"
"""Written once, by ``python -m unit.reuse.test_kept`` in tests/, and never again: later versions must read it."""

DAY_S: Final = 86_400.0


def digest(number: int, work: str = "w") -> TaskDigest:
    return TaskDigest(work=work, task=f"{number:040x}")


def kept(number: int, key: str | None = "kept/d/0-a", kept_unix_s: float | None = None) -> Kept:
    block = BlockInfo(partition=1, offset=2, length=3, rows=4, crc32c=5, codec="ipc", low=b"\x01")
    descriptor = Descriptor(
        key=key,
        blocks=(block,),
        inline=None if key is not None else b"\x00\xff",
        keys=(KeySummary(column="k", values=b"v", complete=True),),
        stats=TaskStats(rows_in=1, requests={"get": 2}, seconds=0.5, cold_start=True),
    )
    when = time.time() if kept_unix_s is None else kept_unix_s
    return Kept(digest=digest(number).task, work="w", query=QueryId("q"), kept_unix_s=when, descriptor=descriptor)


GOLDEN_KEPT: Final = kept(7, key=None, kept_unix_s=12.5)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path))


def answers(store: CountingStore, tenant: str = "t", ttl_s: float = DAY_S) -> KeptAnswers:
    return KeptAnswers(store=store, tenant=tenant, ttl_s=ttl_s)


def requests(store: CountingStore, before: dict[str, int]) -> dict[str, int]:
    after = store.requests
    return {name: count for name in after if (count := after[name] - before.get(name, 0))}


def test_an_answer_of_version_1_is_read_as_it_was_meant() -> None:
    assert decode_kept(GOLDEN.read_bytes(), "golden") == GOLDEN_KEPT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing that was kept"),
        (b"FRZJ" + encode_kept(kept(1))[4:], "nothing that was kept"),
        (encode_kept(kept(1))[:4] + b"\x02" + encode_kept(kept(1))[5:], "version 2"),
        (encode_kept(kept(1))[:-1] + b"\x00", "checksum"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(JournalError, match=says):
        decode_kept(data, "it")


def test_few_tasks_cost_a_get_each_and_many_a_list_and_a_get_for_each_that_is_found(store: CountingStore) -> None:
    mine = answers(store)
    for number in range(20):
        assert mine.keep(digest(number), kept(number))
    assert store.requests == {"put": 20}
    before = store.requests
    assert len(mine.find([digest(number) for number in range(5)])) == 5
    assert requests(store, before) == {"get": 5}
    before = store.requests
    found = mine.find([digest(number) for number in range(15, 40)])
    assert sorted(found) == [digest(number).task for number in range(15, 20)]
    assert requests(store, before) == {"list": 1, "get": 5}
    before = store.requests
    assert mine.find([digest(number, "never done") for number in range(100)]) == {}
    assert requests(store, before) == {"list": 1}


def test_the_first_answer_stays_unless_it_is_too_old_or_damaged(store: CountingStore) -> None:
    mine = answers(store)
    first, second = kept(1, "kept/d/0-a"), kept(1, "kept/d/0-b")
    assert mine.keep(digest(1), first)
    assert not mine.keep(digest(1), second)
    assert mine.find([digest(1)]) == {first.digest: first}
    old = kept(2, "kept/d/0-a", time.time() - 2 * DAY_S)
    assert mine.keep(digest(2), old)
    assert mine.find([digest(2)]) == {}
    assert mine.keep(digest(2), kept(2, "kept/d/0-b"))
    assert mine.find([digest(2)])[digest(2).task].descriptor.key == "kept/d/0-b"
    key = f"{mine.folder}/tasks/w/{digest(1).task}"
    store.put(key, [b"FRZK rubbish that nobody wrote"])
    assert mine.find([digest(1)]) == {}, "damaged: as if it were not there"
    assert mine.keep(digest(1), second)
    assert mine.find([digest(1)]) == {second.digest: second}


def test_a_tenant_finds_nothing_of_another(store: CountingStore) -> None:
    mine, others = answers(store, "a"), answers(store, "../a")
    mine.keep(digest(1), kept(1))
    assert mine.find([digest(1)])
    assert others.find([digest(1)]) == {}
    assert others.find([digest(number) for number in range(20)]) == {}
    assert not others.is_kept(mine.data_prefix(digest(1)))
    assert mine.is_kept(f"{mine.data_prefix(digest(1))}/0-a")


def test_what_is_forgotten_is_not_found(store: CountingStore) -> None:
    mine = answers(store)
    mine.keep(digest(1), kept(1))
    mine.forget(digest(1))
    assert mine.find([digest(1)]) == {}


def test_old_answers_go_and_their_data_after_them_but_for_what_is_in_use(store: CountingStore, tmp_path: Path) -> None:
    mine = answers(store)
    data = [f"{mine.data_prefix(digest(number))}/0-a" for number in range(4)]
    for number, age_s in enumerate([0.0, DAY_S + 60, DAY_S + 1_000, DAY_S + 1_000]):
        mine.keep(digest(number), kept(number, data[number]))
        store.put(data[number], [b"rows"])
        when = time.time() - age_s
        for key in (data[number], f"{mine.folder}/tasks/w/{digest(number).task}"):
            os.utime(tmp_path / key, (when, when))
    before = store.requests
    assert collect_kept(store, DAY_S, lambda: {data[3]}) == 4
    assert requests(store, before) == {"list": 1, "delete": 1}
    assert [info.key for info in store.list("kept/") if "/data/" in info.key] == sorted([data[0], data[1], data[3]])
    assert [info.key[-1] for info in store.list("kept/") if "/tasks/" in info.key] == ["0"]


def result(key: str = "", data: bytes | None = b"abc", ended_unix_s: float | None = None) -> KeptResult:
    block = BlockRef(key=key, offset=0, length=3, rows=1, crc32c=7, codec="ipc", map_index=0, data=data)
    when = time.time() if ended_unix_s is None else ended_unix_s
    return KeptResult(digest="d", query=QueryId("q"), ended_unix_s=when, blocks=(block,))


GOLDEN_RESULT: Final = result(ended_unix_s=12.5)


def test_a_result_of_version_1_is_read_as_it_was_meant() -> None:
    assert decode_result(GOLDEN.with_name("result-v1.bin").read_bytes(), "golden") == GOLDEN_RESULT
    with pytest.raises(JournalError, match="nothing that was kept"):
        decode_result(encode_kept(kept(1)), "an answer")


def test_a_result_is_found_by_one_get_while_it_is_young_enough_and_all_there(store: CountingStore) -> None:
    mine = answers(store)
    assert mine.find_result("d", None) is None
    mine.keep_result(result())
    before = store.requests
    assert mine.find_result("d", None) == mine.find_result("d", 60.0) is not None
    assert requests(store, before) == {"get": 2}
    assert answers(store, "another").find_result("d", None) is None
    mine.keep_result(result(ended_unix_s=time.time() - 100.0))
    assert mine.find_result("d", 60.0) is None
    assert mine.find_result("d", 200.0) is not None
    assert answers(store, ttl_s=50.0).find_result("d", None) is None
    large = result(key=f"{mine.result_prefix('d', 0)}/0-a", data=None)
    mine.keep_result(large)
    assert mine.find_result("d", None) is None, "a part of it is gone"
    store.put(large.blocks[0].key, [b"rows"])
    before = store.requests
    assert mine.find_result("d", None) == large
    assert requests(store, before) == {"get": 1, "head": 1}


if __name__ == "__main__":
    GOLDEN.with_name("result-v1.bin").write_bytes(encode_result(GOLDEN_RESULT))
