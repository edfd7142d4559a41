"""What queries and triggers have done is announced to a sink at least once, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from frazil_coordinator.events import announcing
from frazil_coordinator.events.announcing import FAILED_TYPE, PUBLISHED_TYPE, SUCCEEDED_TYPE, Announcer, extensions_of
from frazil_coordinator.events.cloudevents import CloudEvent, decode
from frazil_functions.errors import RequestError
from support.polling import eventually_async
from support.triggering import TriggerWorld, trigger_world


class Broker:
    """Takes CloudEvents, and refuses as long as it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[CloudEvent] = []
        self.answers: list[int] = []
        """Of the next requests, before it takes all."""

        self.refused = 0

    async def take(self, request: web.Request) -> web.Response:
        if self.answers:
            self.refused += 1
            return web.Response(status=self.answers.pop(0))
        (event,) = decode({"content-type": request.headers["content-type"]}, await request.read())
        self.taken.append(event)
        return web.Response(status=202)


@asynccontextmanager
async def _broker() -> AsyncIterator[Broker]:
    broker = Broker()
    app = web.Application()
    app.router.add_post("/", broker.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    broker.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield broker
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _announcing(world: TriggerWorld, sink: str) -> AsyncIterator[Announcer]:
    announcer = Announcer(world.coordinator, sink, {"env": "test"})
    running = asyncio.ensure_future(announcer.run())
    try:
        yield announcer
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_ends_of_queries_and_publications_are_announced_though_the_sink_fails_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_FIRST_PAUSE_S", 0.0)
    async with (
        _broker() as broker,
        trigger_world(tmp_path, monkeypatch) as world,
        _announcing(world, broker.url) as announcer,
    ):
        broker.answers = [503, 429, 404]
        world.triggers._on_published = announcer.published
        world.write("a.parquet", 1, 2)
        await world.put()
        await world.has_rows([1, 2])
        failing = await world.coordinator.submit(world.lf().select("nosuch").serialize())
        await world.coordinator.wait(failing.id)
        await eventually_async(lambda: len(broker.taken) == 3, "three events")
        by_type = {event.type: event for event in broker.taken}
        assert set(by_type) == {SUCCEEDED_TYPE, FAILED_TYPE, PUBLISHED_TYPE}
        published = by_type[PUBLISHED_TYPE]
        data = published.data
        assert isinstance(data, dict)
        assert (published.subject, published.source, published.attributes["env"]) == ("t", "/frazil/default", "test")
        assert (data["objects"], data["rows"], data["file_count"]) == (1, 2, 1)
        assert [data["files"][0]["path"]] == [str(path) for path in world.out.iterdir()]
        failed = by_type[FAILED_TYPE]
        assert failed.id == f"{failing.id}-failed"
        assert isinstance(failed.data, dict)
        assert failed.data["error"]["kind"] == "query"
        assert broker.refused == 3
        await eventually_async(lambda: not _waiting(tmp_path), "what was sent is deleted")


def _waiting(folder: Path) -> list[str]:
    return [path.name for path in (folder / "store" / "announcements").glob("*") if path.name != "mark"]


async def test_what_was_not_sent_before_a_crash_is_sent_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        async with _announcing(world, "http://127.0.0.1:9/"):  # nobody listens there
            query = await world.coordinator.submit(world.lf().select("nosuch").serialize())
            assert (await world.coordinator.wait(query.id)).error is not None  # it has ended, whatever the sink does
            await eventually_async(lambda: len(_waiting(tmp_path)) == 1, "it is written down")
        async with _broker() as broker, _announcing(world, broker.url):
            await eventually_async(lambda: len(broker.taken) == 1, "it is sent")
            assert broker.taken[0].subject == query.id


async def test_what_ended_after_the_mark_and_was_not_written_down_is_announced_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.coordinator.store.put("announcements/mark", [b"1.0"])
        query = await world.coordinator.submit(world.lf().select("nosuch").serialize())
        await world.coordinator.wait(query.id)
        async with _broker() as broker, _announcing(world, broker.url):
            await eventually_async(lambda: len(broker.taken) == 1, "it is announced")
            assert broker.taken[0].subject == query.id


async def test_an_event_that_the_sink_will_never_take_does_not_hold_up_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _broker() as broker, trigger_world(tmp_path, monkeypatch) as world, _announcing(world, broker.url):
        broker.answers = [400]
        for _ in range(2):
            query = await world.coordinator.submit(world.lf().select("nosuch").serialize())
            await world.coordinator.wait(query.id)
        await eventually_async(lambda: len(broker.taken) == 1, "the second one is taken")


def test_what_knative_writes_for_a_sink_binding_is_read() -> None:
    assert extensions_of('{"extensions": {"env": "prod"}}') == {"env": "prod"}
    assert extensions_of("") == {}
    with pytest.raises(RequestError, match="K_CE_OVERRIDES"):
        extensions_of("[]")


def test_a_sink_must_be_a_url(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="http or https"):
        Announcer(None, "broker")  # type: ignore[arg-type]  # refused before it is looked at
