"""Two tenants of one coordinator, over real HTTP: what each may see, ask for and run."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest

import frazil
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus, decode_status, decode_statuses
from frazil_coordinator.tenancy import read_tenants
from frazil_coordinator.tenancy.model import digest_of
from frazil_functions.errors import RequestError
from support.parity import assert_same
from support.polling import eventually
from support.serving import serving

TOKENS = {"root": ("blue", "admin"), "blue": ("blue", "submit"), "reader": ("blue", "read"), "red": ("red", "submit")}


@dataclass
class Shared:
    """A coordinator, and a client for each of its tokens."""

    url: str
    clients: Mapping[str, httpx.Client]
    blue: Path
    """The one folder of tenant blue."""

    red: Path

    def submit(self, who: str, lf: pl.LazyFrame, **params: str) -> httpx.Response:
        return self.clients[who].post("/v1/queries", content=lf.serialize(), params=params)

    def accepted(self, who: str, lf: pl.LazyFrame, **params: str) -> str:
        response = self.submit(who, lf, **params)
        assert response.status_code == 202, response.text
        return decode_status(response.content).id

    def status(self, who: str, query: str) -> QueryStatus:
        return decode_status(self.clients[who].get(f"/v1/queries/{query}").content)

    def ended(self, who: str, query: str) -> QueryStatus:
        return decode_status(self.clients[who].get(f"/v1/queries/{query}", params={"wait_s": 60}).content)

    def listed(self, who: str, **params: str) -> set[str]:
        return {one.id for one in decode_statuses(self.clients[who].get("/v1/queries", params=params).content)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    home = tmp_path_factory.mktemp("tenants")
    blue, red = home / "blue", home / "red"
    for folder in (blue, red):
        folder.mkdir()
        pl.DataFrame({"key": range(8_000)}).write_parquet(folder / "t.parquet")
    file = home / "tenants.toml"
    file.write_text(
        f"""
        [tenants.blue]
        highest_priority = 3
        max_running_queries = 1
        max_queued_queries = 1
        allowed_prefixes = ["{blue}"]
        [tenants.red]
        """
        + "".join(
            f'[[tokens]]\nsha256 = "{digest_of(token)}"\ntenant = "{tenant}"\nrole = "{role}"\n'
            for token, (tenant, role) in TOKENS.items()
        )
    )
    settings = Settings(start_small=False, max_rows_per_split=4, inline_limit_bytes=0, allow_udfs=True)
    with ExitStack() as stack:
        url = stack.enter_context(serving(home / "exchange", settings, read_tenants(file)))
        clients = {
            token: stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=90))
            for token in TOKENS
        }
        yield Shared(url, clients, blue, red)


def short(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "t.parquet").head(8).group_by(pl.col("key") % 2).len().sort("key")


def long(folder: Path) -> pl.LazyFrame:
    """A query of thousands of tasks."""
    return pl.scan_parquet(folder / "t.parquet").group_by(pl.col("key") % 7).len()


def test_a_tenant_runs_its_query_and_sees_only_its_own(shared: Shared) -> None:
    mine, theirs = shared.accepted("blue", short(shared.blue)), shared.accepted("red", short(shared.red))
    assert (shared.ended("blue", mine).state, shared.ended("red", theirs).state) == (QueryState.SUCCEEDED,) * 2
    assert shared.status("blue", mine).tenant == "blue"
    result = shared.clients["reader"].get(f"/v1/queries/{mine}/result")
    assert_same(pl.read_ipc_stream(io.BytesIO(result.content)), short(shared.blue).collect(), ordered=True)
    for who in ("blue", "reader"):
        assert mine in shared.listed(who)
        assert theirs not in shared.listed(who) | shared.listed(who, tenant="red")
    assert {mine, theirs} <= shared.listed("root")
    assert theirs in shared.listed("root", tenant="red")
    assert mine not in shared.listed("root", tenant="red")
    assert shared.status("root", theirs).tenant == "red"


@pytest.mark.parametrize("path", ["", "/plan", "/profile", "/events", "/result", "?wait_s=1", "DELETE"])
def test_a_query_of_another_tenant_is_like_one_that_is_not_there(shared: Shared, path: str) -> None:
    theirs = shared.accepted("red", short(shared.red))
    shared.ended("red", theirs)
    answers = []
    for query in (theirs, "0" * len(theirs)):
        url = f"/v1/queries/{query}"
        answer = shared.clients["blue"].delete(url) if path == "DELETE" else shared.clients["blue"].get(url + path)
        answers.append((answer.status_code, answer.text.replace(query, "ID"), dict(answer.headers) | {"date": ""}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_a_role_that_reads_can_change_nothing(shared: Shared) -> None:
    mine = shared.accepted("blue", short(shared.blue))
    for answer in (
        shared.submit("reader", short(shared.blue)),
        shared.clients["reader"].post("/v1/explain", content=short(shared.blue).serialize()),
        shared.clients["reader"].delete(f"/v1/queries/{mine}"),
    ):
        assert answer.status_code == 403
        assert "role read may only GET" in answer.json()["detail"]
    assert shared.ended("reader", mine).state is QueryState.SUCCEEDED


def test_keys_of_submissions_are_each_tenant_s_own(shared: Shared) -> None:
    def submit(who: str, folder: Path) -> str:
        answer = shared.clients[who].post(
            "/v1/queries", content=short(folder).serialize(), headers={"Idempotency-Key": "nightly"}
        )
        assert answer.status_code == 202, answer.text
        return decode_status(answer.content).id

    mine, theirs = submit("blue", shared.blue), submit("red", shared.red)
    assert mine != theirs
    assert submit("blue", shared.blue) == mine
    shared.ended("blue", mine)


def test_a_priority_above_the_tenant_s_is_refused_and_one_below_is_kept(shared: Shared) -> None:
    refused = shared.submit("blue", short(shared.blue), priority="4")
    assert (refused.status_code, "above the 3 that tenant 'blue'" in refused.json()["detail"]) == (403, True)
    assert shared.submit("blue", short(shared.blue), priority="11").status_code == 400
    assert shared.ended("blue", shared.accepted("blue", short(shared.blue), priority="3")).priority == 3
    with frazil.connect(shared.url, token="red") as engine:
        query = engine.submit(short(shared.red), priority=-7)
        assert query.wait().priority == -7


def test_a_query_over_the_quota_waits_and_one_over_the_queue_is_refused(shared: Shared) -> None:
    running = shared.accepted("blue", long(shared.blue))
    waiting = shared.accepted("blue", short(shared.blue))
    try:
        status = shared.status("blue", waiting)
        assert status.state is QueryState.QUEUED
        assert status.waits_for == "a turn: tenant 'blue' may run 1 queries at once, and 0 wait before this one"
        before = shared.listed("root")
        refused = shared.submit("blue", short(shared.blue))
        assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)
        assert shared.listed("root") == before
        other = shared.accepted("red", short(shared.red))
        assert shared.ended("red", other).state is QueryState.SUCCEEDED
    finally:
        shared.clients["blue"].delete(f"/v1/queries/{running}")
    ended = shared.ended("blue", waiting)
    assert (ended.state, ended.waits_for) == (QueryState.SUCCEEDED, "")


@pytest.mark.parametrize("place", ["{red}/t.parquet", "{blue}/../red/t.parquet", "file://{blue}/%2e%2e/red/t.parquet"])
def test_a_path_outside_of_the_tenant_s_folders_is_refused(shared: Shared, place: str) -> None:
    path = place.format(blue=shared.blue, red=shared.red)
    lf = pl.scan_parquet(path, schema={"key": pl.Int64})
    for answer in (
        shared.submit("blue", lf),
        shared.submit("blue", lf, dry_run="true"),
        shared.clients["blue"].post("/v1/explain", content=lf.serialize()),
    ):
        assert answer.status_code == 403
        assert path in answer.json()["detail"]
        assert str(shared.blue) in answer.json()["detail"]


def test_a_sink_outside_of_the_tenant_s_folders_is_refused_and_one_inside_is_written(shared: Shared) -> None:
    with frazil.connect(shared.url, token="blue") as engine:
        with pytest.raises(RequestError, match="may read and write below"):
            short(shared.blue).sink_parquet(shared.red / "stolen.parquet", engine=engine)
        assert not (shared.red / "stolen.parquet").exists()
        short(shared.blue).sink_parquet(shared.blue / "own.parquet", engine=engine)
    assert_same(pl.read_parquet(shared.blue / "own.parquet"), short(shared.blue).collect(), ordered=True)


def test_a_tenant_without_the_right_gets_no_python_functions_where_the_coordinator_allows_them(shared: Shared) -> None:
    lf = pl.scan_parquet(shared.red / "t.parquet").select(pl.col("key").map_batches(lambda s: s))
    ended = shared.ended("red", shared.accepted("red", lf))
    assert ended.error is not None
    assert ended.error.kind == "plan_python"


def test_the_queue_is_empty_at_the_end(shared: Shared) -> None:
    eventually(lambda: all(shared.status("root", one).state.ended for one in shared.listed("root")), "all have ended")
