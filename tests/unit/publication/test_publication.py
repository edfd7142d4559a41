"""Publishing staged files: named by the winning attempts, committed once, finished by whoever finds them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from frazil_coordinator.plan.model import FILE_NUMBER, Sink
from frazil_coordinator.publication import Publication, decode_manifest, encode_manifest, finish_pending
from frazil_coordinator.publication.manifest import MANIFEST, STAGING
from frazil_coordinator.publication.pending import ABANDONED_S
from frazil_functions.errors import InternalError, SourceError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore, ObjectInfo, Store
from frazil_functions.task import SinkFile

GOLDEN = Path(__file__).parents[2] / "golden" / "sinks" / "v1" / "manifest.json"


def sink_to(
    folder: Path, kind: Literal["file", "dataset", "partitioned", "numbered"] = "partitioned", name: str = "parquet"
) -> Sink:
    return Sink(
        node=b"",
        kind=kind,
        format="Parquet",
        target="t",
        store=str(folder),
        base="base",
        folder="lake",
        name=name,
        local=True,
    )


@pytest.fixture(autouse=True)
def known_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folder of staged files be named ``<query>-1``."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "1")


def published(sink: Sink, store: Store, query: str = "q1") -> Publication:
    return Publication(sink, QueryId(query), store)


def stage(folder: Path, path: str, data: bytes = b"data", *, rows: int = 1, query: str = "q1") -> SinkFile:
    """Write a staged file as a task does."""
    place = folder / "base" / STAGING / f"{query}-1" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return SinkFile(path=path, rows=rows, bytes=len(data))


def seen(folder: Path) -> dict[str, bytes]:
    """Return every file and its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class CrashingStore(FolderStore):
    """Stops working at the `crash`-th file that gets its name, as a coordinator that is killed there."""

    def __init__(self, folder: Path, crash: int) -> None:
        super().__init__(folder)
        self.crash = crash

    def install(self, source: str, target: str, size: int) -> None:
        if self.crash == 0:
            raise StorageError("gone")
        self.crash -= 1
        super().install(source, target, size)

    def delete_prefix(self, prefix: str) -> int:
        if self.crash == 0:
            raise StorageError("gone")
        return super().delete_prefix(prefix)


def test_only_the_files_of_the_winning_attempts_become_visible_under_the_names_of_polars(tmp_path: Path) -> None:
    won = stage(tmp_path, "2-0-1-bb/k=a/00000000.parquet", b"won")
    more = [stage(tmp_path, f"2-1-0-cc/k={key}/00000000.parquet", key.encode()) for key in "ab"]
    stage(tmp_path, "2-0-0-aa/k=a/00000000.parquet", b"lost")
    publication = published(sink_to(tmp_path), FolderStore(tmp_path))
    publication.publish([[won], more])
    assert seen(tmp_path) == {
        "base/lake/k=a/00000000.parquet": b"won",
        "base/lake/k=a/00000001.parquet": b"a",
        "base/lake/k=b/00000000.parquet": b"b",
    }
    profile = publication.profile()
    assert (profile["files"], profile["rows"], profile["bytes"]) == (3, 3, 5)
    assert profile["requests"] == {"list": 2, "put": 1, "copy": 3, "delete": 2}


def test_numbered_files_are_named_by_their_number_in_hexadecimal(tmp_path: Path) -> None:
    files = [stage(tmp_path, f"2-0-0-aa/{FILE_NUMBER}={number}/00000000.csv") for number in (0, 9, 10, 255)]
    published(sink_to(tmp_path, "numbered", "csv"), FolderStore(tmp_path)).publish([files])
    assert sorted(path.name for path in (tmp_path / "base" / "lake").iterdir()) == [
        "00000000.csv", "00000009.csv", "0000000a.csv", "000000ff.csv",
    ]  # fmt: skip


def test_a_folder_leaves_out_files_without_rows_and_keeps_one_when_there_are_no_others(tmp_path: Path) -> None:
    for query, rows, count in (("q1", (0, 2, 0, 3), 2), ("q2", (0, 0), 1)):
        files = [[stage(tmp_path, f"1-{n}-0-x/0.parquet", rows=one, query=query)] for n, one in enumerate(rows)]
        published(sink_to(tmp_path, "dataset"), FolderStore(tmp_path), query).publish(files)
        assert len([path for path in (tmp_path / "base" / "lake").iterdir() if query in path.name]) == count


def test_a_staged_file_of_another_size_is_not_published(tmp_path: Path) -> None:
    file = stage(tmp_path, "1-0-0-x/x.parquet")
    publication = published(sink_to(tmp_path, "file", "x.parquet"), FolderStore(tmp_path))
    with pytest.raises(InternalError, match="another size"):
        publication.publish([[msgspec.structs.replace(file, bytes=99)]])
    publication.discard()
    assert seen(tmp_path) == {}


@pytest.mark.parametrize("crash", [0, 1, 2])
def test_a_sink_that_was_committed_and_not_finished_is_finished_by_the_next_one(tmp_path: Path, crash: int) -> None:
    files = [stage(tmp_path, f"1-0-0-x/k={n}/00000000.parquet", b"%d" % n) for n in range(3)]
    dead = published(sink_to(tmp_path), CrashingStore(tmp_path, crash))
    with pytest.raises(StorageError, match="committed and may be visible in part"):
        dead.publish([files])
    dead.discard()  # what is committed is nobody's to delete
    assert f"base/{STAGING}/q1-1/{MANIFEST}" in seen(tmp_path)
    younger = published(sink_to(tmp_path, "file", "x.parquet"), FolderStore(tmp_path), "q2")
    younger.prepare()
    whole = {f"base/lake/k={n}/00000000.parquet": b"%d" % n for n in range(3)}
    assert seen(tmp_path) == whole
    younger.publish([[stage(tmp_path, "1-0-0-y/x.parquet", query="q2")]])
    assert seen(tmp_path) == {**whole, "base/lake/x.parquet": b"data"}


