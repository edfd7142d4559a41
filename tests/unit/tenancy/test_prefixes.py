"""Which paths lie below a tenant's folders."""

from __future__ import annotations

import pytest

from frazil_coordinator.tenancy.prefixes import check_prefix, lies_below
from frazil_functions.errors import RequestError

FOLDERS = ("s3://lake/a/", "/data/a", "s3://lake/with%20space/")


@pytest.mark.parametrize(
    "path",
    [
        "s3://lake/a/x.parquet",
        "S3://lake/a/x.parquet",
        "s3://lake/a/",
        "s3://lake/a",
        "s3://lake/a/**/*.parquet",
        "s3://lake/a/year=2024/x..y.parquet",
        "s3://lake/a/100%25.parquet",
        "s3://lake/a/50%.parquet",
        "s3://lake/with%20space/x",
        "s3://lake/with space/x",
        "/data/a/x.parquet",
        "/data/a/*.parquet",
        "/data/a/.hidden/x",
        "file:///data/a/x.parquet",
        "file:/data/a/x.parquet",
        "FILE:///data/a/x.parquet",
    ],
)
def test_a_path_below_a_folder_is_allowed(path: str) -> None:
    assert lies_below(path, FOLDERS)


@pytest.mark.parametrize(
    "path",
    [
        "s3://lake/ab/x.parquet",
        "s3://lake/b/x.parquet",
        "s3://lake/A/x.parquet",
        "s3://lake//a/x.parquet",
        "s3://lake/a*/x.parquet",
        "s3://lake/a/../b/x.parquet",
        "s3://lake/a/%2e%2e/b/x.parquet",
        "s3://lake/a/%2E./b/x.parquet",
        "s3://lake/a/%252e%252e/b/x.parquet",
        "s3://lake/a/..%2fb/x.parquet",
        "s3://lake/a%2f..%2fb/x.parquet",
        "s3://lake/a/%25252525252e",
        "s3://lake/a/./x",
        "s3://lake/a/..",
        "s3://lake/a/..\\b",
        "s3://lake/a/\0",
        "gs://lake/a/x.parquet",
        "https://lake/a/x.parquet",
        "s3:lake/a/x.parquet",
        "a/x.parquet",
        "data/a/x.parquet",
        "~/data/a/x",
        "",
        "/data/ab",
        "/data/a/../b",
        "/data/a/.*/secret",
        "/data/a/.?/secret",
        "/data/a/.[.]/secret",
        "/data/*/x",
        "/",
        "file:data/a/x",
        "file://data/a/x",
        "file://localhost/data/a/x",
        "file:///data/a/%2e%2e/b",
        "file:///data/b",
    ],
)
def test_a_path_that_may_lie_elsewhere_is_refused(path: str) -> None:
    assert not lies_below(path, FOLDERS)


def test_below_no_folder_lies_nothing() -> None:
    assert not lies_below("s3://lake/a", ())
    assert not lies_below("/", ())


def test_the_root_holds_every_local_path_and_no_url() -> None:
    assert lies_below("/etc/passwd", ("/",))
    assert lies_below("file:///etc/passwd", ("file:///",))
    assert not lies_below("s3://lake/a", ("/",))


@pytest.mark.parametrize("prefix", ["", "a/b", "~/a", "s3://", "s3:lake", "s3://lake/*/", "/data/../etc", "file:a", "/a\\b"])
def test_what_is_no_folder_is_no_prefix(prefix: str) -> None:
    with pytest.raises(RequestError, match="is no folder"):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["/", "/data/a", "s3://lake", "s3://lake/a/", "file:///data/a"])
def test_a_folder_is_a_prefix(prefix: str) -> None:
    check_prefix(prefix)
