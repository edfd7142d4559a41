"""Bad input through the whole system: each a clear error, nothing left behind, the engine alive after."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import frazil
from frazil_functions.errors import (
    FrazilError,
    PlanError,
    PlanVersionError,
    PythonPlanError,
    SourceError,
    StorageError,
)
from support.parity import assert_same
from support.polling import eventually
from support.seaweed import SeaweedFS

MANY_TASKS = frazil.Settings(start_small=False, max_rows_per_split=4, inline_limit_bytes=0, retry_backoff_s=0.01)
BUCKET = "bad-input"
PREFIX = "exchange"


@pytest.fixture(scope="module")
def orders(seaweed: SeaweedFS) -> str:
    """A table of 24 rows on SeaweedFS, and the bucket of the exchange."""
    seaweed.make_bucket(BUCKET)
    url = seaweed.url("bad-input-data/orders")
    for part in range(2):
        frame = pl.DataFrame({"key": [n % 5 for n in range(12)], "value": [float(n + part) for n in range(12)]})
        frame.write_parquet(f"{url}/{part}.parquet", storage_options=seaweed.storage_options)
    return f"{url}/*.parquet"


@pytest.fixture(scope="module")
def engine(seaweed: SeaweedFS, orders: str) -> Iterator[frazil.Engine]:
    store = f"s3://{BUCKET}/{PREFIX}"
    with frazil.local(max_functions=2, settings=MANY_TASKS, store=store, storage_options=seaweed.storage_options) as running:
        yield running


@pytest.fixture(autouse=True)
def still_well(seaweed: SeaweedFS, engine: frazil.Engine, orders: str) -> Iterator[None]:
    """Check after each test that nothing is left in the exchange and that the next query is answered."""
    yield
    eventually(lambda: not seaweed.keys(BUCKET, f"{PREFIX}/exchange/"), "the exchange prefix is empty")
    healthy = summary(orders, seaweed)
    assert_same(healthy.collect(engine=engine), healthy.collect(), ordered=False)
    eventually(lambda: not seaweed.keys(BUCKET, f"{PREFIX}/exchange/"), "the exchange prefix is empty after the next query")


def summary(source: str, seaweed: SeaweedFS) -> pl.LazyFrame:
    """Return a query with a shuffle."""
    return pl.scan_parquet(source, storage_options=seaweed.storage_options).group_by("key").agg(pl.col("value").sum())


def send(engine: frazil.Engine, plan: bytes) -> BaseException:
    """Send bytes as a plan, past the client's own checks, and return the error that comes back."""
    with pytest.raises(FrazilError) as caught:
        frazil.Query(engine._session, engine._session.submit(plan, ())).result(timeout_s=60)
    return caught.value


class Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, int], int], tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)

    def __call__(self, *arguments: object, **named: object) -> object:
        return arguments[0]


@pytest.mark.parametrize("plan", [b"", b"\x00", b"SELECT 1", b"DSL_VERSION", bytes(range(256)) * 8], ids=len)
def test_bytes_that_are_no_plan_are_refused_as_such(engine: frazil.Engine, plan: bytes) -> None:
    error = send(engine, plan)
    assert isinstance(error, PlanError)
    assert not isinstance(error, PlanVersionError)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_truncated_plan_is_refused(engine: frazil.Engine, seaweed: SeaweedFS, orders: str, share: float) -> None:
    plan = summary(orders, seaweed).serialize()
    error = send(engine, plan[: int(len(plan) * share)])
    assert isinstance(error, PlanError)


def test_a_plan_of_another_polars_version_is_refused_with_both_versions_at_fault(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str
) -> None:
    plan = bytearray(summary(orders, seaweed).serialize())
    plan[20:24] = bytes(ord("0") if letter != ord("0") else ord("1") for letter in plan[20:24])
    error = send(engine, bytes(plan))
    assert isinstance(error, PlanVersionError)
    assert "polars" in str(error)


def python_plans(trap: Trap, orders: str, seaweed: SeaweedFS) -> dict[str, pl.LazyFrame]:
    """Return queries that hold Python objects."""
    lf = pl.scan_parquet(orders, storage_options=seaweed.storage_options)
    return {
        "map_elements": lf.with_columns(pl.col("value").map_elements(trap, return_dtype=pl.Float64)),
        "map_batches of an expression": lf.select(pl.col("value").map_batches(trap, return_dtype=pl.Float64)),
        "map_batches of a frame": lf.map_batches(trap, schema={"key": pl.Int64, "value": pl.Float64}),  # type: ignore[arg-type]  # any callable does
        "source": pl.LazyFrame._scan_python_function(
            schema={"key": pl.Int64}, scan_fn=trap, pyarrow=False, validate_schema=False, is_pure=False
        ),
        "deep inside": lf.join(lf.filter(pl.col("value").map_elements(trap, return_dtype=pl.Boolean)), on="key").head(2),
    }


