"""Results as data sets: shared out among workers, resumable, picklable; PyTorch and TensorFlow by stand-ins."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import polars as pl
import pytest

import frazil
from frazil.ml import Batches, tensorflow_dataset, torch_dataset
from frazil_coordinator.settings import Settings
from frazil_functions.errors import RequestError
from support.serving import TOKEN, serving

ROWS = 1000


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frazil.Query]:
    folder = tmp_path_factory.mktemp("ml")
    pl.DataFrame({"x": range(ROWS), "label": [n % 2 == 0 for n in range(ROWS)]}).write_parquet(folder / "t.parquet")
    settings = Settings(start_small=False, max_rows_per_split=130)
    with serving(folder / "store", settings) as url, frazil.connect(url, token=TOKEN) as engine:
        yield engine.submit(pl.scan_parquet(folder / "t.parquet"))


def _values(batches: Batches) -> list[int]:
    return [value for frame in batches for value in frame["x"]]


def test_every_row_is_read_by_exactly_one_worker(query: frazil.Query) -> None:
    whole = Batches(query, batch_rows=32, segment_rows=100)
    assert _values(whole) == list(range(ROWS))
    assert _values(whole) == list(range(ROWS))  # another epoch
    shares = [_values(whole.sharded(rank, 2).sharded(worker, 3)) for rank in range(2) for worker in range(3)]
    assert sorted(value for share in shares for value in share) == list(range(ROWS))
    assert all(shares)


@pytest.mark.parametrize("taken", [0, 1, 4, 7, 12])
def test_a_worker_goes_on_where_its_state_says(query: frazil.Query, taken: int) -> None:
    def fresh() -> Batches:
        return Batches(query, batch_rows=30, segment_rows=100, shard=(1, 2))

    first = fresh()
    batches = iter(first)
    before = [value for _ in range(taken) for value in next(batches)["x"]]
    second = fresh()
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert before + _values(second) == _values(fresh())


def test_a_state_of_something_else_is_refused(query: frazil.Query) -> None:
    state = Batches(query, batch_rows=10, segment_rows=100).state_dict()
    with pytest.raises(RequestError, match="of worker"):
        Batches(query, batch_rows=10, segment_rows=100, shard=(0, 2)).load_state_dict(state)
    with pytest.raises(RequestError, match="segment_rows"):
        Batches(query, batch_rows=10, segment_rows=200).load_state_dict(state)
    with pytest.raises(RequestError, match="shard must be"):
        Batches(query, shard=(2, 2))


def test_batches_travel_to_a_worker_s_process(query: frazil.Query) -> None:
    assert _values(pickle.loads(pickle.dumps(Batches(query, batch_rows=100)))) == list(range(ROWS))


def test_a_local_engine_says_that_its_batches_can_t_travel(tmp_path: Path) -> None:
    with frazil.local(max_functions=1) as engine:
        local = engine.submit(pl.LazyFrame({"x": [1, 2, 3]}))
        assert _values(Batches(local, batch_rows=2)) == [1, 2, 3]
        with pytest.raises(RequestError, match="connect"):
            pickle.dumps(local)


def _lists(frame: pl.DataFrame) -> dict[str, list[object]]:
    return frame.to_dict(as_series=False)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stand in for PyTorch (200 MB): what of it a data set touches."""
    data = ModuleType("torch.utils.data")
    worker = SimpleNamespace(info=None)
    data.IterableDataset = type("IterableDataset", (), {})  # type: ignore[attr-defined]  # a module made here
    data.get_worker_info = lambda: worker.info  # type: ignore[attr-defined]  # as above
    root, utils = ModuleType("torch"), ModuleType("torch.utils")
    root.utils, utils.data = utils, data  # type: ignore[attr-defined]  # as above
    for name, module in (("torch", root), ("torch.utils", utils), ("torch.utils.data", data)):
        monkeypatch.setitem(sys.modules, name, module)
    from frazil.ml import _torch

    _torch._class.cache_clear()
    yield worker
    _torch._class.cache_clear()


def test_a_torch_data_set_shares_out_to_the_loader_s_workers_and_resumes(
    query: frazil.Query, torch: SimpleNamespace
) -> None:
    batches = Batches(query, batch_rows=50, segment_rows=100)
    seen = list[object]()
    for number in range(3):
        torch.info = SimpleNamespace(id=number, num_workers=3)
        dataset = pickle.loads(pickle.dumps(torch_dataset(batches, convert=_lists)))
        assert isinstance(dataset, sys.modules["torch.utils.data"].IterableDataset)
        items = iter(dataset)
        first = next(items)
        resumed: Any = torch_dataset(batches, convert=_lists)
        resumed.load_state_dict(dataset.state_dict())
        seen += [value for item in (first, *resumed) for value in item["x"]]
    assert sorted(map(str, seen)) == sorted(map(str, range(ROWS)))


def test_a_tensorflow_data_set_has_the_signature_of_the_result(query: frazil.Query, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(signature=None)

    def from_generator(generate: Callable[[], Iterator[object]], output_signature: object) -> list[object]:
        made.signature = output_signature
        return list(generate())

    tf = ModuleType("tensorflow")
    tf.TensorSpec = lambda shape, dtype: (shape, dtype)  # type: ignore[attr-defined]  # a module made here
    tf.int64, tf.bool = "int64", "bool"  # type: ignore[attr-defined]  # as above
    tf.data = SimpleNamespace(Dataset=SimpleNamespace(from_generator=from_generator))  # type: ignore[attr-defined]  # as above
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    items = tensorflow_dataset(Batches(query, batch_rows=400), convert=_lists)
    assert isinstance(items, list)
    assert [len(item["x"]) for item in items] == [400, 400, 200]
    assert made.signature == {"x": ((None,), "int64"), "label": ((None,), "bool")}


def test_without_the_framework_it_is_said_what_to_install(query: frazil.Query, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "torch.utils.data", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install"):
        torch_dataset(Batches(query))
    with pytest.raises(ImportError, match="pip install"):
        tensorflow_dataset(Batches(query))