def test_an_older_sink_is_finished_before_a_younger_one_replaces_its_file(tmp_path: Path) -> None:
    sink = sink_to(tmp_path, "file", "x.parquet")
    younger = published(sink, FolderStore(tmp_path), "q2")
    younger.prepare()
    file = stage(tmp_path, "1-0-0-x/x.parquet", b"older")
    with pytest.raises(StorageError):
        published(sink, CrashingStore(tmp_path, 0)).publish([[file]])
    younger.publish([[stage(tmp_path, "1-0-0-y/x.parquet", b"younger", query="q2")]])
    assert seen(tmp_path) == {"base/lake/x.parquet": b"younger"}


def test_finishing_twice_does_no_harm(tmp_path: Path) -> None:
    file = stage(tmp_path, "1-0-0-x/x.parquet")
    with pytest.raises(StorageError):
        published(sink_to(tmp_path, "file", "x.parquet"), CrashingStore(tmp_path, 0)).publish([[file]])
    store = FolderStore(tmp_path)
    assert finish_pending(store, "base") == ("q1",)
    assert finish_pending(store, "base") == ()
    assert seen(tmp_path) == {"base/lake/x.parquet": b"data"}


def test_staged_files_are_kept_while_their_query_may_live_and_deleted_when_it_can_not(tmp_path: Path) -> None:
    stage(tmp_path, "1-0-0-x/x.parquet", query="young")
    stage(tmp_path, "1-0-0-x/x.parquet", query="old")
    long_ago = time.time() - ABANDONED_S - 60
    os.utime(tmp_path / "base" / STAGING / "old-1" / "1-0-0-x" / "x.parquet", (long_ago, long_ago))
    finish_pending(FolderStore(tmp_path), "base")
    assert list(seen(tmp_path)) == [f"base/{STAGING}/young-1/1-0-0-x/x.parquet"]


def test_a_target_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    class Refusing(FolderStore):
        def list(self, prefix: str) -> list[ObjectInfo]:
            raise StorageError(f"refused to list {prefix}")

    with pytest.raises(StorageError, match=r"refused to list .*; path: t$"):
        published(sink_to(tmp_path), Refusing(tmp_path)).prepare()


def test_a_commit_whose_answer_is_lost_counts_as_done(tmp_path: Path) -> None:
    class Forgetful(FolderStore):
        def create(self, key: str, data: bytes) -> bool:
            return super().create(key, data) and super().create(key, data)

    file = stage(tmp_path, "1-0-0-x/x.parquet")
    published(sink_to(tmp_path, "file", "x.parquet"), Forgetful(tmp_path)).publish([[file]])
    assert seen(tmp_path) == {"base/lake/x.parquet": b"data"}


def test_a_commit_that_failed_leaves_nothing(tmp_path: Path) -> None:
    class Full(FolderStore):
        def create(self, key: str, data: bytes) -> bool:
            raise StorageError("full")

    file = stage(tmp_path, "1-0-0-x/x.parquet")
    publication = published(sink_to(tmp_path, "file", "x.parquet"), Full(tmp_path))
    with pytest.raises(StorageError, match="full"):
        publication.publish([[file]])
    publication.discard()
    assert seen(tmp_path) == {}


def test_the_golden_manifest_is_read_and_written_as_it_is() -> None:
    data = GOLDEN.read_bytes()
    manifest = decode_manifest(data, "here")
    assert [file.published for file in manifest.files] == [
        "sales/d=2024-01-01/00000000.parquet",
        "sales/d=a%2Fb/00000000.parquet",
    ]
    assert encode_manifest(manifest) == data


def test_the_golden_manifest_is_finished(tmp_path: Path) -> None:
    query = json.loads(GOLDEN.read_bytes())["query"]
    stage(tmp_path, "2-0-0-f2d0fb0760b64a0fb75f97113d88a55d/d=2024-01-01/00000000.parquet", b"0" * 11, query=query)
    stage(tmp_path, "2-1-1-13eb2590aed24a23b4ad48665221e771/d=a%2Fb/00000000.parquet", b"1" * 12, query=query)
    (tmp_path / "base" / STAGING / f"{query}-1" / MANIFEST).write_bytes(GOLDEN.read_bytes())
    assert finish_pending(FolderStore(tmp_path), "base") == (query,)
    assert seen(tmp_path) == {
        "base/sales/d=2024-01-01/00000000.parquet": b"0" * 11,
        "base/sales/d=a%2Fb/00000000.parquet": b"1" * 12,
    }


@pytest.mark.parametrize("change", [{"version": 2}, {"format": "else"}, {"files": 3}])
def test_a_manifest_of_another_kind_is_refused_and_left_alone(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "base" / STAGING / "q9" / MANIFEST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**json.loads(GOLDEN.read_bytes()), **change}))
    with pytest.raises(SourceError, match="manifest"):
        published(sink_to(tmp_path), FolderStore(tmp_path)).prepare()
    assert path.exists()
