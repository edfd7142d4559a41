"""Exchange objects that nobody will ask for again, and those that somebody may."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from frazil_coordinator.orphans import collect_orphans
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore

DAY_S = 86_400.0


def _write(store: FolderStore, root: Path, query: str, name: str, age_s: float, prefix: str = "exchange") -> Path:
    (folder,) = query_prefixes(prefix, QueryId(query))
    key = f"{folder}{name}"
    store.put(key, [b"x"])
    path = root / key
    written = time.time() - age_s
    os.utime(path, (written, written))
    return path


@pytest.mark.parametrize("prefix", ["exchange", "a/b", ""])
async def test_only_objects_of_old_unknown_queries_are_deleted(tmp_path: Path, prefix: str) -> None:
    store = FolderStore(tmp_path)
    orphans = [_write(store, tmp_path, "gone", name, 2 * DAY_S, prefix) for name in ("0/0/0-a", "1/fragment")]
    kept = [
        _write(store, tmp_path, "known", "0/0/0-a", 2 * DAY_S, prefix),
        _write(store, tmp_path, "young", "0/0/0-a", 60.0, prefix),
        _write(store, tmp_path, "alive", "0/0/0-a", 2 * DAY_S, prefix),
        _write(store, tmp_path, "alive", "0/1/0-a", 60.0, prefix),
    ]
    for other in ("data/table.parquet", "exchange/notes.txt", "exchange/zz/gone/0/0/0-a"):
        store.put(other, [b"x"])
        os.utime(tmp_path / other, (0.0, 0.0))
        kept.append(tmp_path / other)
    found = await collect_orphans(store, prefix, lambda query: query == "known", DAY_S)
    assert found == ("gone",)
    assert not any(path.exists() for path in orphans)
    assert all(path.exists() for path in kept)
