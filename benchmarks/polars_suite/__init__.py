"""Polars' own tests, run through Frazil: what passes, and what of it was really distributed (docs/polars-suite.md).

The tests come from a checkout of Polars (``FRAZIL_POLARS_CHECKOUT``); nothing of it is kept here. Main path:
``__main__`` → :mod:`.runs`, which starts pytest with :mod:`.plugin` → :mod:`.report`.
"""
