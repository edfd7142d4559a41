"""Results as data sets for training: batches that stream from a coordinator, shared out to workers, resumable.

>>> from frazil.ml import Batches, torch_dataset
>>> dataset = torch_dataset(Batches(engine.submit(lf), batch_rows=4096))  # doctest: +SKIP

:mod:`frazil.ml._batches` reads and knows no framework; :mod:`frazil.ml._torch` and :mod:`frazil.ml._tensorflow` make data
sets of it, and import their framework only when they are called.
"""

from __future__ import annotations

from frazil.ml._batches import Batches, BatchesState
from frazil.ml._tensorflow import tensorflow_dataset
from frazil.ml._torch import torch_dataset

__all__ = ["Batches", "BatchesState", "tensorflow_dataset", "torch_dataset"]
