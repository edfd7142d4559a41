"""``frazil serve --platform knative`` as a process, with the environment of a pod, and a function process behind its URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

import frazil
from frazil_coordinator.platform.knative.scaler import Scaler
from support.functions import KEY, Function, function_process, slow_plan
from support.kube_api import KubeApi, kube_api
from support.kube_world import COORDINATOR, client_of, function_service_object, min_scale
from support.parity import assert_same
from support.polling import eventually

FRAZIL = str(Path(sys.executable).parent / "frazil")
TOKEN = "secret-of-the-test"


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAZIL_")}
    return {**inherited, "RUST_BACKTRACE": "0", "COLUMNS": "200", **more}


@contextlib.contextmanager
def serve(folder: Path, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a coordinator; give its URL and its process."""
    process = subprocess.Popen(
        [FRAZIL, "serve", "--platform", "knative"], cwd=folder, env=environment(**env), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not (found := re.search(r"frazil coordinator at (http://\S+)", "".join(lines))):
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        yield found[1], process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Function]:
    with function_process(tmp_path, env={"POLARS_MAX_THREADS": "1"}) as function:
        yield function


def pod(folder: Path, function: Function) -> dict[str, str]:
    """Return what knative/base gives the coordinator, with a secret made from a file: it ends in a newline."""
    return {
        "FRAZIL_HOST": "127.0.0.1",
        "PORT": "0",
        "FRAZIL_FUNCTION_URL": f"http://127.0.0.1:{function.port}/",
        "FRAZIL_STORE_URL": str(folder / "store"),
        "FRAZIL_TASK_KEYS": f"{KEY}\n",
        "FRAZIL_JOURNAL_KEYS": "a secret of thirty-two characters\n",
        "FRAZIL_TOKEN": TOKEN,
        "FRAZIL_MAX_IN_FLIGHT": "1",
        "FRAZIL_LOG_LEVEL": "info",
    }


def table(folder: Path) -> pl.LazyFrame:
    frame = pl.DataFrame({"k": [value % 3 for value in range(24)], "v": range(24)})
    frame.write_parquet(folder / "t.parquet")
    return pl.scan_parquet(folder / "t.parquet")


def test_a_query_runs_on_the_function_behind_the_url_with_the_settings_of_the_environment(
    tmp_path: Path, function: Function
) -> None:
    knobs = {"FRAZIL_START_SMALL": "false", "FRAZIL_MAX_ROWS_PER_SPLIT": "4", "FRAZIL_SHUFFLE_PARTITIONS": "3"}
    lf = table(tmp_path).group_by("k").agg(pl.col("v").sum()).sort("k")
    with serve(tmp_path, **pod(tmp_path, function), **knobs) as (url, process):
        with frazil.connect(url, token=TOKEN) as engine:
            query = engine.submit(lf)
            assert_same(query.result(), lf.collect(), ordered=True)
            tasks = [stage.tasks for stage in query.progress()]
        assert tasks[0] == 6  # 24 rows, 4 a split
        assert 3 in tasks
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list(function.store.list("exchange")) == []
    assert list(function.store.list("journal")), "the next coordinator knows the query"


def test_the_bytes_of_a_split_are_a_setting_of_the_environment(tmp_path: Path, function: Function) -> None:
    knobs = {"FRAZIL_START_SMALL": "false", "FRAZIL_SPLIT_TARGET_BYTES": "8"}
    pl.DataFrame({"v": range(24)}).write_parquet(tmp_path / "t.parquet", row_group_size=6)
    with (
        serve(tmp_path, **pod(tmp_path, function), **knobs) as (url, _),
        frazil.connect(url, token=TOKEN) as engine,
    ):
        query = engine.submit(pl.scan_parquet(tmp_path / "t.parquet").filter(pl.col("v") > 3))
        assert query.result()["v"].to_list() == list(range(4, 24))
        assert query.progress()[0].tasks > 1


