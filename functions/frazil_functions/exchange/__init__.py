"""The exchange: how one stage's output reaches the next (docs/exchange.md).

:mod:`~frazil_functions.exchange.format` lays out objects, :mod:`~frazil_functions.exchange.codec` encodes blocks,
:mod:`~frazil_functions.exchange.partition` decides partitions, :mod:`~frazil_functions.exchange.writer` and
:mod:`~frazil_functions.exchange.reader` do both ends.
"""
