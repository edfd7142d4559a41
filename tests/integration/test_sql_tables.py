"""SQL over named tables: through the HTTP API, the Python client and the command, on real function processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import polars as pl
import pytest

import frazil
from frazil_coordinator.catalog.model import TableSource
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant, Tenants, Token
from support.parity import assert_same
from support.serving import serving

FRAZIL = str(Path(sys.executable).parent / "frazil")
TINY = frazil.Settings(start_small=False, max_rows_per_split=4)
JOINED = """
    SELECT c.name, SUM(o.value) AS total, COUNT(*) AS n
    FROM orders o JOIN customers c ON o.customer = c.id
    WHERE o.day >= $1 AND c.name <> $2
    GROUP BY c.name ORDER BY total DESC
"""
VALUES = [date(2026, 1, 3), "o'brien"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "open").mkdir()
    (folder / "closed").mkdir()
    days = [date(2026, 1, 1 + row % 9) for row in range(40)]
    orders = pl.DataFrame({"customer": [row % 4 for row in range(40)], "value": range(40), "day": days})
    orders.write_parquet(folder / "open" / "orders.parquet")
    customers = pl.DataFrame({"id": [0, 1, 2, 3], "name": ["ann", "bob", "o'brien", "eve"]})
    customers.write_csv(folder / "open" / "customers.csv", separator=";")
    orders.write_parquet(folder / "closed" / "orders.parquet")
    return folder


@pytest.fixture(scope="module")
def tables(data: Path) -> dict[str, pl.LazyFrame]:
    return {
        "orders": pl.scan_parquet(data / "open" / "orders.parquet"),
        "customers": pl.scan_csv(data / "open" / "customers.csv", separator=";"),
    }


@pytest.fixture(scope="module")
def url(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bounded = Tenant(name="a", allowed_prefixes=(str(data / "open"),))
    tenants = Tenants(
        by_name=MappingProxyType({"a": bounded, "b": Tenant(name="b")}),
        tokens=(Token.of("a-token", tenant="a"), Token.of("b-token", tenant="b")),
    )
    with serving(tmp_path_factory.mktemp("exchange"), Settings(start_small=False, max_rows_per_split=4), tenants) as served:
        ask(served, "PUT", "tables/orders", {"location": str(data / "open" / "orders.parquet")}, status=201)
        source = {"location": str(data / "open" / "customers.csv"), "options": {"separator": ";"}, "comment": "who buys"}
        ask(served, "PUT", "tables/customers", source, status=201)
        yield served


def ask(
    url: str,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str = "a-token",
    status: int = 200,
    match: dict[str, str] | None = None,
) -> Any:
    headers = {"Authorization": f"Bearer {token}", **(match or {})}
    answer = httpx.request(method, f"{url}/v1/{path}", json=body, headers=headers, timeout=90)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def expected(tables: dict[str, pl.LazyFrame]) -> pl.DataFrame:
    text = JOINED.replace("$1", "DATE '2026-01-03'").replace("$2", "'o''brien'")
    return pl.SQLContext(tables).execute(text, eager=True)


def test_the_columns_of_a_table_are_those_that_its_plan_was_made_of(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested, partitioned by folders, read by options: as Polars resolves them, and not once more than the planner does."""
    folder = data / "open" / "parts"
    frame = pl.DataFrame({"a": [1, 2], "b": [["x"], []], "c": [{"d": 1.5}, {"d": None}], "part": [1, 2]})
    frame.lazy().sink_parquet(pl.PartitionBy(folder, key="part", include_key=False), mkdir=True)
    scan = pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True)
    with frazil.local(1) as engine:
        session: Any = engine._session
        source = TableSource(location=str(folder / "**/*.parquet"), options={"hive_partitioning": True})
        resolved: list[object] = []
        real = pl.LazyFrame.collect_schema

        def counted(lf: pl.LazyFrame) -> pl.Schema:
            resolved.append(lf)
            return real(lf)

        monkeypatch.setattr(pl.LazyFrame, "collect_schema", counted)
        plan = scan.serialize()
        session.explain(plan)
        by_planner = len(resolved)
        table = session.put_table("parts", source)
        monkeypatch.undo()
    assert [(column.name, column.dtype) for column in table.columns] == [
        (name, str(dtype)) for name, dtype in scan.collect_schema().items()
    ]
    assert len(resolved) == 2 * by_planner


