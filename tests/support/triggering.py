"""Triggers in the process of a test, over folders, with tasks in threads; and stores that crash at one of their writes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events import runner as runners
from frazil_coordinator.events import triggers as managers
from frazil_coordinator.events.formats import ObjectEvent
from frazil_coordinator.events.model import TriggerSource, TriggerStatus, Window
from frazil_coordinator.events.runner import Point
from frazil_coordinator.events.triggers import Triggers
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.publication.publish import sink_store
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore, PassingStore, Store
from support.polling import eventually_async
from support.scanning import ScanPlatform

__all__ = ["NAME", "TENANT", "CrashError", "CrashingStore", "TriggerWorld", "Writes", "trigger_world"]

TENANT = "default"
NAME = "t"


class CrashError(Exception):
    """What is remembered in memory is lost; what is in the stores stays."""


@dataclass
class Writes:
    """Counts the writes of triggers to all stores, and crashes at one of them, once."""

    at: int = -1
    after: bool = False
    """Whether the write has happened when it crashes."""

    seen: int = 0
    crashed: int = 0
    armed: bool = False
    held: threading.Event | None = None
    """What a commit waits for."""

    holding: threading.Event = field(default_factory=threading.Event)

    def step(self, write: Callable[[], object]) -> object:
        hit = self.armed and self.seen == self.at
        self.seen += self.armed
        if hit and not self.after:
            self.crashed += 1
            raise CrashError
        done = write()
        if hit:
            self.crashed += 1
            raise CrashError
        return done


class CrashingStore(PassingStore):
    """A store whose writes below some prefix are counted."""

    def __init__(self, store: Store, writes: Writes, prefix: str) -> None:
        super().__init__(store)
        self._writes = writes
        self._prefix = prefix

    def create(self, key: str, data: bytes) -> bool:
        if not key.startswith(self._prefix):
            return self._store.create(key, data)
        if self._writes.held is not None and "/commits/" in key:
            self._writes.holding.set()
            self._writes.held.wait(20)
        return bool(self._writes.step(lambda: self._store.create(key, data)))

    def install(self, source: str, target: str, size: int) -> None:
        self._writes.step(lambda: self._store.install(source, target, size))

    def delete(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        if gone and gone[0].startswith(self._prefix):
            self._writes.step(lambda: self._store.delete(gone))
        else:
            self._store.delete(gone)

    def delete_prefix(self, prefix: str) -> int:
        if not prefix.startswith(self._prefix):
            return self._store.delete_prefix(prefix)
        return int(str(self._writes.step(lambda: self._store.delete_prefix(prefix))))


@dataclass
class TriggerWorld:
    """A source of Parquet files, a trigger over it, and its output."""

    folder: Path
    triggers: Triggers
    coordinator: Coordinator
    points: Counter[str]
    crash_at: Callable[[Point], bool] = field(default=lambda _: False)

    @property
    def source(self) -> Path:
        return self.folder / "in"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, name: str, *values: int) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = self.folder / "half written"
        pl.DataFrame({"v": values}, schema={"v": pl.Int64}).write_parquet(waiting)
        waiting.replace(path)
        return path

    def lf(self) -> pl.LazyFrame:
        return pl.scan_parquet(f"{self.source}/*.parquet", schema={"v": pl.Int64})

    async def put(self, lf: pl.LazyFrame | None = None, *, sink: str | None = "out/", **more: object) -> None:
        query = self.lf() if lf is None else lf
        if "window" in more:
            more["window"] = Window(**more["window"])  # type: ignore[arg-type]  # as tests say
        given = {"source": f"{self.source}/", "suffix": ".parquet", "list_every_s": 3600.0, **more}
        source = TriggerSource(plan=query.serialize(), sink="" if sink is None else f"{self.folder}/{sink}", **given)  # type: ignore[arg-type]  # as tests say
        await self.triggers.put(NAME, source, tenant=TENANT)

    def tell(self, *paths: Path) -> None:
        self.triggers.notify([ObjectEvent(url=str(path)) for path in paths], None)

    def list_now(self) -> None:
        self.triggers.force(TENANT, NAME)

    def rows(self) -> list[int]:
        return sorted(value for file in self.out.rglob("*.parquet") for value in pl.read_parquet(file)["v"])

    async def has_rows(self, rows: Iterable[int], *, within_s: float = 20.0) -> None:
        expected = sorted(rows)
        try:
            await eventually_async(lambda: self.rows() == expected, "rows", within_s=within_s)
        except AssertionError:
            raise AssertionError(f"{self.rows()} and not {expected}: {self.status()}") from None

    @property
    def crashes(self) -> int:
        return self.points["crash"]

    async def listed(self) -> None:
        """Return when the source was listed once more, and that was acted on."""
        before = self.status().last_listed_unix_s
        self.list_now()
        await eventually_async(lambda: self.status().last_listed_unix_s not in (before, None), "listed")

    async def pending(self, count: int) -> None:
        await eventually_async(lambda: self.status().lag.pending_objects == count, f"{count} pending")

    async def is_busy(self) -> None:
        """Return when something has happened."""
        before = self.points.total()
        await eventually_async(lambda: self.points.total() > before or self.status().state == "idle", "busy")

    async def is_idle(self) -> None:
        await eventually_async(lambda: self.status().state == "idle", "idle")

    def status(self) -> TriggerStatus:
        return self.triggers.status(TENANT, NAME)

    def waiting(self) -> list[Path]:
        """Return the files that are staged."""
        return [path for path in self.folder.rglob(".frazil-triggers/**/*") if path.is_file()]


@asynccontextmanager
async def trigger_world(
    folder: Path, monkeypatch: pytest.MonkeyPatch, writes: Writes | None = None, **settings: object
) -> AsyncIterator[TriggerWorld]:
    """Give a world; `writes` counts and strikes what triggers write."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(managers, "_FIRST_PAUSE_S", 0.0)
    store: Store = FolderStore(folder / "store")
    platform = ScanPlatform(store)
    if writes is not None:
        counted = writes
        store = CrashingStore(store, counted, "triggers/")
        monkeypatch.setattr(
            runners, "sink_store", lambda url, options: CrashingStore(sink_store(url, options), counted, _own(url, folder))
        )
    coordinator = Coordinator(settings=Settings(**settings), platform=platform, store=store)  # type: ignore[arg-type]  # as tests say
    points = Counter[str]()
    triggers = Triggers(
        coordinator, sealer=Sealer.of(["a secret of thirty-two characters"]), on_point=lambda point: _passed(world, point)
    )
    world = TriggerWorld(folder=folder, triggers=triggers, coordinator=coordinator, points=points)
    running = asyncio.ensure_future(triggers.run())
    try:
        await eventually_async(lambda: triggers.started or running.done(), "triggers run")
        yield world
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await coordinator.aclose()


def _own(url: str, folder: Path) -> str:
    """Return the key of a world's folder in a store of files."""
    return str(folder / ".frazil-triggers").removeprefix(url.rstrip("/") + "/")


def _passed(world: TriggerWorld, point: Point) -> None:
    world.points[point] += 1
    if world.crash_at(point):
        world.points["crash"] += 1
        raise CrashError
