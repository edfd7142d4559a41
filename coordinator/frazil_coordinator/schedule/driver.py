"""Drive one query."""