def test_an_explanation_names_the_columns_of_the_result(url: str) -> None:
    told = ask(url, "POST", "explain", {"sql": "SELECT customer, SUM(value) AS total FROM orders GROUP BY customer"})
    assert told["columns"] == [{"name": "customer", "dtype": "Int64"}, {"name": "total", "dtype": "Int64"}]


def test_a_table_tells_what_its_files_hold(url: str) -> None:
    told = ask(url, "GET", "tables/orders")
    assert [column["name"] for column in told["columns"]] == ["customer", "value", "day"]
    assert [column["dtype"] for column in told["columns"]] == ["Int64", "Int64", "Date"]
    assert (told["statistics"]["files"], told["statistics"]["rows"], told["statistics"]["rows_bound"]) == (1, 40, "exact")
    assert [one["name"] for one in ask(url, "GET", "tables")] == ["customers", "orders"]
    assert ask(url, "GET", "tables", token="b-token") == []
    ask(url, "GET", "tables/orders", token="b-token", status=404)


def test_the_answer_over_http_is_that_of_polars(url: str, tables: dict[str, pl.LazyFrame]) -> None:
    parameters = [{"type": "date", "value": "2026-01-03"}, "o'brien"]
    status = ask(url, "POST", "queries?label=sql", {"sql": JOINED, "parameters": parameters}, status=202)
    ended = ask(url, "GET", f"queries/{status['id']}?wait_s=60")
    assert ended["state"] == "succeeded", ended["error"]
    assert len(ended["progress"]) > 1
    assert ended["labels"] == ["sql"]
    rows = ask(url, "GET", f"queries/{status['id']}/result?format=json")
    assert rows == json.loads(expected(tables).write_json())
    assert ask(url, "GET", f"queries/{status['id']}/plan")["sql"] == JOINED


def test_the_client_runs_statements_and_scans_tables(url: str, tables: dict[str, pl.LazyFrame]) -> None:
    with frazil.connect(url, token="a-token", settings=TINY) as engine:
        query = engine.sql(JOINED, VALUES, labels=["mine"])
        assert_same(query.result(), expected(tables), ordered=True)
        assert sorted(engine.tables) == ["customers", "orders"]
        lazy = engine.tables["orders"].filter(pl.col("value") > 30)
        assert_same(lazy.collect(engine=engine), tables["orders"].filter(pl.col("value") > 30).collect(), ordered=True)
        with pytest.raises(pl.exceptions.SQLInterfaceError, match="nowhere"):
            engine.sql("SELECT * FROM nowhere")
        with pytest.raises(KeyError):
            engine.tables["nowhere"]


def test_an_engine_of_this_process_keeps_tables_too(data: Path, tables: dict[str, pl.LazyFrame]) -> None:
    with frazil.local(max_functions=1, settings=TINY) as engine:
        engine.tables.put("orders", str(data / "open" / "orders.parquet"))
        made = engine.tables.put("customers", str(data / "open" / "customers.csv"), options={"separator": ";"})
        assert engine.tables.describe("customers") == made
        assert_same(engine.sql(JOINED, VALUES).result(), expected(tables), ordered=True)
        engine.tables.drop("orders")
        assert list(engine.tables) == ["customers"]


