"""Quotas of a day over real HTTP: 429 with the time to wait, before anything is read."""

from __future__ import annotations

from pathlib import Path

import httpx
import polars as pl

import frazil
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, decode_status
from frazil_coordinator.tenancy import Tenants, Token, read_tenants
from support.serving import serving


def tenants(home: Path, quota: str) -> Tenants:
    file = home / "tenants.toml"
    file.write_text(f'[tenants.a]\n{quota}\n[[tokens]]\nsha256 = "{Token.of("t").sha256}"\ntenant = "a"\nrole = "submit"\n')
    return read_tenants(file)


def refused(answer: httpx.Response) -> bool:
    assert answer.status_code == 429, answer.text
    assert answer.json()["kind"] == "quota"
    assert "next day" in answer.json()["detail"]
    return 0 < int(answer.headers["retry-after"]) <= 86_400


def test_a_query_that_would_scan_more_than_is_left_of_the_day_is_refused_before_it_reads(tmp_path: Path) -> None:
    pl.DataFrame({"k": range(50_000)}).write_parquet(tmp_path / "t.parquet")
    lf = pl.scan_parquet(tmp_path / "t.parquet").select(pl.col("k").sum())
    with frazil.local(1) as engine:
        need = int(str(engine.submit(lf).wait() and engine.last_query and engine.last_query.profile()["bytes_scanned"]))
    shared = tenants(tmp_path, f"max_bytes_scanned_per_day = {need * 3 // 2}")
    headers = {"Authorization": "Bearer t"}
    with (
        serving(tmp_path / "x", Settings(), shared) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):

        def submit(**params: str) -> httpx.Response:
            return client.post("/v1/queries", content=lf.serialize(), params=params)

        first = decode_status(submit().content)
        ended = decode_status(client.get(f"/v1/queries/{first.id}", params={"wait_s": 60}).content)
        assert ended.state is QueryState.SUCCEEDED
        second = decode_status(submit().content)
        ended = decode_status(client.get(f"/v1/queries/{second.id}", params={"wait_s": 60}).content)
        assert ended.state is QueryState.FAILED
        assert client.get(f"/v1/queries/{second.id}/profile").json()["stages"] == []
        assert refused(client.get(f"/v1/queries/{second.id}/result"))
        assert refused(submit(dry_run="true"))
