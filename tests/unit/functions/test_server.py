"""The server of a function process ends when it is told to, and not when it next looks."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from uvicorn.config import Config

from frazil_functions.app import FunctionApp
from frazil_functions.server import _Server
from frazil_functions.settings import FunctionSettings
from frazil_functions.storage import open_store
from support.virtual_time import run_virtually


@pytest.fixture
def server(tmp_path: Path) -> _Server:
    environment = {"FRAZIL_STORE_URL": str(tmp_path), "FRAZIL_TASK_KEYS": "a key"}
    app = FunctionApp(FunctionSettings.from_env(environment), open_store(str(tmp_path)))
    config = Config(app, lifespan="off", ws="none", log_config=None)
    config.load()
    made = _Server(config, app)
    made.servers = []  # it listens nowhere
    return made


class Connection:
    """A connection of uvicorn's whose request ends some time after it was asked to close."""

    def __init__(self, server: _Server, ends_after_s: float) -> None:
        self._state, self._ends_after_s = server.server_state, ends_after_s
        connections: set[Any] = self._state.connections
        connections.add(self)

    def shutdown(self) -> None:
        if self._ends_after_s:
            asyncio.get_running_loop().call_later(self._ends_after_s, self._close)
        else:
            self._close()

    def _close(self) -> None:
        connections: set[Any] = self._state.connections
        connections.discard(self)


async def _seconds_to_end(server: _Server) -> float:
    loop = asyncio.get_running_loop()
    loop.call_later(3.25, server.handle_exit, signal.SIGTERM, None)
    await server.main_loop()
    await server.shutdown()
    return loop.time() - 3.25


@pytest.mark.parametrize("connections", [0, 2])
def test_an_idle_server_ends_at_once(server: _Server, connections: int) -> None:
    for _ in range(connections):
        Connection(server, 0.0)
    assert run_virtually(_seconds_to_end(server)) == 0.0


def test_a_request_that_runs_is_waited_for(server: _Server) -> None:
    Connection(server, 7.0)
    assert run_virtually(_seconds_to_end(server)) == pytest.approx(7.0, abs=0.01)


def test_a_signal_before_the_loop_runs_is_not_forgotten(server: _Server) -> None:
    server.handle_exit(signal.SIGTERM, None)
    run_virtually(server.main_loop())


def test_the_date_of_answers_is_kept_up_to_date(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dates() -> list[bytes]:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("uvicorn.server.time.time", loop.time)
        running, seen = asyncio.ensure_future(server.main_loop()), []
        for _ in range(3):
            await asyncio.sleep(1.05)
            seen.append(dict(server.server_state.default_headers)[b"date"])
        server.handle_exit(signal.SIGTERM, None)
        await running
        return seen

    assert [date[-12:] for date in run_virtually(dates())] == [b"00:00:01 GMT", b"00:00:02 GMT", b"00:00:03 GMT"]