@pytest.mark.parametrize(
    "name", ["map_elements", "map_batches of an expression", "map_batches of a frame", "source", "deep inside"]
)
def test_a_plan_with_python_is_refused_before_anything_unpickles_it(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str, tmp_path: Path, name: str
) -> None:
    sprung = tmp_path / "sprung"
    lf = python_plans(Trap(sprung), orders, seaweed)[name]
    assert isinstance(send(engine, lf.serialize()), PythonPlanError)
    with pytest.raises(PythonPlanError):
        lf.collect(engine=engine)
    assert not sprung.exists()


def test_the_trap_of_these_tests_works(tmp_path: Path) -> None:
    import pickle

    descriptor = pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    os.close(descriptor)
    assert (tmp_path / "sprung").exists()


def raised_by_polars(lf: pl.LazyFrame) -> type[BaseException]:
    with pytest.raises((pl.exceptions.PolarsError, OSError)) as caught:
        lf.collect()
    return caught.type


def test_a_missing_file_raises_what_polars_raises_and_names_it(engine: frazil.Engine, tmp_path: Path) -> None:
    lf = pl.scan_parquet(tmp_path / "nowhere.parquet").select("key")
    with pytest.raises(raised_by_polars(lf), match=r"nowhere\.parquet"):
        lf.collect(engine=engine)


def test_a_missing_object_raises_what_polars_raises_and_names_it(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str
) -> None:
    lf = pl.scan_parquet(orders.replace("*", "nowhere"), storage_options=seaweed.storage_options).select("key")
    with pytest.raises(raised_by_polars(lf), match=r"nowhere\.parquet"):
        lf.collect(engine=engine)


def test_a_missing_bucket_is_named(engine: frazil.Engine, seaweed: SeaweedFS) -> None:
    lf = pl.scan_parquet("s3://no-such-bucket-here/x.parquet", storage_options=seaweed.storage_options).select("key")
    with pytest.raises((OSError, pl.exceptions.PolarsError, SourceError), match="no-such-bucket-here"):
        lf.collect(engine=engine)


def test_wrong_credentials_are_told_fast_and_without_the_secret(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str
) -> None:
    wrong = {**seaweed.storage_options, "aws_secret_access_key": "a-very-secret-word"}
    began = time.monotonic()
    with pytest.raises((OSError, pl.exceptions.PolarsError, FrazilError)) as caught:
        pl.scan_parquet(orders, storage_options=wrong).group_by("key").len().collect(engine=engine)
    assert time.monotonic() - began < 20
    everything = _whole_text(caught.value)
    assert any(
        word in everything for word in ("403", "SignatureDoesNotMatch", "denied", "Forbidden", "credentials", "permission")
    )
    assert "a-very-secret-word" not in everything


