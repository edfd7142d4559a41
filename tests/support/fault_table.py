"""The fault table (`tests/faults/faults.toml`): its rows, what each one strikes, and what has been struck."""

from __future__ import annotations

import re
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

__all__ = ["DELAY_S", "Attempt", "Kind", "Level", "Row", "Strikes", "rows", "victim"]

Level: TypeAlias = Literal["scripted", "in-process", "processes"]
Kind: TypeAlias = Literal[
    "error", "lost response", "duplicate", "delay", "silence", "crash", "torn stream", "missing", "damaged"
]
Attempt: TypeAlias = tuple[int, int, int]
"""Stage, task, number of the try."""

DELAY_S = 0.3
"""Seconds that a delay lasts in real time: longer than any task of the tests takes."""

_LAST_STAGE = 2
"""Of the queries of the tests."""

_TABLE = Path(__file__).parents[1] / "faults" / "faults.toml"
_LEVELS: tuple[Level, ...] = ("scripted", "in-process", "processes")
_OBJECT = re.compile(r"/(\d+)/(\d+)/(\d+)-[0-9a-f]{32}$")
_SEGMENT = re.compile(r"journal/[^/]+/(\d{8})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; its fields are explained at the head of the table."""

    name: str
    at: Literal["store", "invoke", "function", "coordinator"]
    strikes: Literal["PUT", "GET", "event", "answer", "last line", "task", "record", "before record", "after record"]
    kind: Kind
    times: Literal["once", "until the client gives up", "always"] = "once"
    victims: Literal["every second", "one a stage", "a tenth"] = "every second"
    told: str = ""
    attempts: int = 0
    objects: int = 0
    ends: str = ""
    levels: tuple[Level, ...] = _LEVELS
    only: str = ""

    def is_a(self, strikes: str, kind: Kind) -> bool:
        """Return whether the row strikes that, and so."""
        return self.strikes == strikes and self.kind == kind


def rows(level: Level | None = None) -> list[Row]:
    """Return the rows of the table that are run at `level`; None for all."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    found = [_row(row) for row in cast("list[dict[str, object]]", table["row"])]
    return [row for row in found if level is None or level in row.levels]


def _row(raw: dict[str, object]) -> Row:
    raw["levels"] = tuple(cast("list[str]", raw.get("levels", _LEVELS)))
    return Row(**raw)  # type: ignore[arg-type]  # the test of the table checks its words


def victim(row: Row, attempt: Attempt) -> bool:
    """Return whether the row strikes an attempt, or what it wrote."""
    stage, task, number = attempt
    if number and row.times != "always":
        return False
    if row.strikes == "GET" and stage == _LAST_STAGE:  # what no task reads
        return False
    match row.victims:
        case "every second":
            return (stage + task) % 2 == 0
        case "one a stage":
            return task == 1
        case "a tenth":
            return (stage * 31 + task * 7) % 10 == 3


@dataclass
class Strikes:
    """Says of each thing whether the row strikes it, and remembers what was struck. Safe for threads."""

    row: Row
    struck: set[object] = field(default_factory=set)
    """The things: attempts, objects, segments of the journal."""

    _counts: dict[object, int] = field(default_factory=dict)
    _passing: set[object] = field(default_factory=set)
    _readers: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attempt(self, attempt: Attempt) -> bool:
        """Return whether to strike the attempt, its event or its answer."""
        return self.row.at in ("invoke", "function") and victim(self.row, attempt) and self._note(attempt)

    def write(self, key: str) -> bool:
        """Return whether to strike a PUT of an object of the exchange."""
        attempt = _attempt_of(key)
        return self.row.strikes == "PUT" and attempt is not None and victim(self.row, attempt) and self._within(key)

    def read(self, key: str, place: str) -> bool:
        """Return whether to strike a GET of an object of the exchange: those of the reader that comes first.

        Parameters
        ----------
        key
            Of the object.
        place
            Which bytes; each reader of an object reads others.
        """
        attempt = _attempt_of(key)
        if self.row.strikes != "GET" or attempt is None or not victim(self.row, attempt):
            return False
        with self._lock:
            first = self._readers.setdefault(key, place) == place
        return first and self._within((key, place))

    def record(self, key: str, number: int) -> bool:
        """Return whether to strike the PUT of a segment of the journal: of the one with that number."""
        found = _SEGMENT.search(key)
        return self.row.strikes == "record" and found is not None and int(found[1]) == number and self._within(key)

    def relent(self) -> None:
        """Let reads pass from now on that were struck so far: who made them has given up."""
        with self._lock:
            self._passing |= set(self._counts)

    def _within(self, thing: object) -> bool:
        """Return whether a request for a thing is struck: once, or always, or until the client gives up.

        Nobody but the attempt that is struck writes under its key; a read is made again by the next attempt.
        """
        with self._lock:
            seen = self._counts[thing] = self._counts.get(thing, 0) + 1
            struck = thing not in self._passing and (seen == 1 or self.row.times != "once")
            if struck:
                self.struck.add(thing)
            return struck

    def _note(self, thing: object) -> bool:
        with self._lock:
            self.struck.add(thing)
        return True


def _attempt_of(key: str) -> Attempt | None:
    """Return which attempt wrote an object of the exchange; None for any other object."""
    found = _OBJECT.search(key)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))
