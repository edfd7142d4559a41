"""Helpers shared by the tests: real servers, comparison of frames, processes."""
