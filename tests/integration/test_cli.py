"""The command line as a process: what it prints where, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import frazil
from support.parity import assert_same
from support.processes import free_ports, stop_process

FRAZIL = str(Path(sys.executable).parent / "frazil")
TOKEN = "secret-of-the-test"
TINY = {"FRAZIL_START_SMALL": "false", "FRAZIL_MAX_ROWS_PER_SPLIT": "4"}


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAZIL_")}
    return {**inherited, "RUST_BACKTRACE": "0", "COLUMNS": "200", **TINY, **more}


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FRAZIL, *arguments], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=150
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "t").mkdir()
    for part in range(2):
        values = list(range(part * 12, part * 12 + 12))
        frame = pl.DataFrame({"k": [value % 3 for value in values], "v": values, "s": ["x"] * 12})
        frame.write_parquet(folder / "t" / f"{part}.parquet")
    return folder


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    process = subprocess.Popen(
        [FRAZIL, "serve", "--port=0", "--max-functions=2", "--idle-s=5"],
        cwd=folder, env=environment(FRAZIL_TOKEN=TOKEN), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    assert found is not None
    yield Server(found[0], process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stderr.close()


def script(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(f"import sys\nimport polars as pl\ntable = pl.scan_parquet('t/*.parquet')\n{text}\n")
    return name


GROUPED = "print(table.group_by('k').agg(pl.col('v').sum()).sort('k').collect()['v'].to_list(), sys.argv[1:])"
ANSWER = "[84, 92, 100]"


def test_the_version_names_frazil_and_polars(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"frazil {frazil.__version__} (polars {pl.__version__})\n")


def test_a_command_reuses_what_the_one_before_left_in_the_store(folder: Path, tmp_path: Path) -> None:
    name = script(folder, "again.py", GROUPED)
    kept = ["--max-functions=1", f"--store={tmp_path}", "--profile=reused.json"]
    found = []
    for options in (["--reuse=tasks"], ["--reuse=tasks"], ["--reuse=result"], ["--reuse=result", "--max-age=600"], []):
        done = run("run", *options, *kept, name, cwd=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{ANSWER} []\n", "")
        (query,) = json.loads((folder / "reused.json").read_text())["queries"]
        found.append((sum(stage["attempts"] for stage in query["stages"]), "result_of" in query))
    assert [attempts > 0 for attempts, _ in found] == [True, False, False, False, True]
    assert [earlier for _, earlier in found] == [False, False, False, True, False]
    assert run("run", "--reuse=yes", name, cwd=folder).returncode == 2


def test_an_unmodified_script_runs_distributed_and_quietly(folder: Path) -> None:
    name = script(folder, "grouped.py", GROUPED)
    done = run("run", "--max-functions=2", "--profile=p.json", name, "--their", "option", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ANSWER} ['--their', 'option']\n", "")
    profile = json.loads((folder / "p.json").read_text())
    assert sum(stage["tasks"] for stage in profile["queries"][0]["stages"]) > 6


@pytest.mark.parametrize("name", ["table", "csv", "json", "parquet"])
def test_a_sql_query_is_written_in_any_format(folder: Path, server: Server, name: str) -> None:
    (folder / "q.sql").write_text("SELECT k, SUM(v) AS v FROM t GROUP BY k ORDER BY k")
    output = folder / f"out.{name}"
    arguments = ["run", "q.sql", "--table", "t=t/*.parquet", "--url", server.url, "--token", TOKEN]
    done = run(*arguments, f"--output={output}", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = pl.DataFrame({"k": [0, 1, 2], "v": [84, 92, 100]})
    data = output.read_bytes()
    match name:
        case "table":
            assert "│ 2   ┆ 100 │" in data.decode()
        case "csv":
            assert_same(pl.read_csv(data), expected, ordered=True)
        case "json":
            assert_same(pl.read_json(data), expected, ordered=True)
        case "parquet":
            assert_same(pl.read_parquet(io.BytesIO(data)), expected, ordered=True)


def test_explain_shows_every_plan_of_a_script_and_runs_nothing(folder: Path) -> None:
    name = script(folder, "two.py", "table.sort('v').collect()\ntable.group_by('k').len().collect()")
    done = run("explain", name, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("STAGE 0") == 2
    assert "query 1" in done.stdout


def test_explain_says_when_a_script_needs_rows_to_go_on(folder: Path) -> None:
    done = run("explain", script(folder, "needs.py", "table.select(pl.len()).collect().item()"), cwd=folder)
    assert done.returncode == 1
    assert "STAGE 0" in done.stdout
    assert "stopped after 1 plans" in done.stderr


@pytest.mark.parametrize("where", ["here", "server"])
def test_explain_analyze_shows_what_a_query_did(folder: Path, server: Server, where: str) -> None:
    (folder / "a.sql").write_text("SELECT k, SUM(v) AS v FROM t GROUP BY k")
    at = ["--url", server.url, "--token", TOKEN] if where == "server" else ["--max-functions=1"]
    done = run("explain", "--analyze", "a.sql", "--table", "t=t/*.parquet", *at, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("measured") == done.stdout.count("planned") >= 3
    assert "\x1b[" not in done.stdout


def test_explain_analyze_of_a_script_gives_it_its_rows(folder: Path) -> None:
    name = script(folder, "analyzed.py", f"{GROUPED}\ntable.select('v').collect()")
    done = run("explain", "--analyze", "--max-functions=1", name, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(ANSWER)
    assert done.stdout.count("total") == 2


def test_explain_prints_json_for_programs(folder: Path) -> None:
    (folder / "j.sql").write_text("SELECT k FROM t")
    done = run("explain", "--json", "j.sql", "--table", "t=t/*.parquet", cwd=folder)
    document = json.loads(done.stdout)
    assert document["stages"][0]["predicted"]["rows_out"] == {"value": 24, "bound": "exact"}
    assert document["measured"] is None


def test_dry_run_checks_the_caps_and_runs_nothing(folder: Path) -> None:
    name = script(folder, "capped.py", "table.select('v').collect()\ntable.sort('v').collect()")
    done = run("run", "--dry-run", name, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("STAGE 0") == 2
    capped = run("run", "--dry-run", name, cwd=folder, FRAZIL_MAX_TASKS="6")
    assert capped.returncode == 1
    assert capped.stdout.count("STAGE 0") == 1
    assert re.search(r"CapError: the query would have \d+ tasks, more than max_tasks=6 allows", capped.stderr)
    assert capped.stderr.endswith("The script stopped after 1 plans.\n")
    (folder / "capped.sql").write_text("SELECT k FROM t ORDER BY v")
    sql = run("run", "--dry-run", "capped.sql", "--table", "t=t/*.parquet", cwd=folder, FRAZIL_MAX_COST="0")
    assert sql.returncode == 1
    assert "more than max_cost=$0.000000 allows" in sql.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table.select(pl.col('s').cast(pl.Int64)).collect()", r"^frazil: bad\.py:4: InvalidOperationError: (.|\n)*stage 0"),
        ("table.select('nowhere').collect()", r"^frazil: bad\.py:4: ColumnNotFoundError: "),
        ("pl.scan_parquet('no.parquet').collect()", r"^frazil: bad\.py:4: FileNotFoundError: .*no\.parquet\n$"),
        ("1 / 0", r"^frazil: bad\.py:4: ZeroDivisionError: division by zero\n$"),
    ],
)
def test_a_script_that_fails_is_one_message_and_1(folder: Path, text: str, words: str) -> None:
    done = run("run", script(folder, "bad.py", text), cwd=folder)
    assert done.returncode == 1
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("--debug", "run", "bad.py", cwd=folder).stderr


def test_the_exit_code_of_a_script_is_passed_on(folder: Path) -> None:
    assert run("run", script(folder, "exits.py", "sys.exit(7)"), cwd=folder).returncode == 7


NOWHERE = [
    f"--store-option={option}"
    for option in (
        "aws_endpoint_url=http://127.0.0.1:1",
        "aws_allow_http=true",
        "aws_region=us-east-1",
        "aws_access_key_id=someone",
        "aws_secret_access_key=something",
    )
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.py"], "does not exist"),
        (["run", "p.txt"], "neither a script"),
        (["run", "q.sql", "--table", "t"], "NAME=VALUE"),
        (["run", "q.sql", "extra"], "takes no arguments"),
        (["serve", "--host", "0.0.0.0"], "FRAZIL_TOKEN"),
        (["serve", "--memory-limit", "lots"], "amount of memory"),
        (["serve", "--port=0", "--store", "ftp://host/x"], "use a folder, s3://"),
        (["serve", "--port=0", "--store", "s3://none/x", *NOWHERE], "check the endpoint"),
        (["queries", "--url", "nothing"], "address of a coordinator"),
        (["nothing"], "No such command"),
    ],
)
def test_bad_usage_is_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "p.txt").touch()
    (tmp_path / "q.sql").write_text("SELECT 1")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_2_and_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "x.py").touch()
    done = run("run", "x.py", cwd=tmp_path, FRAZIL_MAX_ATTEMPTS="many")
    assert done.returncode == 2
    assert "FRAZIL_MAX_ATTEMPTS" in done.stderr


def test_a_coordinator_that_is_not_there_is_3(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = run("queries", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 3
    assert f"http://127.0.0.1:{port}" in done.stderr


def test_an_interrupt_is_130_and_leaves_no_process(folder: Path) -> None:
    many = "print('begin', flush=True)\ntable.join(table, how='cross', suffix='_2').join(table, how='cross', suffix='_3')"
    name = script(folder, "long.py", f"{many}.sort('v_3').collect()\nwhile True: table.collect()")
    process = subprocess.Popen(
        [FRAZIL, "run", "--max-functions=1", name], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close()


def test_connect_runs_queries_at_a_server(folder: Path, server: Server) -> None:
    table = pl.scan_parquet(folder / "t" / "*.parquet")
    lf = table.group_by("k").agg(pl.col("v").sum()).sort("k")
    settings = frazil.Settings(start_small=False, max_rows_per_split=4)
    with frazil.connect(server.url, token=TOKEN, settings=settings) as engine:
        assert_same(lf.collect(engine=engine), lf.collect(engine="in-memory"), ordered=True)
        assert "STAGE 0" in engine.explain(lf)
        query = engine.submit(lf, labels=["from the test"])
        assert [event.status.state for event in query.events()][-1] is frazil.QueryState.SUCCEEDED
        assert query.result()["v"].to_list() == [84, 92, 100]
        assert query.profile()["query"] == query.id
        assert "STAGE 0" in query.explain()
        with pytest.raises(pl.exceptions.ColumnNotFoundError):
            table.select("nowhere").collect(engine=engine)
        with pytest.raises(pl.exceptions.InvalidOperationError):
            table.select(pl.col("s").cast(pl.Int64)).collect(engine=engine)
        with pytest.raises(frazil.PythonPlanError):
            table.map_batches(lambda frame: frame).collect(engine=engine)


def test_a_wrong_token_is_refused(folder: Path, server: Server) -> None:
    with frazil.connect(server.url, token="wrong") as engine, pytest.raises(frazil.RequestError, match="token"):
        pl.scan_parquet(folder / "t" / "*.parquet").collect(engine=engine)


def test_queries_are_listed_and_cancelled(folder: Path, server: Server) -> None:
    with frazil.connect(server.url, token=TOKEN) as engine:
        query = engine.submit(pl.scan_parquet(folder / "t" / "*.parquet"), labels=["listed"])
        query.wait(60)
    arguments = ["--url", server.url, "--token", TOKEN]
    listed = run("queries", *arguments, "--label=listed", "--json", cwd=folder)
    assert [one["id"] for one in json.loads(listed.stdout)] == [query.id]
    assert query.id in run("queries", *arguments, cwd=folder).stdout
    config = folder / "config.toml"
    config.write_text(f'default = "here"\n[profiles.here]\nurl = "{server.url}"\ntoken_command = "printf {TOKEN}"\n')
    named = {"FRAZIL_CONFIG": str(config)}
    seen = run("queries", "--text=LISTED", "--since=1h", "--tenant=default", "--json", cwd=folder, **named)
    assert [one["id"] for one in json.loads(seen.stdout)] == [query.id]
    assert run("queries", "--since=2100-01-01", "--json", cwd=folder, **named).stdout == "[]\n"
    done = run("cancel", query.id, *arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, f"query {query.id} is succeeded\n")
    unknown = run("cancel", "nothing", *arguments, cwd=folder)
    assert unknown.returncode == 1
    assert "nothing" in unknown.stderr


def test_top_looks_once_without_a_terminal(folder: Path, server: Server) -> None:
    with frazil.connect(server.url, token=TOKEN) as engine:
        query = engine.submit(pl.scan_parquet(folder / "t" / "*.parquet"), labels=["[red]seen"])
        query.wait(60)
    arguments = ["--url", server.url, "--token", TOKEN]
    shown = run("top", *arguments, cwd=folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "slots 0/2" in shown.stdout
    assert "[red]seen" in shown.stdout
    told = json.loads(run("top", *arguments, "--json", "--limit=1", cwd=folder).stdout)
    assert [one["id"] for one in told["queries"]] == [query.id]
    assert told["cluster"]["slots"]["limit"] == 2


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    done = run(cwd=tmp_path, _FRAZIL_COMPLETE="complete_bash", COMP_WORDS="frazil que", COMP_CWORD="1")
    assert done.stdout.split() == ["queries"]


def test_a_server_ends_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [FRAZIL, "serve", "--port=0"], stderr=subprocess.PIPE, stdout=log, env=environment(TMPDIR=str(tmp_path))
        )
    assert process.stderr is not None
    assert b"http://127.0.0.1:" in process.stderr.readline()
    process.stderr.close()
    assert stop_process(process, grace_s=30) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_server_of_tenants_knows_whose_query_it_is_by_tokens_that_the_command_makes(folder: Path, tmp_path: Path) -> None:
    made = run("token", "--tenant=etl", cwd=folder)
    token = made.stderr.removeprefix("token: ").strip()
    assert made.returncode == 0
    assert token not in made.stdout
    file = tmp_path / "tenants.toml"
    file.write_text("[tenants.etl]\n" + made.stdout + run("token", "--tenant=etl", "--role=read", cwd=folder).stdout)
    process = subprocess.Popen(
        [FRAZIL, "serve", "--port=0", "--max-functions=1", "--tenants", str(file)],
        cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        (folder / "p.sql").write_text("SELECT k FROM t WHERE v = 5")
        arguments = ["--url", found[0], "--token", token]
        done = run("run", "p.sql", "--table", "t=t/*.parquet", "--priority=4", "--format=csv", *arguments, cwd=folder)
        assert (done.stdout, done.stderr) == ("k\n2\n", "")
        (listed,) = json.loads(run("queries", "--json", *arguments, cwd=folder).stdout)
        assert (listed["tenant"], listed["priority"]) == ("etl", 4)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        if process.stderr is not None:
            process.stderr.close()


def test_a_file_of_tenants_that_is_wrong_or_beside_a_token_is_bad_usage(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text("[tenants.etl]\nweight = 0\n")
    wrong = run("serve", "--tenants", str(file), cwd=folder)
    assert wrong.returncode == 2
    assert "weight must be above 0" in " ".join(wrong.stderr.replace("│", " ").split())
    both = run("serve", "--tenants", str(file), "--token=x", cwd=folder)
    assert both.returncode == 2
    assert "leave out --token" in " ".join(both.stderr.replace("│", " ").split())
