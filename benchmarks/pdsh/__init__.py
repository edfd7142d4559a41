"""PDS-H: the 22 TPC-H questions as Polars queries, run through Frazil and compared with Polars."""