def test_explain_runs_nothing_and_explain_analyze_does(url: str) -> None:
    before = len(ask(url, "GET", "queries"))
    told = ask(url, "POST", "queries", {"sql": "EXPLAIN SELECT * FROM orders"})
    assert "SCAN" in told["text"]
    assert told["measured"] is None
    assert ask(url, "POST", "explain", {"sql": "SELECT * FROM orders"})["stages"] == told["stages"]
    assert ask(url, "POST", "queries?dry_run=true", {"sql": "SELECT * FROM orders"})["stages"] == told["stages"]
    assert len(ask(url, "GET", "queries")) == before
    ran = ask(url, "POST", "queries", {"sql": "explain analyze SELECT * FROM orders"})
    assert ran["measured"]["rows_out"] == 40


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("\n SELEC 1", ("2", "2")),
        ("SELECT *\n  FROM orders WHERE value >", ("2", "28")),
        ("SELECT *\nFROM orders o JOIN nowhere n ON o.a = n.a", ("2", "20")),
        ("EXPLAIN SELECT customer,\n nothing FROM orders", ("2", "2")),
    ],
)
def test_an_error_names_its_line_and_column(url: str, sql: str, place: tuple[str, str]) -> None:
    problem = ask(url, "POST", "queries", {"sql": sql}, status=400)
    assert (problem["where"]["line"], problem["where"]["column"]) == place
    assert problem["exception"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"sql": ""}, "1 to"),
        ({"sql": "DROP TABLE orders"}, "/v1/tables"),
        ({"sql": "SELECT ?", "parameters": [1, 2]}, "$2"),
        ({"sql": 3}, "sql"),
        ({"query": "SELECT 1"}, "query"),
    ],
)
def test_a_body_that_is_wrong_is_refused(url: str, body: object, words: str) -> None:
    assert words in ask(url, "POST", "queries", body, status=400)["detail"]


def test_a_tenants_folders_hold_for_tables_and_statements(url: str, data: Path) -> None:
    outside = str(data / "closed" / "orders.parquet")
    problem = ask(url, "PUT", "tables/closed", {"location": outside}, status=403)
    assert outside in problem["detail"]
    for sql in (f"SELECT * FROM read_parquet('{outside}')", f"SELECT * FROM orders, read_parquet('{outside}') x"):
        ask(url, "POST", "queries", {"sql": sql}, status=400)
    ask(url, "PUT", "tables/closed", {"location": outside}, token="b-token", status=201)
    ask(url, "POST", "queries", {"sql": "SELECT * FROM closed"}, status=400)  # b's table is none of a's


def test_a_table_is_changed_by_version_and_dropped(url: str, data: Path) -> None:
    source = {"location": str(data / "open" / "orders.parquet")}
    ask(url, "PUT", "tables/mine", source, status=201, match={"If-None-Match": "*"})
    ask(url, "PUT", "tables/mine", source, status=412, match={"If-None-Match": "*"})
    assert ask(url, "PUT", "tables/mine", source, match={"If-Match": '"1"'})["version"] == 2
    ask(url, "DELETE", "tables/mine", status=412, match={"If-Match": '"1"'})
    ask(url, "DELETE", "tables/mine", status=204, match={"If-Match": '"2"'})
    ask(url, "DELETE", "tables/mine", status=404)
    ask(url, "PUT", "tables/gone", {"location": str(data / "open" / "nothing.parquet")}, status=400)
    ask(url, "GET", "tables/gone", status=404)


def test_the_command_makes_tables_and_runs_statements(url: str, data: Path, tables: dict[str, pl.LazyFrame]) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FRAZIL, *arguments, "--url", url, "--token", "a-token"], capture_output=True, text=True, timeout=120
        )

    made = run("tables", "put", "people", str(data / "open" / "customers.csv"), "--option", "separator=;")
    assert made.returncode == 0, made.stderr
    assert "  name: String" in run("tables", "show", "people").stdout
    done = run("sql", "SELECT name FROM people WHERE name <> :who ORDER BY id", "-p", "who=o'brien", "--json")
    assert json.loads(done.stdout) == [{"name": "ann"}, {"name": "bob"}, {"name": "eve"}]
    assert "STAGE 0" in run("sql", "EXPLAIN SELECT * FROM people").stdout
    wrong = run("sql", "SELEC 1")
    assert wrong.returncode == 1
    assert "Line: 1, Column: 1" in wrong.stderr
