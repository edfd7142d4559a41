"""The sans-IO state of one query."""
