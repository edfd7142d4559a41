"""The demonstration, ``make demo``: TPC-H on a real S3 server, by functions that start from zero, checked against Polars.

:mod:`~benchmarks.demo.__main__` is the command, :mod:`~benchmarks.demo.story` what happens, :mod:`~benchmarks.demo.view` how
it looks, :mod:`~benchmarks.demo.coordinator` the coordinator's process, whose profile has the prices.
"""
