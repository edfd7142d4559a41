"""Where a sink's files go, where they wait, and which targets are refused before anything runs."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.targets import place_of
from frazil_functions.errors import PlanError, QueryError


@pytest.mark.parametrize(
    ("target", "many", "place"),
    [
        ("s3://b/lake/sales/", True, ("s3://b", "lake", "sales", "")),
        ("s3://b/lake/sales/x.parquet", False, ("s3://b", "lake", "sales", "x.parquet")),
        ("s3://b/lake/sales/year=2024/month=1/", True, ("s3://b", "lake", "sales/year=2024/month=1", "")),
        ("s3://b/sales/", True, ("s3://b", "", "sales", "")),
        ("s3://b/x.parquet", False, ("s3://b", "", "", "x.parquet")),
        ("s3://b/", True, ("s3://b", "", "", "")),
        ("gs://b/a/b/c", False, ("gs://b", "a", "b", "c")),
    ],
)
def test_staged_files_lie_beside_what_a_reader_of_the_target_reads(
    target: str, many: bool, place: tuple[str, str, str, str]
) -> None:
    found = place_of(target, many=many, mkdir=False)
    assert (found.store, found.base, found.folder, found.name) == place
    assert not found.local


def test_on_a_disk_they_lie_beside_too(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    file = place_of(f"{tmp_path}/lake/x.parquet", many=False, mkdir=False)
    assert (file.store, file.base, file.folder, file.name) == (str(tmp_path), "", "lake", "x.parquet")
    assert file.local
    deep = place_of(f"file://{tmp_path}/new/er/year=2024/", many=True, mkdir=False)
    assert (deep.store, deep.base, deep.folder) == (str(tmp_path), "new", "er/year=2024")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a folder that is a file system of its own")
def test_a_folder_that_is_a_file_system_of_its_own_keeps_its_staged_files() -> None:
    place = place_of("/dev/shm/x.parquet", many=False, mkdir=False)
    assert (place.store, place.base, place.folder) == ("/dev/shm", "", "")


@pytest.mark.parametrize(
    ("target", "many", "mkdir", "exception"),
    [
        ("missing/x.parquet", False, False, "FileNotFoundError"),
        ("file/x.parquet", False, False, "NotADirectoryError"),
        ("file/x/y.parquet", False, True, "NotADirectoryError"),
        ("file/", True, False, "NotADirectoryError"),
        ("folder", False, False, "IsADirectoryError"),
    ],
)
def test_a_target_that_can_not_be_is_refused_with_the_exception_of_polars(
    tmp_path: Path, target: str, many: bool, mkdir: bool, exception: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(QueryError) as caught:
        place_of(f"{tmp_path}/{target}", many=many, mkdir=mkdir)
    assert issubclass(getattr(builtins, caught.value.exception), getattr(builtins, exception))
    assert target in caught.value.message


def test_a_folder_that_a_file_is_in_the_place_of_exists_already(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QueryError) as caught:
        place_of(f"{tmp_path}/file/x.parquet", many=False, mkdir=True)
    with pytest.raises(FileExistsError):
        pl.LazyFrame({"a": [1]}).sink_parquet(tmp_path / "file" / "x.parquet", mkdir=True)
    assert caught.value.exception == "FileExistsError"


@pytest.mark.parametrize("target", ["folder/x.parquet", "folder/", "locked.parquet"])
def test_a_target_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked.parquet").touch()
    refused = [tmp_path / "folder", tmp_path / "locked.parquet"]
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in refused)  # tests may run as root
    with pytest.raises(QueryError) as caught:
        place_of(f"{tmp_path}/{target}", many=target.endswith("/"), mkdir=False)
    assert caught.value.exception == "PermissionError"


def test_devices_and_buckets_are_no_files() -> None:
    for target in ("/dev/null", "s3://bucket", "s3://bucket/"):
        with pytest.raises(PlanError, match=r"regular file|names no file"):
            place_of(target, many=False, mkdir=False)
