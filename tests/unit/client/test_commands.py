"""Commands that ask a coordinator for one thing leave no connection behind."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import frazil
from frazil._remote import RemoteSession
from frazil.cli import _app

NOBODY = ["--url", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    "command",
    [
        ["queries"],
        ["cancel", "q1"],
        ["top", "--json"],
        ["tables", "list"],
        ["tables", "list", "--catalog", "lake"],
        ["tables", "catalogs"],
        ["tables", "show", "t"],
        ["tables", "put", "t", "/t.parquet"],
        ["tables", "drop", "t"],
        ["triggers", "list"],
        ["triggers", "show", "t"],
        ["triggers", "put", "t", "/in/", "--sink", "/out/", "--sql", "SELECT 1"],
        ["triggers", "drop", "t"],
        ["triggers", "pause", "t"],
        ["triggers", "resume", "t"],
        ["triggers", "run", "t"],
        ["triggers", "replay", "t", "--since", "2026-11-30"],
        ["triggers", "dead-letters", "t"],
        ["sql", "SELECT 1"],
    ],
    ids=" ".join,
)
def test_a_command_whose_request_fails_closes_its_session(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[RemoteSession] = []
    close = RemoteSession.close

    def fail(*args: object, **kwargs: object) -> bytes:
        raise frazil.UnreachableError("nobody is there")

    def closes(session: RemoteSession) -> None:
        closed.append(session)
        close(session)

    monkeypatch.setattr(RemoteSession, "_send", fail)
    monkeypatch.setattr(RemoteSession, "close", closes)
    result = CliRunner().invoke(_app, [*command, *NOBODY])
    assert isinstance(result.exception, frazil.UnreachableError)
    assert len(closed) == 1
