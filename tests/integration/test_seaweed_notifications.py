"""SeaweedFS tells of its objects by its own webhook, and a trigger on its buckets runs: nothing stands between them."""

from __future__ import annotations

import io
from base64 import b64encode
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil._serialize import serialize
from frazil_coordinator.settings import Settings
from support.notifying import run_notifying_seaweed
from support.polling import eventually
from support.seaweed import SeaweedFS
from support.serving import TOKEN, serving

GOLDEN = Path(__file__).parents[1] / "golden" / "notifications"
TOLD = {
    "aws-s3": "in/day=1/a b+c-ü.parquet",
    "minio": "in/day=1/a b+c-ü.parquet",
    "aws-sns": "in/a b.parquet",
    "aws-eventbridge": "in/a b+c.parquet",
    "gcs-pubsub": "in/a b+c.parquet",
    "gcs-object": "in/a b+c.parquet",
    "ceph": "in/a+b.parquet",
}
"""Which object of the bucket ``lake`` each real notification tells of."""


def _put(server: SeaweedFS, key: str, *values: int) -> None:
    data = io.BytesIO()
    pl.DataFrame({"v": values}).write_parquet(data)
    server.put("lake", key, data.getvalue())


def _rows(server: SeaweedFS) -> list[int]:
    options = server.storage_options
    keys = server.keys("lake", "out/")
    return sorted(v for key in keys for v in pl.read_parquet(f"s3://lake/{key}", storage_options=options)["v"])


def _make(http: httpx.Client, query: pl.LazyFrame) -> None:
    body = {
        "source": "s3://lake/in/",
        "suffix": ".parquet",
        "plan": b64encode(serialize(query, max_plan_bytes=10**7)).decode(),
        "sink": "s3://lake/out/",
        "list_every_s": 86_400.0,
    }
    made = http.put("/v1/triggers/t", json=body)
    assert made.status_code == 201, made.text


def test_notifications_of_every_form_name_objects_that_are_found(tmp_path: Path, seaweed: SeaweedFS) -> None:
    (tmp_path / "store").mkdir()
    with (
        serving(tmp_path / "store", Settings()) as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30.0) as http,
    ):
        _put(seaweed, "in/first.parquet", -1)
        _make(http, pl.scan_parquet("s3://lake/in/**/*.parquet", storage_options=seaweed.storage_options))
        eventually(lambda: _rows(seaweed) == [-1], "the first one is there")
        for number, (form, key) in enumerate(TOLD.items()):
            _put(seaweed, key, number)  # other bytes each time: another object
            answer = http.post("/ingest/s3", content=(GOLDEN / f"{form}.json").read_bytes())
            assert (answer.status_code, answer.json()["concerned"] > 0) == (202, True), form
            eventually(lambda: _rows(seaweed) == list(range(-1, number + 1)), form)  # noqa: B023  # in this turn


def test_objects_of_seaweedfs_reach_a_trigger_by_its_own_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    with (
        serving(tmp_path / "store", Settings()) as url,
        run_notifying_seaweed(tmp_path, f"{url}/ingest/s3", TOKEN, monkeypatch) as server,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30.0) as http,
    ):
        _put(server, "in/old.parquet", 1)
        query = pl.scan_parquet("s3://lake/in/**/*.parquet", storage_options=server.storage_options)
        _make(http, query)
        eventually(lambda: _rows(server) == [1], "the old one is there")
        _put(server, "in/day=1/a b+c ü.parquet", 2, 3)
        _put(server, "in/other.csv", 4)
        eventually(lambda: _rows(server) == [1, 2, 3], "the new one came by notification")
        status = http.get("/v1/triggers/t").json()["status"]
        assert (status["objects"], status["windows"]) == (2, 2)
        text = http.get("/metrics").text
        assert 'frazil_trigger_objects_found_total{by="notification"} 1.0' in text
        assert 'frazil_notifications_total{concerned="yes",form="seaweedfs"} ' in text
        assert not [key for key in server.keys("lake") if ".frazil-triggers" in key]
        secret = server.secret_key.encode()
        assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file() and secret in path.read_bytes()]