@pytest.mark.parametrize("name", ["FRAZIL_FUNCTION_URL", "FRAZIL_TASK_KEYS", "FRAZIL_STORE_URL"])
def test_what_is_missing_is_a_usage_error(tmp_path: Path, function: Function, name: str) -> None:
    env = {each: value for each, value in pod(tmp_path, function).items() if each != name}
    process = subprocess.Popen(
        [FRAZIL, "serve", "--platform", "knative"], cwd=tmp_path, env=environment(**env), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        message = process.stderr.read()
        assert process.wait(30) == 2
    assert "needs" in message
    assert KEY not in message


def in_cluster(double: KubeApi, folder: Path, function: Function) -> dict[str, str]:
    """Put a function service of release r, reached at a function of this machine, and return a pod's environment."""
    double.put(function_service_object(release="r", polars=pl.__version__, max_scale=1))
    name, kind = "frazil-function-small-r", double.kind("services", "serving.knative.dev")
    status = {**double.named("services", name)["status"], "address": {"url": f"http://127.0.0.1:{function.port}"}}
    key = ("serving.knative.dev", "services", "frazil", name)
    double.objects.patch(kind, key, {"status": status}, "controller", status=True)
    found = pod(folder, function) | {
        "KUBECONFIG": str(double.kubeconfig(folder / "kubeconfig", COORDINATOR)),
        "FRAZIL_RELEASE": "r",
        "FRAZIL_NAMESPACE": "frazil",
    }
    del found["FRAZIL_FUNCTION_URL"], found["FRAZIL_MAX_IN_FLIGHT"]
    return found


def test_what_a_killed_coordinator_had_asked_for_is_reset_by_the_next_one(tmp_path: Path, function: Function) -> None:
    revision = "frazil-function-small-r-00001"
    with kube_api() as double, client_of(double, tmp_path) as api:
        env = in_cluster(double, tmp_path, function)
        with serve(tmp_path, **env) as (url, process), frazil.connect(url, token=TOKEN) as engine:
            engine.submit(slow_plan(2000))
            eventually(lambda: min_scale(double, revision) == "1", "pods are asked for")
            process.kill()
            process.wait()
        assert min_scale(double, revision) == "1", "nobody took it back"
        asyncio.run(Scaler(api, "next").sweep())
        assert min_scale(double, revision) == "1", "its coordinator may live"
        asyncio.run(Scaler(api, "next", unix=lambda: time.time() + 76).sweep())
        assert min_scale(double, revision) == "0"
        assert "frazil.dev/prescale" not in double.named("revisions", revision)["metadata"]["annotations"]


def test_in_a_cluster_the_service_is_found_its_pods_are_asked_for_and_all_is_given_back_at_the_end(
    tmp_path: Path, function: Function
) -> None:
    name = "frazil-function-small-r"
    with kube_api() as double, client_of(double, tmp_path):
        env = in_cluster(double, tmp_path, function)
        lf = table(tmp_path).group_by("k").agg(pl.col("v").sum()).sort("k")
        knobs = {"FRAZIL_START_SMALL": "false", "FRAZIL_MAX_ROWS_PER_SPLIT": "4"}
        with serve(tmp_path, **env, **knobs) as (url, process), frazil.connect(url, token=TOKEN) as engine:
            assert_same(engine.submit(lf).result(), lf.collect(), ordered=True)
            cluster = httpx.get(f"{url}/v1/cluster", headers={"Authorization": f"Bearer {TOKEN}"}).json()
            assert cluster["slots"]["limit"] == 1, "0.9 x one pod, at least 1"
            used = double.named("services", name)["metadata"]["annotations"]["frazil.dev/in-use"]
            assert len(json.loads(used)) == 1
            patched = [path for method, path in double.requests if method == "PATCH" and "/revisions/" in path]
            assert patched, "pods were asked for"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        revision = double.named("revisions", f"{name}-00001")["metadata"]["annotations"]
        assert "frazil.dev/prescale" not in revision
        assert revision["autoscaling.knative.dev/min-scale"] == "0"
        assert not double.named("services", name)["metadata"].get("annotations")


def test_without_rights_in_the_cluster_there_is_one_service_by_its_url(tmp_path: Path, function: Function) -> None:
    with kube_api() as double:
        double.rights.add("nothing", "nothing", [])
        env = pod(tmp_path, function) | {"KUBECONFIG": str(double.kubeconfig(tmp_path / "kubeconfig", "nothing"))}
        with serve(tmp_path, **env) as (url, _), frazil.connect(url, token=TOKEN) as engine:
            assert engine.submit(table(tmp_path).select(pl.len())).result().item() == 24
        assert [method for method, _ in double.requests if method != "GET"] == []


def test_a_cluster_that_is_asked_for_and_not_there_is_a_usage_error(tmp_path: Path, function: Function) -> None:
    env = environment(**pod(tmp_path, function), FRAZIL_CLUSTER="on", KUBECONFIG=str(tmp_path / "nowhere"))
    run = subprocess.run([FRAZIL, "serve", "--platform", "knative"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 2
    assert "set KUBECONFIG" in run.stderr
