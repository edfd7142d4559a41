"""The triggers of a coordinator: ``engine.triggers`` (docs/triggers.md)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from frazil._serialize import serialize
from frazil._session import Session, TriggerSession, WithTriggers
from frazil_coordinator.events.model import (
    DeadLetter,
    Mode,
    SinkFormat,
    Trigger,
    TriggerSource,
    TriggerStatus,
    Window,
)
from frazil_functions.errors import RequestError

__all__ = ["Triggers"]


class Triggers(Mapping[str, Trigger]):
    """Triggers by name. Each access asks the coordinator.

    Parameters
    ----------
    session
        The connection to it.

    Raises
    ------
    RequestError
        When it has none.
    """

    def __init__(self, session: Session) -> None:
        if not isinstance(session, WithTriggers):
            raise RequestError("this engine has no triggers")
        self._session = session
        self._triggers: TriggerSession = session.triggers

    def __getitem__(self, name: str) -> Trigger:
        known = next((view.trigger for view in self._triggers.list() if view.trigger.name == name), None)
        if known is None:
            raise KeyError(name)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter([view.trigger.name for view in self._triggers.list()])

    def __len__(self) -> int:
        return len(self._triggers.list())

    def status(self, name: str) -> TriggerStatus:
        """Return what a trigger has done, does now, and how far its output is behind.

        Raises
        ------
        RequestError
            When there is none of that name; so do all methods but :meth:`put`.
        """
        return self._triggers.show(name).status

    def put(
        self,
        name: str,
        query: pl.LazyFrame | str,
        *,
        source: str,
        sink: str = "",
        suffix: str = "",
        mode: Mode = "append",
        count: int | None = None,
        bytes: int | None = None,  # noqa: A002  # as the API calls it
        seconds: float | None = None,
        format: SinkFormat | None = None,  # noqa: A002  # as the API calls it
        storage_options: Mapping[str, str] | None = None,
        backfill: bool = True,
        max_attempts: int = 3,
        list_every_s: float = 60.0,
        lateness_s: float = 7 * 86_400.0,
        priority: int = 0,
        comment: str = "",
        expected: int | None = None,
    ) -> Trigger:
        """Make or replace a trigger, after a look at its query and an object of its source.

        Parameters
        ----------
        name
            Letters, digits, ``_`` and ``-``.
        query
            A LazyFrame, which may end in a lazy sink, or a statement over the coordinator's tables.
        source
            Folder, or beginning of keys, of the objects; the query must read them.
        sink
            Folder (``…/``) in mode ``append``, one file otherwise; empty when the LazyFrame has a sink.
        suffix
            What the names of objects end with.
        mode
            ``append``: the query over the new objects adds files. ``refresh``: the whole query replaces one file.
            ``incremental``: aggregates of the new objects are merged into those kept.
        count, bytes, seconds
            The window: new objects are taken up together as soon as one of these is reached. None of them: at once.
        format
            Of the output. None: by the sink's suffix, else Parquet.
        storage_options
            Of the sink's store. None: those of the scan, if it reads from a store of the same kind.
        backfill
            Whether objects that are there already count as new.
        max_attempts
            Times that one object may fail the query until it is given up.
        list_every_s
            Seconds between listings of the source.
        lateness_s
            See docs/triggers.md.
        priority
            Of its queries.
        comment
            For people.
        expected
            Version that it replaces; 0: it must be new. None: whatever is there.

        Raises
        ------
        RequestError
            When a value is refused, or somebody else changed the trigger.
        UserError
            When the query can't be planned.
        """
        session, is_sql = self._session, isinstance(query, str)
        plan = b""
        if isinstance(query, pl.LazyFrame):
            limit = session.settings.max_plan_bytes
            plan = serialize(query, max_plan_bytes=limit, shares_files=session.shares_files)
        given = TriggerSource(
            source=source,
            suffix=suffix,
            sql=str(query) if is_sql else "",
            plan=plan,
            sink=sink,
            format=format,
            storage_options=dict(storage_options or {}),
            mode=mode,
            window=Window(count=count, bytes=bytes, seconds=seconds),
            backfill=backfill,
            max_attempts=max_attempts,
            list_every_s=list_every_s,
            lateness_s=lateness_s,
            priority=priority,
            comment=comment,
        )
        return self._triggers.put(name, given, expected)

    def drop(self, name: str, *, expected: int | None = None) -> None:
        """Drop a trigger and what it remembers; its output stays."""
        self._triggers.drop(name, expected)

    def pause(self, name: str) -> None:
        """Let a trigger start no more windows."""
        self._triggers.pause(name, paused=True)

    def resume(self, name: str) -> None:
        """Let a trigger go on, after a pause or after it was halted."""
        self._triggers.pause(name, paused=False)

    def run(self, name: str) -> None:
        """List a trigger's source now, and take up what is new, whatever its window says."""
        self._triggers.run(name)

    def replay(self, name: str, since: dt.datetime | float = 0.0) -> None:
        """Let all objects modified since a time be new again; the files of the output stay.

        Parameters
        ----------
        name
            The trigger.
        since
            A time, or seconds since 1970.
        """
        self._triggers.replay(name, since.timestamp() if isinstance(since, dt.datetime) else since)

    def dead_letters(self, name: str) -> tuple[DeadLetter, ...]:
        """Return the objects that a trigger gave up, and why."""
        return self._triggers.dead(name)

    def retry(self, name: str, urls: Sequence[str] | None = None) -> int:
        """Try dead letters again, all or some, and return how many."""
        return self._triggers.revive(name, urls)
