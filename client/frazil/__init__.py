"""Polars queries, distributed: what users import."""
