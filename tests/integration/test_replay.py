"""Running one task of a query again: the same error, the same rows, by HTTP, the command line and on S3; whose it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import polars as pl
import pytest
import typer
from msgspec import structs
from typer.testing import CliRunner

import frazil
from frazil._replay import Replay
from frazil.cli import _replay
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import read_tenants
from frazil_coordinator.tenancy.model import digest_of
from frazil_functions.bundle import BUNDLE_MEDIA_TYPE, Bundle, missing_bytes
from frazil_functions.errors import PlanVersionError, PythonPlanError, RequestError
from frazil_functions.storage import open_store
from frazil_functions.task import ExchangeInput
from support.parity import assert_same
from support.seaweed import SeaweedFS
from support.serving import serving

FRAZIL = str(Path(sys.executable).parent / "frazil")
TOKENS = {"root": ("blue", "admin"), "blue": ("blue", "submit"), "reader": ("blue", "read"), "red": ("red", "submit")}
MANY = Settings(
    start_small=False, max_rows_per_split=4, shuffle_partitions=3, inline_limit_bytes=0, allow_udfs=True, keep_inputs="all"
)


@dataclass(frozen=True)
class Shared:
    url: str
    engine: frazil.Engine
    """Of tenant blue; it keeps the inputs of all tasks."""

    clients: Mapping[str, httpx.Client]
    table: Path
    store: Path

    def get(self, who: str, path: str, **params: str) -> httpx.Response:
        return self.clients[who].get(path, params=params)


def write_table(folder: str, storage_options: dict[str, str] | None = None) -> str:
    """Write three files of keys and texts, one of which is no number; return the pattern that reads them."""
    for part in range(3):
        texts = ["seven" if (part, row) == (1, 7) else str(row) for row in range(20)]
        frame = pl.DataFrame({"k": [row % 5 for row in range(20)], "v": texts})
        frame.write_parquet(f"{folder}/{part}.parquet", storage_options=storage_options)
    return f"{folder}/*.parquet"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    home = tmp_path_factory.mktemp("replay")
    tokens = "".join(
        f'[[tokens]]\nsha256 = "{digest_of(token)}"\ntenant = "{tenant}"\nrole = "{role}"\n'
        for token, (tenant, role) in TOKENS.items()
    )
    (home / "tenants.toml").write_text(f"[tenants.blue]\nallow_udfs = true\n[tenants.red]\n{tokens}")
    (home / "t").mkdir()
    write_table(str(home / "t"))
    with ExitStack() as stack:
        url = stack.enter_context(serving(home / "exchange", MANY, read_tenants(home / "tenants.toml")))
        clients = {
            token: stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60))
            for token in TOKENS
        }
        engine = stack.enter_context(frazil.connect(url, token="blue"))
        yield Shared(url, engine, clients, home / "t", home / "exchange")


def grouped(pattern: object) -> pl.LazyFrame:
    """A shuffle, with something behind it."""
    return pl.scan_parquet(str(pattern)).group_by("k").agg(pl.col("v").sort()).explode("v")


@pytest.fixture(scope="module")
def query(shared: Shared) -> frazil.Query:
    """One that succeeded, and whose inputs are kept."""
    made = shared.engine.submit(grouped(shared.table / "*.parquet"))
    made.require_success()
    return made


def failed(query: frazil.Query) -> tuple[BaseException, int, int]:
    """Return what a query failed with, and the task that did."""
    with pytest.raises(Exception, match=r"\w") as raised:
        query.result()
    place = query.profile()["replay"]
    assert isinstance(place, dict)
    stage, task, _ = place["failed_task"].split("/")
    assert f"stage {stage}, task {task}" in str(raised.value.__notes__)
    return raised.value, int(stage), int(task)


def with_function(pattern: object) -> pl.LazyFrame:
    def number(text: str) -> int:
        if not text.isdigit():
            raise LookupError(f"no number: {text}")
        return int(text)

    return grouped(pattern).with_columns(pl.col("v").map_elements(number, return_dtype=pl.Int64))


def test_a_task_that_failed_in_a_function_fails_here_with_the_same_class_and_message(shared: Shared) -> None:
    query = shared.engine.submit(with_function(shared.table / "*.parquet"))
    error, stage, task = failed(query)
    assert type(error) is LookupError
    assert stage == 1, "behind the shuffle"
    with pytest.raises(PythonPlanError, match="--allow-udfs"):
        query.replay(stage, task).run()
    replay = query.replay(stage, task, allow_udfs=True)
    with pytest.raises(LookupError, match="no number: seven") as raised:
        replay.run()
    assert str(raised.value) == str(error)
    cause = raised.value.__cause__
    assert cause is not None
    innermost = cause.__cause__
    assert innermost is not None
    where = innermost.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    assert where is not None
    assert where.tb_frame.f_code.co_name == "number", "a debugger finds the line that raised"
    assert where.tb_frame.f_locals["text"] == "seven"


def test_a_strict_cast_that_failed_fails_here_and_its_input_can_be_looked_at(shared: Shared) -> None:
    query = shared.engine.submit(grouped(shared.table / "*.parquet").with_columns(pl.col("v").cast(pl.Int64)))
    error, stage, task = failed(query)
    with shared.engine.query(query.id).replay(stage, task) as replay:
        assert repr(replay) == f"Replay({query.id}/{stage}/{task}/0, failed: query)"
        with pytest.raises(type(error), match=r'values: \["seven"\]'):
            replay.run()
        assert isinstance(error, pl.exceptions.InvalidOperationError)
        (rows,) = replay.inputs
        assert "seven" in rows.collect()["v"].to_list()
        assert "strict_cast" in replay.plan()
        with pytest.raises(pl.exceptions.InvalidOperationError):
            replay.fragment.collect()
        assert replay.fragment.collect_schema() == {"k": pl.Int64, "v": pl.Int64}


def test_a_task_that_succeeded_writes_the_same_rows_again_and_nothing_into_the_exchange(shared: Shared) -> None:
    lf = grouped(shared.table / "*.parquet")
    query = shared.engine.submit(lf.sort("k", "v"))
    expected = query.result()
    before = sorted(path for path in shared.store.rglob("*") if path.is_file())
    stages = query.profile()["stages"]
    assert isinstance(stages, list)
    scans = [query.replay(0, task).run() for task in range(stages[0]["tasks"])]
    assert sum(run.stats.rows_out for run in scans) == 60
    assert all(run.stats.peak_memory_bytes > 0 for run in scans)
    read = 0
    for task in range(stages[1]["tasks"]):
        replay = query.replay(1, task)
        (rows,) = replay.inputs
        written = [run.frames[task] for run in scans if task in run.frames]
        assert_same(rows.collect(), pl.concat(written), ordered=True)
        read += replay.run().stats.rows_in
    assert read == 60
    last = len(stages) - 1
    roots = [query.replay(last, task).run() for task in range(stages[last]["tasks"])]
    assert_same(pl.concat([root.frame() for root in roots if root.frames]), expected, ordered=True)
    assert sorted(path for path in shared.store.rglob("*") if path.is_file()) == before


def test_a_task_that_writes_files_of_the_users_writes_them_elsewhere(shared: Shared, tmp_path: Path) -> None:
    lf = grouped(shared.table / "*.parquet")
    query = shared.engine.submit(lf.sink_parquet(tmp_path / "out" / "all.parquet", mkdir=True, lazy=True))
    query.require_success()
    expected = pl.read_parquet(tmp_path / "out" / "*.parquet")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    stages = query.profile()["stages"]
    assert isinstance(stages, list)
    files = []
    for task in range(stages[-1]["tasks"]):
        run = query.replay(len(stages) - 1, task).run(tmp_path / "again")
        files += [tmp_path / "again" / "files" / one.path for one in run.files]
    assert_same(pl.read_parquet(files), expected, ordered=False)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after == before


def test_who_may_not_see_a_query_may_not_replay_its_tasks(shared: Shared, query: frazil.Query) -> None:
    path = f"/v1/queries/{query.id}/stages/0/tasks/0/replay"
    own = shared.get("blue", path)
    assert (own.status_code, own.headers["content-type"]) == (200, BUNDLE_MEDIA_TYPE)
    assert own.headers["cache-control"] == "no-store"
    assert shared.get("root", path).status_code == 200
    nobodys = "0" * len(query.id)
    guessed, theirs = shared.get("red", path.replace(query.id, nobodys)), shared.get("red", path)
    assert (guessed.status_code, theirs.status_code) == (404, 404)
    assert theirs.text.replace(query.id, "ID") == guessed.text.replace(nobodys, "ID"), "nobody can tell that it is there"
    reader = shared.get("reader", path)
    assert (reader.status_code, reader.json()["title"]) == (403, "Forbidden")
    assert "role submit" in reader.json()["detail"]
    assert httpx.get(shared.url + path).status_code == 401


@pytest.mark.parametrize(
    ("path", "status", "advice"),
    [
        ("stages/7/tasks/0/replay", 404, "stages 0 to"),
        ("stages/0/tasks/999/replay", 404, "tasks 0 to"),
        ("stages/0/tasks/0/replay?attempt=9", 404, "leave attempt out"),
        ("stages/x/tasks/0/replay", 400, "path.stage"),
        ("stages/0/tasks/-1/replay", 400, "path.task"),
    ],
)
def test_a_refusal_is_a_problem_document_that_says_what_to_do(
    shared: Shared, query: frazil.Query, path: str, status: int, advice: str
) -> None:
    answer = shared.clients["blue"].get(f"/v1/queries/{query.id}/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert advice in answer.json()["detail"]


def test_a_task_of_another_version_of_polars_is_refused_with_the_command_that_installs_it(query: frazil.Query) -> None:
    bundle = query.replay(0, 0).bundle
    other = structs.replace(bundle, request=structs.replace(bundle.request, polars_version="1.0.0"))
    with pytest.raises(PlanVersionError, match=r"pip install frazil==\S+ polars==1\.0\.0"):
        Replay(other).run()


def test_a_task_that_was_saved_is_loaded_and_run_without_its_coordinator(query: frazil.Query, tmp_path: Path) -> None:
    kept = query.replay(1, 0)
    with frazil.load_replay(kept.save(tmp_path)) as loaded:
        assert loaded.bundle == kept.bundle
        rows = loaded.run(tmp_path / "rows").frame()
        assert_same(rows, kept.run().frame(), ordered=True)
        assert_same(pl.read_parquet(tmp_path / "rows" / "partition-0.parquet"), rows, ordered=True)
        with pytest.raises(RequestError, match="partitions with rows: 0"):
            loaded.run().frame(7)


SCRIPT = """
import polars as pl

