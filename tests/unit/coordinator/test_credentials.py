"""Credentials in a plan are in no object that is not sealed, however large the part of the plan that holds them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.plan.credentials import holds_credentials
from frazil_coordinator.settings import Settings
from frazil_functions.errors import SourceError
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import TaskRequest
from support.fragments import FragmentPlatform, plan_in_stages

OPTIONS = {"aws_secret_access_key": "hunter2", "aws_access_key_id": "me", "aws_region": "x"}


def scan(options: dict[str, str] | None) -> pl.LazyFrame:
    return pl.scan_parquet("s3://lake/x", schema={"a": pl.Int64}, storage_options=options, credential_provider=None)


async def test_a_large_fragment_with_credentials_is_never_in_the_store(tmp_path: Path) -> None:
    async def refuse(request: TaskRequest) -> None:
        raise SourceError("seen enough")

    store = CountingStore(FolderStore(tmp_path))
    platform = FragmentPlatform(store, before=refuse)
    coordinator = Coordinator(
        settings=Settings(), platform=platform, store=store, planner=plan_in_stages(1), sweep_after_s=()
    )
    plan = pl.concat([pl.LazyFrame({"a": range(100_000)}), scan(OPTIONS)]).serialize()
    await coordinator.wait((await coordinator.submit(plan)).id)
    assert [b"hunter2" in request.fragment for request in platform.requests] == [True]
    assert platform.requests[0].fragment_key is None
    assert not store.requests.get("put")
    await coordinator.aclose()


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        (OPTIONS, True),
        ({"aws_session_token": "hunter2"}, True),
        ({"azure_storage_sas_key": "hunter2"}, False),  # of another store than the path's: polars leaves it out
        ({"aws_region": "x", "aws_endpoint_url": "https://s3.example", "aws_skip_signature": "true"}, False),
        (None, False),
    ],
)
def test_credentials_are_told_by_the_names_of_their_options(options: dict[str, str] | None, holds: bool) -> None:
    assert holds_credentials(scan(options).filter(pl.col("a") > 1).serialize()) is holds