def _whole_text(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])
    inner = [_whole_text(one) for one in (error.__cause__, error.__context__) if one is not None]
    return "\n".join([str(error), repr(error), *notes, *inner])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lf: lf.select("nope"),
        lambda lf: lf.filter(pl.col("nope") > 1).group_by("key").len(),
        lambda lf: lf.group_by("nope").len(),
        lambda lf: lf.group_by("key").agg(pl.col("nope").sum()),
        lambda lf: lf.sort("nope"),
        lambda lf: lf.join(lf, left_on="key", right_on="nope"),
    ],
    ids=["select", "filter", "group_by", "agg", "sort", "join"],
)
def test_a_column_that_does_not_exist_is_a_column_not_found_error(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str, spoil: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> None:
    lf = spoil(pl.scan_parquet(orders, storage_options=seaweed.storage_options))
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nope"):
        lf.collect(engine=engine)


def test_a_value_that_can_not_be_cast_is_not_retried_and_names_stage_and_task(
    engine: frazil.Engine, seaweed: SeaweedFS, orders: str
) -> None:
    lf = pl.scan_parquet(orders, storage_options=seaweed.storage_options)
    words = pl.concat_str(pl.lit("x"), pl.col("key").cast(pl.String))
    spoiled = lf.with_columns(words.cast(pl.Int64).alias("value")).group_by("key").agg(pl.col("value").sum())
    with pytest.raises(pl.exceptions.InvalidOperationError) as caught:
        spoiled.collect(engine=engine)
    assert any("stage" in note and "task" in note for note in getattr(caught.value, "__notes__", []))
    assert engine.last_query is not None
    stages = engine.last_query.status().progress
    assert all(stage.attempts <= stage.tasks for stage in stages)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a parquet file at all", b"PAR1" + b"\xff" * 100 + b"PAR1"], ids=len)
def test_a_file_that_can_not_be_parsed_is_named(engine: frazil.Engine, seaweed: SeaweedFS, content: bytes) -> None:
    seaweed.put("bad-input-data", "broken/spoiled.parquet", content)
    lf = pl.scan_parquet("s3://bad-input-data/broken/spoiled.parquet", storage_options=seaweed.storage_options)
    with pytest.raises((pl.exceptions.PolarsError, OSError, SourceError)) as caught:
        lf.group_by("key").len().collect(engine=engine)
    assert "spoiled.parquet" in _whole_text(caught.value)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_in_the_store_is_told_as_such_and_emptied_again(tiny_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "wide.parquet"
    pl.DataFrame({"key": range(400_000)}).with_columns(noise=pl.col("key").hash(1)).write_parquet(source)
    settings = frazil.Settings(
        start_small=False, inline_limit_bytes=0, max_attempts=2, shuffle_partitions=4, retry_backoff_s=0.01
    )
    store = tiny_disk / "store"
    with frazil.local(max_functions=1, settings=settings, store=str(store)) as engine:
        lf = pl.scan_parquet(source)
        with pytest.raises(StorageError, match=r"(?i)space"):
            lf.group_by("noise").agg(pl.col("key").implode()).collect(engine=engine)
        eventually(lambda: not [path for path in store.rglob("*") if path.is_file()], "the store is empty")
        assert lf.select(pl.col("key").sum()).collect(engine=engine).item() == sum(range(400_000))


@contextlib.contextmanager
def after_planning(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> Iterator[None]:
    """Call `change` between planning and the first task of the queries that are planned meanwhile."""
    from frazil_coordinator.execution import Execution

    plan = Execution._plan_blocking

    def plan_then_change(self: Execution, *arguments: object) -> object:
        planned = plan(self, *arguments)  # type: ignore[arg-type]  # passed through
        change()
        return planned

    with monkeypatch.context() as patch:
        patch.setattr(Execution, "_plan_blocking", plan_then_change)
        yield


@pytest.mark.parametrize("where", ["folder", "SeaweedFS"])
def test_a_file_replaced_between_planning_and_reading_is_an_error_not_a_mixture(
    engine: frazil.Engine, seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    options = None if where == "folder" else seaweed.storage_options
    path = str(tmp_path / "moving.parquet") if where == "folder" else seaweed.url("bad-input-data/moving/moving.parquet")

    def write(rows: int) -> None:
        pl.DataFrame({"key": range(rows)}).write_parquet(path, storage_options=options)

    write(10)
    lf = pl.scan_parquet(path, storage_options=options).select(pl.col("key").sum())
    with after_planning(monkeypatch, lambda: write(20)), pytest.raises(SourceError, match=r"moving\.parquet"):
        lf.collect(engine=engine)
    assert lf.collect(engine=engine).item() == sum(range(20))


def test_a_plan_over_the_limit_is_refused_by_client_and_coordinator(engine: frazil.Engine) -> None:
    small = frazil.Settings(max_plan_bytes=1_000)
    with frazil.local(settings=small) as strict:
        lf = pl.LazyFrame({"a": range(10_000)})
        with pytest.raises(PlanError, match="max_plan_bytes"):
            lf.collect(engine=strict)
        assert isinstance(send(strict, lf.serialize()), PlanError)


def test_a_plan_nested_beyond_reason_is_refused_or_run_but_never_kills_the_coordinator(engine: frazil.Engine) -> None:
    deep = pl.lit(1)
    for _ in range(400):
        deep = deep + pl.lit(1)
    lf = pl.LazyFrame({"a": [1]}).select(deep)
    with contextlib.suppress(FrazilError, pl.exceptions.PolarsError):
        assert lf.collect(engine=engine).item() == 401
