"""Settings: ranges, and reading them from the environment."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from frazil_coordinator.settings import MIB, Settings
from frazil_functions.errors import RequestError


def _settings(**values: Any) -> Settings:
    """Make settings of values that a type checker would refuse."""
    return Settings(**values)


def test_defaults_are_valid_and_frozen() -> None:
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.codec = "ipc"  # type: ignore[misc]  # the point of the test
    assert settings.split_target_bytes == 128 * MIB
    assert replace(settings, codec="ipc").codec == "ipc"


@pytest.mark.parametrize(
    "name",
    ["split_target_bytes", "max_rows_per_split", "shuffle_partitions", "max_attempts", "timeout_s", "max_plan_bytes"],
)
def test_a_knob_that_must_be_positive_refuses_zero_by_name(name: str) -> None:
    with pytest.raises(RequestError, match=name):
        _settings(**{name: 0})


@pytest.mark.parametrize("name", ["broadcast_limit_bytes", "inline_limit_bytes", "start_small_bytes", "retry_backoff_s"])
def test_a_knob_that_zero_turns_off_takes_zero_but_nothing_below(name: str) -> None:
    assert getattr(_settings(**{name: 0}), name) == 0
    with pytest.raises(RequestError, match=name):
        _settings(**{name: -1})


@pytest.mark.parametrize(("name", "value"), [("fallback", "ignore"), ("codec", "gzip")])
def test_a_choice_that_does_not_exist_is_refused_with_the_ones_that_do(name: str, value: str) -> None:
    with pytest.raises(RequestError, match=f"{name} must be one of .*not '{value}'"):
        _settings(**{name: value})


def test_every_kind_of_knob_is_read_from_the_environment() -> None:
    environ = {
        "FRAZIL_SPLIT_TARGET_BYTES": "1024",
        "FRAZIL_START_SMALL": "false",
        "FRAZIL_TIMEOUT_S": "2.5",
        "FRAZIL_SHUFFLE_PARTITIONS": "none",
        "FRAZIL_MAX_IN_FLIGHT": "7",
        "FRAZIL_CODEC": "ipc_zstd",
        "FRAZIL_UNKNOWN": "left alone",
        "SPLIT_TARGET_BYTES": "left alone",
    }
    assert Settings.from_env(environ) == Settings(
        split_target_bytes=1024, start_small=False, timeout_s=2.5, shuffle_partitions=None, max_in_flight=7, codec="ipc_zstd"
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [("FRAZIL_SPLIT_TARGET_BYTES", "128 MiB"), ("FRAZIL_START_SMALL", "maybe"), ("FRAZIL_TIMEOUT_S", "soon")],
)
def test_a_variable_that_can_not_be_read_is_named(variable: str, text: str) -> None:
    with pytest.raises(RequestError, match=variable):
        Settings.from_env({variable: text})


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAZIL_MAX_ATTEMPTS", "2")
    assert Settings.from_env().max_attempts == 2


def test_every_knob_can_be_given_as_a_variable_with_its_own_default() -> None:
    defaults = Settings()
    environ = {f"FRAZIL_{knob.name.upper()}": str(getattr(defaults, knob.name)) for knob in fields(Settings)}
    assert Settings.from_env(environ) == defaults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split_target_bytes", "1"), ("split_target_bytes", 1.5), ("max_attempts", True), ("timeout_s", float("nan")),
        ("timeout_s", "10"), ("start_small", "yes"), ("start_small", 1), ("codec", None), ("heartbeat_s", None),
        ("function_memory_bytes", -1), ("max_platform_failures", 0), ("result_ttl_s", -1), ("start_timeout_s", 0),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name):
        _settings(**{name: value})
