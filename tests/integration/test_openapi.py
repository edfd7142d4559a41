"""Requests drawn from the OpenAPI document, right ones and wrong ones, to a coordinator over HTTP (Schemathesis).

Whatever comes, the answer is one that the document describes: never 5xx, never late, and what is refused is a problem
document. Some of the requests name a query, a table and plans that there are, so that they get beyond the first check.
``FRAZIL_API_EXAMPLES`` draws more requests for each route, with ``-m slow``.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import httpx
import hypothesis
import polars as pl
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import frazil
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant, Tenants, Token
from support.serving import serving

EXAMPLES = 12
SECONDS = 30.0
"""In which a request that waits for nothing is answered, however busy the machine is."""

Case: TypeAlias = schemathesis.Case[Any]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
PLAN_TYPE = "application/vnd.frazil.plan"
STATEMENTS = ("SELECT * FROM numbers", "SELECT k, SUM(x) FROM numbers GROUP BY k", "SELECT", "SELECT y FROM numbers")


@dataclass(frozen=True)
class World:
    """A coordinator, and what it knows."""

    url: str
    query: str
    """Id of a query that has succeeded."""

    plans: tuple[bytes, ...]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("data")
    pl.DataFrame({"k": [n % 3 for n in range(20)], "x": range(20)}).write_parquet(data / "numbers.parquet")
    numbers = pl.scan_parquet(data / "numbers.parquet")
    plans = (
        numbers.serialize(),
        numbers.group_by("k").agg(pl.col("x").sum()).serialize(),
        numbers.select("no such column").serialize(),
        pl.scan_parquet(data.parent / "elsewhere.parquet", schema={"x": pl.Int64()}).serialize(),
    )
    bounded = Tenant(name="a", allowed_prefixes=(str(data),), max_running_queries=4)
    tenants = Tenants(by_name=MappingProxyType({"a": bounded}), tokens=(Token.of("a-token", tenant="a"),))
    settings = Settings(start_small=False, max_rows_per_split=5, timeout_s=20.0)
    with serving(tmp_path_factory.mktemp("store"), settings, tenants) as url:
        with frazil.connect(url, token="a-token") as engine:
            engine.tables.put("numbers", str(data / "numbers.parquet"))
            query = engine.submit(numbers)
            query.result()
        yield World(url=url, query=query.id, plans=plans)


def operations(world: World) -> Iterator[tuple[str, str]]:
    """Yield all routes but the stream of events, which ends when its query does."""
    document = httpx.get(f"{world.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        yield from ((path, method) for method in methods if not path.endswith("/events"))


def known(case: Case, data: st.DataObject, world: World) -> None:
    """Have half of the requests name what there is."""
    if not data.draw(st.booleans()):
        return
    for name, value in (("query", world.query), ("name", "numbers")):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = value
    if isinstance(case.body, dict) and "sql" in case.body:
        case.body["sql"] = data.draw(st.sampled_from(STATEMENTS))


def ask(case: Case) -> schemathesis.Response:
    case.headers["Authorization"] = "Bearer a-token"
    if isinstance(case.query, dict) and "wait_s" in case.query:
        case.query["wait_s"] = "0"
    return case.call(timeout=SECONDS)


def check_problem(answer: schemathesis.Response) -> None:
    """Check that a refusal says what is wrong, to programs too (RFC 9457)."""
    if 400 <= answer.status_code < 500:
        told: Mapping[str, object] = answer.json()
        assert answer.headers["content-type"] == ["application/problem+json"]
        assert told["status"] == answer.status_code
        assert told["detail"]
        assert "Traceback" not in answer.text


def run(world: World, examples: int, mode: GenerationMode) -> Counter[int]:
    """Make `examples` requests for each route; return how often each status was answered."""
    schemathesis.openapi.media_type(PLAN_TYPE, st.sampled_from(world.plans) | st.binary(max_size=200))
    schema, seen = schemathesis.openapi.from_url(f"{world.url}/openapi.json"), Counter[int]()
    for path, method in operations(world):
        strategy = schema[path][method.upper()].as_strategy(generation_mode=mode)

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=strategy, data=st.data())
        def requests(case: Case, data: st.DataObject) -> None:
            if mode is GenerationMode.POSITIVE:
                known(case, data, world)
            answer = ask(case)
            seen[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)
            check_problem(answer)

        with contextlib.suppress(Unsatisfiable):  # there is nothing wrong to send
            requests()
    return seen


def test_right_requests_are_answered_as_the_document_says(world: World) -> None:
    seen = run(world, EXAMPLES, GenerationMode.POSITIVE)
    assert min(seen[200], seen[202], seen[400], seen[404]) > 0, seen


def test_wrong_requests_are_refused_with_a_problem_document(world: World) -> None:
    seen = run(world, EXAMPLES, GenerationMode.NEGATIVE)
    assert seen[400] > 0, seen


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_many_requests(world: World, mode: GenerationMode) -> None:
    print(run(world, int(os.environ.get("FRAZIL_API_EXAMPLES", "1000")), mode))
