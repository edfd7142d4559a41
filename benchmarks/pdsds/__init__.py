"""PDS-DS: the 99 TPC-DS questions as SQL text for Polars, run through Frazil and compared with Polars.

Derived from TPC-DS: its schema and its questions, in words of our own; results are not comparable with published TPC-DS
results.
"""
