"""A real S3 server on loopback: SeaweedFS in one process, with credentials and a folder for its data."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_ports, program, run_process, wait_until_healthy

__all__ = ["Seaweed", "run_seaweed"]

_REGION = "us-east-1"
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seaweed:
    """A running server."""

    endpoint: str
    """``http://127.0.0.1:<port>``."""

    access_key: str
    secret_key: str
    pid: int
    iceberg: str | None = None
    """URL of its Iceberg REST catalog, where it was asked for; its credential is ``<access key>:<secret key>``."""

    @property
    def storage_options(self) -> dict[str, str]:
        """What Polars, obstore and Frazil take as ``storage_options``."""
        return {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_region": _REGION,
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true",
        }


@contextlib.contextmanager
def run_seaweed(
    folder: Path,
    *,
    access_key: str,
    secret_key: str,
    buckets: Sequence[str] = (),
    log: Path | None = None,
    iceberg: bool = False,
) -> Iterator[Seaweed]:
    """Run a server while the context lasts.

    Parameters
    ----------
    folder
        Empty folder for its data.
    access_key, secret_key
        The only credentials that it accepts.
    buckets
        Buckets that it makes at start. A bucket is also made by the first upload to it.
    log
        File for its output; by default ``weed.log`` in `folder`.
    iceberg
        Whether it serves its catalog of Iceberg tables, too.

    Raises
    ------
    ProcessError
        When it is not installed or does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / "s3.json", log or folder / "weed.log"
    identity = {"name": "owner", "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": _ACTIONS}
    config.write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(11)
    endpoint = f"http://127.0.0.1:{ports[0]}"
    with tempfile.TemporaryDirectory(prefix="weed-") as sockets:  # the path of a socket may have 100 bytes
        command = _command(folder, config, Path(sockets) / "s3.sock", ports[:-1], buckets)
        # At a port that is given: two servers that start at once would choose the same one.
        command += [f"-s3.port.iceberg={ports[-1] if iceberg else 0}"]
        with run_process(command, log=log, grace_s=1.0) as process:
            wait_until_healthy(f"{endpoint}/healthz", name="SeaweedFS", process=process, log=log)
            catalog = f"http://127.0.0.1:{ports[-1]}" if iceberg else None
            if catalog is not None:
                wait_until_healthy(f"{catalog}/v1/config", name="SeaweedFS's catalog", process=process, log=log)
            yield Seaweed(endpoint=endpoint, access_key=access_key, secret_key=secret_key, pid=process.pid, iceberg=catalog)


def _command(folder: Path, config: Path, socket: Path, ports: Sequence[int], buckets: Sequence[str]) -> list[str]:
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    numbered = dict(zip((*names, *(f"{name}.grpc" for name in names), "admin.port", "admin.port.grpc"), ports, strict=True))
    return [
        program("weed"),
        "mini",
        f"-dir={folder}",
        f"-bucket={','.join(buckets)}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        f"-s3.localSocket={socket}",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.lance=0",
        *(f"-{name}={port}" for name, port in numbered.items()),
    ]
