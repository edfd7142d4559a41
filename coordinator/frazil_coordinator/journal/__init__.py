"""What a coordinator writes of a query, so that another one can go on with it (docs/journal.md)."""
