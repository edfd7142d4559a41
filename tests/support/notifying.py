"""A SeaweedFS whose filer tells of its files by its own webhook, as its operator configures it (docs/triggers.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.seaweed import SeaweedFS, run_seaweed

__all__ = ["run_notifying_seaweed"]

_CONFIGURATION = """
[notification.webhook]
enabled = true
endpoint = "{endpoint}"
bearer_token = "{token}"
backoff_seconds = 1
path_prefixes = ["/buckets/"]
"""


@contextlib.contextmanager
def run_notifying_seaweed(folder: Path, endpoint: str, token: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """Run a server that posts to `endpoint` what happens to its files; it looks for its configuration at home."""
    home = folder / "home"
    (home / ".seaweedfs").mkdir(parents=True)
    (home / ".seaweedfs" / "notification.toml").write_text(_CONFIGURATION.format(endpoint=endpoint, token=token))
    monkeypatch.setenv("HOME", str(home))
    with run_seaweed(folder / "data") as server:
        yield server
