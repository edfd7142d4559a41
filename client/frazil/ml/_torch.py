"""Batches as an ``IterableDataset`` of PyTorch; PyTorch is imported when one is made, and is no dependency."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from frazil.ml._batches import Batches, BatchesState

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["torch_dataset"]


def _tensors(frame: pl.DataFrame) -> object:
    return frame.to_torch("dict")


def torch_dataset(batches: Batches, *, convert: Callable[[pl.DataFrame], object] = _tensors) -> Iterable[object]:
    """Return an ``IterableDataset`` whose items are batches: give it to a ``DataLoader`` with ``batch_size=None``.

    Of several workers of the loader each reads its own segments. Between machines, share out by
    ``batches.sharded(rank, world_size)``. ``state_dict`` and ``load_state_dict`` are those that torchdata's
    ``StatefulDataLoader`` asks each worker's copy for.

    Parameters
    ----------
    batches
        What to read.
    convert
        Makes an item of a batch. By default a dictionary of tensors (`polars.DataFrame.to_torch`).

    Raises
    ------
    ImportError
        When PyTorch is not installed.
    """
    return cast("Iterable[object]", _class()(batches, convert))


def _torch() -> ModuleType:
    try:
        importlib.import_module("torch.utils.data")
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ImportError(f'this needs PyTorch ({error}): pip install "torch" "numpy"') from error


@cache
def _class() -> type[Any]:
    """Return the class, which is made when PyTorch is there: its base is PyTorch's."""
    data = _torch().utils.data
    base: type[Any] = data.IterableDataset

    class ResultDataset(base):  # type: ignore[misc]  # its base is known only at run time
        """Batches of a result."""

        def __init__(self, batches: Batches, convert: Callable[[pl.DataFrame], object]) -> None:
            super().__init__()
            self._whole = batches
            self._convert = convert
            self._own: Batches | None = None
            self._state: BatchesState | None = None

        def __reduce__(self) -> tuple[object, ...]:
            return partial(torch_dataset, convert=self._convert), (self._whole,)

        def _batches(self) -> Batches:
            """Return the batches of this worker."""
            if self._own is None:
                worker = data.get_worker_info()
                self._own = self._whole if worker is None else self._whole.sharded(worker.id, worker.num_workers)
            return self._own

        def __iter__(self) -> Iterator[object]:
            return map(self._convert, self._batches())

        def state_dict(self) -> BatchesState:
            return self._batches().state_dict()

        def load_state_dict(self, state: BatchesState) -> None:
            self._batches().load_state_dict(state)

    return ResultDataset
