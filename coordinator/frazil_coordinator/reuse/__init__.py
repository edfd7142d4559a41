"""Reuse by digest: what a task or a query would answer is known by what it is made of, before it runs (docs/reuse.md).

:mod:`~frazil_coordinator.reuse.digests` says what it is made of, :mod:`~frazil_coordinator.reuse.kept` keeps answers in the
store, :mod:`~frazil_coordinator.reuse.flights` knows what runs now, :mod:`~frazil_coordinator.reuse.sharing` is what the
driver of one query asks, and :mod:`~frazil_coordinator.reuse.reuse` owns all of it for a coordinator.
"""
