"""Sinks to a real S3 server, over HTTP, and to targets that can't be written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

import frazil
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_coordinator.settings import Settings
from frazil_functions import storage_object
from frazil_functions.storage import open_store
from support.counting_s3 import count_requests
from support.parity import assert_same
from support.polling import eventually
from support.seaweed import SeaweedFS
from support.serving import TOKEN, serving

TINY = frazil.Settings(start_small=False, max_rows_per_split=4, inline_limit_bytes=0, retry_backoff_s=0.01)
BUCKET = "sinks"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    frame = pl.DataFrame(
        {"n": range(18), "k": [("a/b", "é =", None)[n % 3] for n in range(18)], "s": [f"s{n}" for n in range(18)]}
    )
    frame.write_parquet(path)
    return pl.scan_parquet(path)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(2, settings=TINY) as running:
        yield running


@pytest.fixture
def place(seaweed: SeaweedFS, request: pytest.FixtureRequest) -> str:
    """A prefix of its own in the bucket."""
    return seaweed.url(f"{BUCKET}/{abs(hash(request.node.nodeid))}")


def keys(seaweed: SeaweedFS, place: str) -> list[str]:
    """Return the keys below a place, relative to it, and nothing staged."""
    prefix = place.removeprefix(f"s3://{BUCKET}/")
    assert not [key for key in seaweed.keys(BUCKET) if ".frazil" in key]
    return [key.removeprefix(f"{prefix}/") for key in seaweed.keys(BUCKET, f"{prefix}/")]


def profile_of(engine: frazil.Engine) -> dict[str, Any]:
    assert engine.last_query is not None
    return cast("dict[str, Any]", engine.last_query.profile())


def test_a_file_a_folder_and_partitions_on_s3_are_read_back_as_polars_writes_them(
    engine: frazil.Engine, table: pl.LazyFrame, seaweed: SeaweedFS, place: str
) -> None:
    options = seaweed.storage_options
    table.sink_parquet(f"{place}/x/y.parquet", engine=engine, storage_options=options)
    assert keys(seaweed, place) == ["x/y.parquet"]
    assert_same(pl.read_parquet(f"{place}/x/y.parquet", storage_options=options), table.collect(), ordered=True)
    table.sink_parquet(f"{place}/lake/", engine=engine, storage_options=options)
    assert len(keys(seaweed, f"{place}/lake")) == 5
    assert_same(pl.scan_parquet(f"{place}/lake/", storage_options=options).collect(), table.collect(), ordered=True)
    for ours in (True, False):
        target = f"{place}/{'ours' if ours else 'theirs'}"
        sink_to = engine if ours else "streaming"
        table.sink_csv(pl.PartitionBy(f"{target}/k", key="k"), engine=sink_to, storage_options=options)  # type: ignore[arg-type]  # either kind
        table.sink_parquet(pl.PartitionBy(f"{target}/n", max_rows_per_file=5), engine=sink_to, storage_options=options)  # type: ignore[arg-type]  # as above
    assert keys(seaweed, f"{place}/ours") == keys(seaweed, f"{place}/theirs")
    read = [pl.scan_csv(f"{place}/{whose}/k/**/*.csv", storage_options=options).collect() for whose in ("ours", "theirs")]
    assert_same(read[0], read[1], ordered=True)
    read = [pl.scan_parquet(f"{place}/{whose}/n/", storage_options=options).collect() for whose in ("ours", "theirs")]
    assert_same(read[0], read[1], ordered=True)


def test_a_sink_costs_the_requests_that_its_page_says(
    engine: frazil.Engine, table: pl.LazyFrame, seaweed: SeaweedFS, place: str
) -> None:
    with count_requests(seaweed.endpoint) as wire:
        options = {**seaweed.storage_options, "aws_endpoint_url": wire.endpoint}
        table.sink_parquet(f"{place}/lake/", engine=engine, storage_options=options)
        sink = profile_of(engine)["sink"]
        assert (sink["files"], sink["rows"]) == (5, 18)
        assert sink["requests"] == {"list": 3, "put": 1, "copy": 5, "delete": 2}
        sizes = [item["Size"] for item in seaweed.client().list_objects_v2(Bucket=BUCKET, Prefix=place[11:])["Contents"]]
        assert sink["bytes"] == sum(sizes)
        seen = wire.counts(BUCKET)
    # Five files are staged and five copied, and there is the manifest. A bulk delete is a POST.
    assert seen["PUT"] == 5 + 5 + 1
    assert seen["GET"] == 3
    assert seen["POST"] + seen["DELETE"] == 2
    assert set(seen) <= {"PUT", "GET", "POST", "DELETE"}


def test_a_file_too_large_for_one_copy_is_copied_in_parts(
    seaweed: SeaweedFS, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_object, "_COPY_LIMIT", 1 << 20)
    monkeypatch.setattr(storage_object, "_LARGE_CHUNK", 5 << 20)
    store = open_store(place, seaweed.storage_options)
    data = bytes(range(256)) * (12 << 12)
    store.put("from", [data])
    store.install("from", "to", len(data))
    assert store.get("to") == data


@pytest.mark.parametrize(
    ("change", "url", "words"),
    [
        ({"aws_secret_access_key": "wrong"}, "s3://sinks/x.parquet", "refused"),
        ({}, "s3://no-such-bucket-here/lake/", "bucket"),
        ({"aws_endpoint_url": "http://127.0.0.1:9"}, "s3://sinks/x.parquet", "reach"),
    ],
    ids=["credentials", "bucket", "endpoint"],
)
def test_a_store_that_can_not_be_written_is_told_before_anything_runs(
    engine: frazil.Engine, table: pl.LazyFrame, seaweed: SeaweedFS, change: dict[str, str], url: str, words: str
) -> None:
    seaweed.make_bucket(BUCKET)
    options = {**seaweed.storage_options, **change}
    with pytest.raises(frazil.StorageError, match=words) as caught:
        table.sink_parquet(url, engine=engine, storage_options=options)
    assert "wrong" not in str(caught.value)
    assert engine.last_query is not None
    assert not [stage for stage in engine.last_query.progress() if stage.attempts]


@pytest.mark.parametrize("target", ["x.csv", "lake/"])
def test_a_query_that_fails_leaves_nothing(
    engine: frazil.Engine, table: pl.LazyFrame, seaweed: SeaweedFS, place: str, tmp_path: Path, target: str
) -> None:
    bad = table.with_columns(pl.when(pl.col("n") == 17).then(pl.lit("x")).otherwise(pl.lit("1")).str.to_integer())
    (tmp_path / "in").mkdir()
    for where in (place, f"{tmp_path}/in"):
        options = seaweed.storage_options if where is place else None
        with pytest.raises(pl.exceptions.ComputeError, match="parsing failed"):
            bad.sink_csv(f"{where}/{target}", engine=engine, storage_options=options)
    eventually(lambda: not [key for key in seaweed.keys(BUCKET) if ".frazil" in key], "nothing is staged")
    assert keys(seaweed, place) == []
    eventually(lambda: [path.name for path in tmp_path.rglob("*")] == ["in"], "nothing is left on the disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no program to mount a small file system with")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_as_such_and_left_as_it_was(engine: frazil.Engine, small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "wide.parquet"
    pl.DataFrame({"key": range(400_000)}).with_columns(noise=pl.col("key").hash(1)).write_parquet(source)
    (small_disk / "out").mkdir()
    settings = frazil.Settings(start_small=False, max_attempts=2, retry_backoff_s=0.01)
    with frazil.local(1, settings=settings) as one, pytest.raises(frazil.StorageError, match=r"(?i)space"):
        pl.scan_parquet(source).sink_parquet(f"{small_disk}/out/", engine=one)
    assert [path.name for path in small_disk.rglob("*")] == ["out"]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frazil.Engine]:
    """An engine over HTTP."""
    with (
        serving(tmp_path_factory.mktemp("store"), TINY) as url,
        frazil.connect(url, token=TOKEN, settings=TINY) as running,
    ):
        yield running


def test_sinks_over_http_write_to_a_folder_of_this_machine_and_to_s3(
    remote: frazil.Engine, table: pl.LazyFrame, seaweed: SeaweedFS, place: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    answer = table.sink_csv(tmp_path / "out" / "x.csv", lazy=True).collect(engine=remote)
    assert answer.shape == (0, 0)
    assert_same(pl.read_csv(tmp_path / "out" / "x.csv"), table.collect(), ordered=True)
    table.sink_parquet(f"{tmp_path}/out/lake/", engine=remote)
    assert_same(pl.read_parquet(f"{tmp_path}/out/lake/"), table.collect(), ordered=True)
    sink = profile_of(remote)["sink"]
    assert (sink["files"], sink["rows"], sink["target"]) == (5, 18, f"file://{tmp_path}/out/lake/")
    table.sink_ipc(f"{place}/x.arrow", engine=remote, storage_options=seaweed.storage_options)
    assert keys(seaweed, place) == ["x.arrow"]
    read = pl.scan_ipc(f"{place}/x.arrow", storage_options=seaweed.storage_options).collect()
    assert_same(read, table.collect(), ordered=True)


def test_errors_of_targets_come_over_http_as_those_of_polars(
    remote: frazil.Engine, table: pl.LazyFrame, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing/x\.parquet"):
        table.sink_parquet(tmp_path / "missing" / "x.parquet", engine=remote)
    with pytest.raises(pl.exceptions.InvalidOperationError, match="check_extension"):
        table.sink_csv(tmp_path / "x.csv.gz", engine=remote)
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nope"):
        table.sink_csv(pl.PartitionBy(tmp_path / "x", key="nope"), engine=remote)


async def test_functions_on_other_machines_write_to_no_disk(table: pl.LazyFrame, tmp_path: Path) -> None:
    platform = KnativePlatform("http://127.0.0.1:9/", ("key",), max_in_flight=1)
    coordinator = Coordinator(settings=Settings(), platform=platform, store=open_store(str(tmp_path / "store")))
    try:
        accepted = await coordinator.submit(table.sink_parquet(tmp_path / "x.parquet", lazy=True).serialize())
        ended = await coordinator.wait(accepted.id, timeout_s=60)
    finally:
        await coordinator.aclose()
        await platform.aclose()
    assert ended.error is not None
    assert "s3://" in ended.error.message
