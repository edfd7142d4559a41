"""The settings of a function process: what it reads, and what it refuses without telling secrets."""

from __future__ import annotations

import pytest

from frazil_functions.errors import RequestError
from frazil_functions.settings import FunctionSettings

ENOUGH = {"FRAZIL_TASK_KEYS": "new, old", "FRAZIL_STORE_URL": "/data/store"}


def test_keys_and_store_are_enough() -> None:
    settings = FunctionSettings.from_env(ENOUGH)
    assert settings == FunctionSettings(task_keys=("new", "old"), store_url="/data/store")
    assert (settings.host, settings.port, settings.socket_fd, settings.concurrency) == ("0.0.0.0", 8080, None, 1)


def test_every_variable_is_read() -> None:
    settings = FunctionSettings.from_env(
        {
            **ENOUGH,
            "FRAZIL_FUNCTION_HOST": "127.0.0.1",
            "PORT": "9090",
            "FRAZIL_FUNCTION_FD": "7",
            "FRAZIL_STORE_OPTIONS": '{"aws_region": "eu", "aws_allow_http": true}',
            "FRAZIL_MEMORY_LIMIT_BYTES": "1000",
            "FRAZIL_FUNCTION_CONCURRENCY": "3",
            "FRAZIL_ALLOW_UDFS": "true",
            "FRAZIL_PARENT_PID": "42",
            "FRAZIL_LOG_LEVEL": "DEBUG",
        }
    )
    assert settings == FunctionSettings(
        task_keys=("new", "old"),
        store_url="/data/store",
        store_options={"aws_region": "eu", "aws_allow_http": "true"},
        host="127.0.0.1",
        port=9090,
        socket_fd=7,
        memory_limit_bytes=1000,
        concurrency=3,
        allow_udfs=True,
        parent_pid=42,
        log_level="debug",
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FRAZIL_TASK_KEYS", "", "FRAZIL_TASK_KEYS"),
        ("FRAZIL_TASK_KEYS", " , ", "FRAZIL_TASK_KEYS"),
        ("FRAZIL_STORE_URL", "", "FRAZIL_STORE_URL"),
        ("FRAZIL_STORE_OPTIONS", "[1]", "FRAZIL_STORE_OPTIONS"),
        ("PORT", "http", "PORT='http'"),
        ("FRAZIL_FUNCTION_CONCURRENCY", "0", "CONCURRENCY"),
        ("FRAZIL_MEMORY_LIMIT_BYTES", "-1", "MEMORY_LIMIT"),
        ("FRAZIL_ALLOW_UDFS", "maybe", "ALLOW_UDFS"),
        ("FRAZIL_LOG_LEVEL", "loud", "LOG_LEVEL"),
    ],
)
def test_a_wrong_value_is_named(variable: str, value: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        FunctionSettings.from_env({**ENOUGH, variable: value})


def test_no_secret_is_in_a_message_or_a_representation() -> None:
    with pytest.raises(RequestError) as caught:
        FunctionSettings.from_env({**ENOUGH, "FRAZIL_STORE_OPTIONS": '{"aws_secret_access_key": "hush"'})
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    settings = FunctionSettings.from_env({**ENOUGH, "FRAZIL_STORE_OPTIONS": '{"aws_secret_access_key": "hush"}'})
    assert "hush" not in repr(settings)
    assert "new" not in repr(settings)
