"""What is written down of each test, one JSON object a line, and how it is read again. Judged in :mod:`.report`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["DISTRIBUTED_ROWS", "Outcome", "QueryRecord", "TestRecord", "append_record", "read_records"]

DISTRIBUTED_ROWS: Final = 4
"""Rows of a split; a query over more of them can be distributed."""

Outcome: TypeAlias = Literal["passed", "failed", "skipped"]


class QueryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One query that a test ran through Frazil to its end."""

    state: str
    """See `frazil.QueryState`."""

    rows: int
    """Rows of its largest source."""

    tasks: int = 0
    """Tasks of its widest stage."""

    fallbacks: tuple[str, ...] = ()

    @property
    def is_multi_row(self) -> bool:
        """Whether it could be distributed: it succeeded, over more rows than a split has."""
        return self.state == "succeeded" and self.rows > DISTRIBUTED_ROWS

    @property
    def is_distributed(self) -> bool:
        """Whether some stage ran in several tasks, and none fell back to one."""
        return self.is_multi_row and self.tasks > 1 and not self.fallbacks


class TestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One test."""

    __test__ = False  # for pytest, which takes it for a test class

    id: str
    outcome: Outcome
    seconds: float = 0.0
    error: str = ""
    """Class and first line of what it failed with."""

    queries: tuple[QueryRecord, ...] = ()

    @property
    def is_multi_row(self) -> bool:
        """Whether one of its queries could be distributed."""
        return any(query.is_multi_row for query in self.queries)

    @property
    def is_distributed(self) -> bool:
        """Whether one of its queries was."""
        return any(query.is_distributed for query in self.queries)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(TestRecord)


def append_record(path: Path, record: TestRecord) -> None:
    """Write a line."""
    with path.open("ab") as file:
        file.write(_ENCODER.encode(record) + b"\n")


def read_records(path: Path) -> Mapping[str, TestRecord]:
    """Return test id → its record, the last one when there are several.

    Raises
    ------
    msgspec.DecodeError
        When a line is not a record.
    """
    records = (_DECODER.decode(line) for line in path.read_bytes().splitlines() if line)
    return {record.id: record for record in records}
