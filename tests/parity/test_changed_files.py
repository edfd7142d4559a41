"""A file that was replaced between planning and reading is an error that names it, never an answer made of both."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.errors import SourceError
from frazil_functions.storage import FolderStore
from support import in_stages
from support.parity import assert_same
from support.seaweed import SeaweedFS

FRAME = pl.DataFrame({"a": range(40), "s": [f"text, {n}" for n in range(40)]})
SETTINGS = Settings(start_small=False, max_rows_per_split=4, split_target_bytes=90)
Write = Callable[[pl.DataFrame], bytes]


def _written(write: str, **options: Any) -> Write:
    def encode(frame: pl.DataFrame) -> bytes:
        data = io.BytesIO()
        getattr(frame, write)(data, **options)
        return data.getvalue()

    return encode


FORMATS: dict[str, tuple[Write, Callable[..., pl.LazyFrame]]] = {
    "parquet": (_written("write_parquet", row_group_size=10), pl.scan_parquet),
    "ipc": (_written("write_ipc", record_batch_size=10), pl.scan_ipc),
    "csv": (_written("write_csv"), pl.scan_csv),
    "ndjson": (_written("write_ndjson"), pl.scan_ndjson),
}
CHANGES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "of the same size": lambda frame: frame.with_columns(a=frame["a"].reverse()),
    "shorter": lambda frame: frame.head(3),
    "longer": lambda frame: pl.concat([frame, frame]),
}


def _check(
    monkeypatch: pytest.MonkeyPatch, lf: pl.LazyFrame, change: Callable[[], object], store: FolderStore, name: str
) -> None:
    assert_same(in_stages.answer_in_stages(lf, SETTINGS, store), FRAME, ordered=True)

    def plan_and_change(plan: bytes, settings: Settings) -> Any:
        graph = plan_query(plan, settings)
        assert max(stage.tasks for stage in graph.stages) > 3
        change()
        return graph

    monkeypatch.setattr(in_stages, "plan_query", plan_and_change)
    with pytest.raises(SourceError, match="replaced or changed") as caught:
        in_stages.answer_in_stages(lf, SETTINGS, store)
    assert caught.value.where["file"].endswith(name)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_replaced_file_in_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: str) -> None:
    write, scan = FORMATS[kind]
    path = tmp_path / f"0.{kind}"
    path.write_bytes(write(FRAME))
    _check(
        monkeypatch,
        scan(path),
        lambda: path.write_bytes(write(CHANGES[change](FRAME))),
        FolderStore(tmp_path / "store"),
        path.name,
    )


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_replaced_object_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seaweed: SeaweedFS, kind: str, change: str
) -> None:
    write, scan = FORMATS[kind]
    name = f"{change.replace(' ', '-')}.{kind}"
    seaweed.put("changed", name, write(FRAME))
    _check(
        monkeypatch,
        scan(seaweed.url(f"changed/{name}"), storage_options=seaweed.storage_options, credential_provider=None),
        lambda: seaweed.put("changed", name, write(CHANGES[change](FRAME))),
        FolderStore(tmp_path / "store"),
        name,
    )
