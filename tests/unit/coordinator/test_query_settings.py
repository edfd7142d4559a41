"""A query may lower what its coordinator allows, and never lift it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from frazil_coordinator.query_settings import LOWER_ONLY, OPERATORS, for_query
from frazil_coordinator.settings import Settings
from frazil_functions.errors import RequestError


@pytest.mark.parametrize("name", sorted(LOWER_ONLY))
def test_limit_may_be_lowered_and_not_lifted(name: str) -> None:
    base = Settings(**{name: 100})  # type: ignore[arg-type]  # all of them are numbers
    assert getattr(for_query(base, {name: 50}), name) == 50
    assert getattr(for_query(base, {name: 100}), name) == 100
    with pytest.raises(RequestError, match=rf"{name}=101 is above the 100"):
        for_query(base, {name: 101})
    if name in ("max_bytes_scanned", "max_cost", "max_tasks", "timeout_s", "function_memory_bytes"):
        assert getattr(for_query(Settings(), {name: 10**9}), name) == 10**9
        with pytest.raises(RequestError, match=rf"{name}=None is above"):
            for_query(base, {name: None})


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_is_the_operators_is_not_changed_by_a_query(name: str) -> None:
    base = Settings()
    assert for_query(base, {name: getattr(base, name)}) == base
    with pytest.raises(RequestError, match=rf"{name} is the coordinator's"):
        for_query(base, {name: 7})


def test_everything_else_is_the_querys() -> None:
    assert for_query(Settings(), {"shuffle_partitions": 900, "fallback": "raise"}).shuffle_partitions == 900


def test_every_named_setting_exists() -> None:
    assert {knob.name for knob in fields(Settings)} >= LOWER_ONLY | OPERATORS


def test_bad_value_is_refused_as_such() -> None:
    with pytest.raises(RequestError, match="max_tasks must be above 0"):
        for_query(Settings(), {"max_tasks": 0})
