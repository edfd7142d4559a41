"""``kill -9`` of a coordinator right before and right after the commit of a window: each object is in the output once."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import httpx
import polars as pl
import pytest

from support.mortal import TOKEN, When, mortal_coordinator
from support.polling import eventually
from support.processes import free_ports


def _write(folder: Path, name: str, *values: int) -> None:
    pl.DataFrame({"v": values}).write_parquet(folder / "half")
    (folder / "half").replace(folder / "in" / name)


def _rows(folder: Path) -> list[int]:
    return sorted(value for path in (folder / "out").glob("*.parquet") for value in pl.read_parquet(path)["v"])


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_a_coordinator_that_is_killed_at_a_commit_neither_loses_nor_doubles_an_object(tmp_path: Path, when: When) -> None:
    (tmp_path / "in").mkdir()
    (port,) = free_ports(1)
    log, store = tmp_path / "log", tmp_path / "store"
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30.0
    ) as http:
        with mortal_coordinator(store, port, {}, log, number=1, when=when, part="/commits/") as process:
            eventually(lambda: http.get("/readyz").is_success, "it leads", within_s=60.0)
            _write(tmp_path, "a.parquet", 1)
            plan = pl.scan_parquet(f"{tmp_path}/in/*.parquet").serialize()
            body = {"source": f"{tmp_path}/in/", "plan": b64encode(plan).decode(), "sink": f"{tmp_path}/out/"}
            assert http.put("/v1/triggers/t", json=body).status_code == 201
            eventually(lambda: _rows(tmp_path) == [1], "the first window", within_s=60.0)
            _write(tmp_path, "b.parquet", 2, 3)
            assert http.post("/v1/triggers/t/run").status_code == 202
            process.wait(60)
            assert process.returncode == -9
            assert _rows(tmp_path) == [1]  # also of what is committed, the files have no names yet
        with mortal_coordinator(store, port, {}, log):
            _write(tmp_path, "c.parquet", 4)
            eventually(lambda: _rows(tmp_path) == [1, 2, 3, 4], "all are there", within_s=60.0)
            status = http.get("/v1/triggers/t").json()["status"]
            assert (status["objects"], status["dead_letters"]) == (3, 0)
            eventually(lambda: not list(tmp_path.glob(".frazil-triggers/*/*")), "nothing is left of attempts", within_s=60.0)
