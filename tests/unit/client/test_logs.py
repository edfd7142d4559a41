"""The log of ``frazil serve``: fields stand behind the event."""

from __future__ import annotations

import logging

from frazil.cli._logs import FieldFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    return logging.getLogger("frazil.test").makeRecord(
        "frazil.test", logging.WARNING, __file__, 1, message, (), None, extra=fields
    )


def test_the_fields_of_an_event_stand_behind_it() -> None:
    line = FieldFormatter().format(record("attempt failed", query="3f0c", attempt=1, error=None))
    assert line.endswith("WARNING frazil.test attempt failed query=3f0c attempt=1")


def test_an_event_without_fields_is_only_itself() -> None:
    assert FieldFormatter().format(record("plain")).endswith("WARNING frazil.test plain")
