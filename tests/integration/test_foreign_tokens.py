"""``frazil serve`` with tokens that an issuer signs or a Kubernetes cluster vouches for: the command, in processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl

from support.answering import Answer, Asked, Server, answering
from support.authority import Authority
from support.issuing import Clock, Issuing, key

FRAZIL = str(Path(sys.executable).with_name("frazil"))
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAZIL_")}
    return {**inherited, "COLUMNS": "200"}


def cluster_of(server: Server, known: str) -> None:
    """Answer as an API server that knows one service account."""

    def review(asked: Asked) -> Answer:
        good = json.loads(asked.body)["spec"]["token"] == known
        user = {"username": "system:serviceaccount:etl:runner", "groups": ["system:serviceaccounts:etl"]}
        status = {"authenticated": True, "user": user, "audiences": ["frazil"]} if good else {"authenticated": False}
        return Answer(status=201, body={"kind": "TokenReview", "status": status})

    server.answers[REVIEWS] = review


@contextmanager
def served(folder: Path, file: Path) -> Iterator[str]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [FRAZIL, "serve", "--port=0", "--max-functions=1", "--log-level=debug", "--tenants", str(file)],
            cwd=folder, env=environment(), stderr=log, text=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(r"coordinator at (http://\S+)", (folder / "log").read_text())) is None:
            assert time.monotonic() < deadline
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_served_coordinator_takes_both_and_logs_neither(tmp_path: Path) -> None:
    pl.DataFrame({"k": [1, 2, 3]}).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "p.sql").write_text("SELECT sum(k) AS k FROM t")
    with answering() as server:
        issuing = Issuing(server, Clock(time.time()))
        issuing.publish(key("first", "ES256"))
        signed = issuing.token(key("first", "ES256"))
        of_cluster = issuing.token(key("cluster"), iss="https://cluster")
        cluster_of(server, of_cluster)
        (tmp_path / "token").write_text("own")
        (tmp_path / "ca.crt").write_text(Authority().pem)
        file = tmp_path / "tenants.toml"
        file.write_text(
            f"""
            [tenants.blue]
            [tenants.red]
            [[issuers]]
            issuer = "{issuing.issuer}"
            audience = "frazil"
            algorithms = ["ES256"]
            tenant_claim = "team"
            role = "submit"
            [kubernetes]
            audiences = ["frazil"]
            api_url = "{server.url}"
            token_file = "{tmp_path}/token"
            ca_file = "{tmp_path}/ca.crt"
            [[kubernetes.bindings]]
            service_account = "etl:runner"
            tenant = "red"
            role = "submit"
            """
        )
        with served(tmp_path, file) as url:
            for token, tenant in ((signed, "blue"), (of_cluster, "red")):
                done = subprocess.run(
                    [FRAZIL, "run", "p.sql", "--table=t=t.parquet", "--format=csv", "--url", url, "--token", token],
                    cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120,
                )  # fmt: skip
                assert (done.returncode, done.stdout) == (0, "k\n6\n"), done.stderr
                listed = httpx.get(f"{url}/v1/queries", headers={"Authorization": f"Bearer {token}"}).json()
                assert [one["tenant"] for one in listed] == [tenant]
            assert httpx.get(f"{url}/v1/queries").status_code == 401
            changed = signed[:-8] + ("AAAAAAAA" if signed[-8:] != "AAAAAAAA" else "BBBBBBBB")
            assert httpx.get(f"{url}/v1/queries", headers={"Authorization": f"Bearer {changed}"}).status_code == 401
        logged = (tmp_path / "log").read_text()
        assert server.count(REVIEWS) == 1
        assert "DEBUG" in logged
        assert not [part for token in (signed, of_cluster) for part in token.split(".")[1:] if part in logged]