def number(text):
    if not text.isdigit():
        sum(range(30_000_000))  # long enough for a profiler to see it, on busy cores too
        raise LookupError(f"no number: {{text}}")
    return int(text)

grouped = pl.scan_parquet("{pattern}").group_by("k").agg(pl.col("v").sort()).explode("v")
grouped.with_columns(pl.col("v").map_elements(number, return_dtype=pl.Int64)).collect()
"""


def command(shared: Shared, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAZIL_")}
    environment = {**inherited, "FRAZIL_URL": shared.url, "FRAZIL_TOKEN": "blue", "COLUMNS": "200", "RUST_BACKTRACE": "0"}
    return subprocess.run([FRAZIL, *arguments], env=environment, input=given, capture_output=True, text=True, timeout=120)


def test_the_command_says_what_the_task_did_keeps_it_in_a_file_and_samples_it(shared: Shared, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(pattern=shared.table / "*.parquet"))
    ran = command(shared, "run", str(script))
    assert ran.returncode == 1
    told = re.search(r"to run that task again here: frazil (replay) (\w+/1/\d)$", ran.stderr, re.MULTILINE)
    assert told is not None, ran.stderr
    files = ["--save", str(tmp_path / "kept"), "--profile", str(tmp_path / "p.txt")]
    shown = command(shared, told[1], f"{told[2]}/0", "--allow-udfs", *files)
    assert shown.returncode == 1
    assert "failed     as at the coordinator: LookupError: no number: seven" in shown.stdout
    assert "exchange, " in shown.stdout
    assert 'raise LookupError(f"no number: {text}")' in shown.stderr, "the innermost traceback"
    assert "number (script.py" in (tmp_path / "p.txt").read_text(), "on whichever thread Polars called it"
    (file,) = (tmp_path / "kept").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600, "it may hold credentials"
    debugged = command(shared, "replay", "--from", str(file), "--allow-udfs", "--pdb", "--json", given="p text\nq\n")
    assert debugged.returncode == 1
    assert "'seven'" in debugged.stdout
    values = json.loads(debugged.stdout[: debugged.stdout.index("\n}") + 2])
    assert (values["state"], values["same_error"], values["error"]["class"]) == ("failed", True, "LookupError")


def test_the_command_refuses_what_names_no_task(shared: Shared) -> None:
    unknown = command(shared, "replay", "0123456789abcdef/0/0")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no query" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ([], "name a task as QUERY/STAGE/TASK, or a file"),
        (["a/b"], "QUERY/STAGE/TASK"),
        (["a/0/0", "--from", __file__], "name a task as QUERY/STAGE/TASK, or a file"),
        (["a/0/0/1", "--attempt", "2"], "names attempt 1"),
        (["a/0/0", "--profile", "p.html"], ".svg"),
    ],
)
def test_bad_usage_of_the_command_is_said_before_anybody_is_asked(arguments: list[str], advice: str) -> None:
    app = typer.Typer()
    app.command()(_replay.replay)
    told = CliRunner().invoke(app, [*arguments, "--url", "http://127.0.0.1:9"], env={"COLUMNS": "300"})
    assert told.exit_code == 2
    assert advice in told.output


def test_tasks_on_an_object_store_are_run_again_and_large_inputs_are_read_from_it(seaweed: SeaweedFS) -> None:
    options = seaweed.storage_options
    seaweed.make_bucket("replay")
    pattern = write_table("s3://replay/table", options)
    lf = pl.scan_parquet(pattern, storage_options=options).group_by("k").agg(pl.col("v").sort()).explode("v")
    settings = Settings(start_small=False, max_rows_per_split=4, shuffle_partitions=3, inline_limit_bytes=0)
    store = seaweed.url("replay/exchange")
    with frazil.local(max_functions=2, settings=settings, store=store, storage_options=options) as engine:
        query = engine.submit(lf.with_columns(pl.col("v").cast(pl.Int64)))
        error, stage, task = failed(query)
        assert [key for key in seaweed.keys("replay") if key.startswith("exchange/exchange")] == []
        kept = [key for key in seaweed.keys("replay") if key.startswith("exchange/replay")]
        assert len(kept) == 1
        with pytest.raises(type(error), match="seven"):
            query.replay(stage, task).run()
    with frazil.local(
        max_functions=2, settings=replace(settings, keep_inputs="all"), store=store, storage_options=options
    ) as engine:
        query = engine.submit(lf)
        query.require_success()
        whole = query.replay(1, 0)
        stripped = without_blocks(whole.bundle)
        with pytest.raises(RequestError, match="FRAZIL_REPLAY_BYTES"):
            Replay(stripped).run()
        before = seaweed.keys("replay")
        again = Replay(stripped, store=open_store(store, options)).run()
        assert_same(again.frame(), whole.run().frame(), ordered=True)
        assert again.stats.requests["get"] > 0
        assert seaweed.keys("replay") == before
    assert [key for key in seaweed.keys("replay") if key.startswith("exchange/")] == []


def without_blocks(bundle: Bundle) -> Bundle:
    """Return a bundle as it is when the blocks are too many to be sent along."""
    inputs = tuple(
        structs.replace(given, blocks=tuple(structs.replace(block, data=None) for block in given.blocks))
        if isinstance(given, ExchangeInput)
        else given
        for given in bundle.request.inputs
    )
    request = structs.replace(bundle.request, inputs=inputs)
    return structs.replace(bundle, request=request, left_out_bytes=missing_bytes(request), left_out="FRAZIL_REPLAY_BYTES")
