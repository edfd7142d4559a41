"""Hostile plans: a short run of `python -m benchmarks.fuzz`, and what it found once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.judge import judged
from benchmarks.fuzz.mutate import Yard, corpus, mutated
from benchmarks.fuzz.watch import OpenWatch
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.refusals import ForbiddenError
from frazil_coordinator.rights import check_places
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant
from frazil_functions.arena import Arena, plan_header
from frazil_functions.errors import PlanError


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard.made(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def plans(yard: Yard) -> list[bytes]:
    found = corpus(yard)
    assert {judged(plan, yard).outcome for plan in found} == {"planned"}, "what is mutated are plans that run"
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**63))
def test_a_mutated_plan_is_planned_or_refused_as_its_sender_s_fault(plans: list[bytes], yard: Yard, seed: int) -> None:
    watch = OpenWatch(yard.outside)
    try:
        verdict = judged(mutated(plans, yard, str(seed)), yard)
        assert not verdict.fault
        assert watch.opened() == []
    finally:
        watch.close()


def test_the_watch_of_these_tests_sees_what_polars_opens(yard: Yard) -> None:
    watch = OpenWatch(yard.outside)
    pl.scan_parquet(yard.outside / "t.parquet").collect_schema()
    assert "t.parquet" in watch.opened()
    watch.close()


def test_every_way_to_say_a_file_outside_is_refused_in_every_place_of_a_plan(plans: list[bytes], yard: Yard) -> None:
    """Each text that is a path in a real plan is replaced, one at a time."""
    watch, replaced, tenant = OpenWatch(yard.outside), 0, Tenant(name="a", allowed_prefixes=(str(yard.allowed),))

    def texts(tree: Any) -> list[tuple[Any, Any]]:
        items = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
        found = [(tree, key) for key, value in items if isinstance(value, str) and str(yard.allowed) in value]
        return found + [one for _, value in items for one in texts(value)]

    for plan in plans:
        for place in range(len(texts(msgspec.msgpack.decode(plan[len(plan_header()) :])))):
            for path in yard.paths_out():
                tree = msgspec.msgpack.decode(plan[len(plan_header()) :])
                holder, key = texts(tree)[place]
                holder[key] = path
                with pytest.raises(ForbiddenError):
                    check_places(plan_header() + msgspec.msgpack.encode(tree), tenant)
                replaced += 1
    assert replaced > 200
    assert watch.opened() == []
    watch.close()


def document(*nodes: object, root: int | None = None) -> bytes:
    slots = [{"value": None, "version": 0}, *({"value": node, "version": 1} for node in nodes)]
    tree = {"root": {"idx": len(nodes) if root is None else root, "version": 1}, "dataframes": [], "dsl_plans": slots}
    return plan_header() + msgspec.msgpack.encode(tree)


def reference(index: object) -> dict[str, object]:
    return {"idx": index, "version": 1}


FOUND: dict[str, Callable[[], bytes]] = {
    "a text that is not UTF-8": lambda: document({"Scan": "abc"}).replace(b"abc", b"\xff\xfe\xfd"),
    "a key of a map that is an array": lambda: document({"Scan": "abc"})[:-4] + b"\x81\x91\x01\x02",
    "a node without a name": lambda: document({}),
    "a node of two names": lambda: document({"Scan": {}, "Filter": {}}),
    "a node whose name is a number": lambda: document({1: {}}),
    "an inline node of no name": lambda: document({"Union": {"inputs": [{}]}}),
    "a reference to an array": lambda: document({"Filter": {"input": reference([])}}),
    "a reference to a map, out of place": lambda: document({"SQL": {"relations": [reference({})]}}),
    "an input that is a number": lambda: document({"Filter": {"input": 7}}),
    "inputs nested in each other": lambda: document("abc").replace(
        b"\xa3abc", b"\x81\xa5Union\x81\xa6inputs\x91" * 2_000 + b"\x80"
    ),
    "a node that is read twice, by one that is read twice, …": lambda: document(*laughs(40)),
}


def laughs(levels: int) -> list[object]:
    first: list[object] = [{"DataFrameScan": {}}]
    return first + [{"HConcat": {"inputs": [reference(n), reference(n)], "options": {}}} for n in range(1, levels)]


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_is_refused_as_a_plan_that_is_none(name: str) -> None:
    with pytest.raises(PlanError):
        Arena.decode(FOUND[name]())


def test_a_plan_that_reads_its_parts_as_often_as_people_do_is_planned(tmp_path: Path) -> None:
    pl.DataFrame({"k": [1]}).write_parquet(tmp_path / "t.parquet")
    lf = pl.scan_parquet(tmp_path / "t.parquet")
    for _ in range(6):
        lf = pl.concat([lf, lf])
    assert Arena.decode(lf.serialize()).encode()
    assert plan_query(lf.serialize(), Settings()).stages


def test_a_link_inside_of_the_folder_is_followed_as_the_docs_say(yard: Yard) -> None:
    link = yard.allowed / "link.parquet"
    link.symlink_to(yard.outside / "t.parquet")
    check_places(pl.scan_parquet(link).serialize(), Tenant(name="a", allowed_prefixes=(str(yard.allowed),)))
    link.unlink()
