"""Reuse over HTTP: asked for by query, by session and by the command, told by profile and metrics, apart by tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

import frazil
from support.parity import assert_same
from support.serving import TOKEN, serving

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/vnd.frazil.plan"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("exchange"), frazil.Settings()) as address:
        yield address


@pytest.fixture
def query(tmp_path: Path) -> pl.LazyFrame:
    for part in range(3):
        pl.DataFrame({"k": [part, 7], "v": [1.0, 2.0]}).write_parquet(tmp_path / f"{part}.parquet")
    return pl.scan_parquet(tmp_path / "*.parquet").group_by("k").agg(pl.col("v").sum()).sort("k")


def test_a_query_says_what_it_reuses(url: str, query: pl.LazyFrame) -> None:
    with httpx.Client(base_url=url, headers=HEADERS, timeout=90) as client:

        def run(settings: object = None, **params: str) -> dict[str, Any]:
            headers = {} if settings is None else {"Frazil-Settings": json.dumps(settings)}
            answer = client.post("/v1/queries", content=query.serialize(), params=params, headers=headers)
            assert answer.status_code == 202, answer.text
            place = answer.headers["location"]
            assert client.get(place, params={"wait_s": 60}).json()["state"] == "succeeded"
            return dict(client.get(f"{place}/profile").json())

        assert run()["stages"][0]["tasks"] == 1, "off by default: small queries are one task"
        assert run(reuse="tasks")["stages"][0]["reused"] == 0
        assert run({"reuse": "tasks"})["stages"][0]["reused"] == 3
        first = run(reuse="result")
        assert run(reuse="result", max_age_s="60")["result_of"] == first["query"]
        assert "result_of" not in run(reuse="result", max_age_s="0")
        assert "result_of" not in run({"reuse": "result"}, reuse="tasks"), "the parameter stands above the setting"
        refused = client.post("/v1/queries", content=query.serialize(), params={"reuse": "yes"})
        assert refused.status_code in (400, 422)
        assert "reuse" in refused.text
        refused = client.post("/v1/queries", content=query.serialize(), headers={"Frazil-Settings": '{"reuse_ttl_s": 1}'})
        assert refused.status_code == 400
        metrics = client.get("/metrics").text
    counted = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if line.startswith("frazil_")}
    assert counted['frazil_reused_tasks_total{kind="group_by"}'] >= 6
    assert counted["frazil_reused_scan_bytes_total"] > 0
    assert counted["frazil_reused_results_total"] == 1
    assert counted["frazil_kept_answers_total"] >= 3


def test_a_client_says_for_all_its_queries_or_for_one_what_they_reuse(url: str, query: pl.LazyFrame) -> None:
    with frazil.connect(url, token=TOKEN, settings=frazil.Settings(reuse="tasks")) as engine:
        assert_same(query.collect(engine=engine), query.collect(), ordered=True)
        again = engine.submit(query)
        assert_same(again.result(), query.collect(), ordered=True)
        profile: Any = again.profile()
        assert sum(stage["attempts"] for stage in profile["stages"]) == 0
        fresh = engine.submit(query, reuse="off")
        assert_same(fresh.result(), query.collect(), ordered=True)
        profile = fresh.profile()
        assert [(stage["attempts"], stage["reused"]) for stage in profile["stages"]] == [(1, 0)]
        earlier = engine.submit(query, reuse="result")
        earlier.result()
        latest = engine.submit(query, reuse="result", max_age_s=600.0)
        assert_same(latest.result(), query.collect(), ordered=True)
        assert latest.profile()["result_of"] == earlier.id
