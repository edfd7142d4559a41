"""How ``frazil serve`` writes its log: one event a line, with its fields (query, stage, task, attempt …) behind it."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["FieldFormatter"]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""What every record has; the rest came by ``extra``. `color_message` is uvicorn's second form of the message."""


class FieldFormatter(logging.Formatter):
    """Writes a record's extra fields as ``name=value``, which logging itself leaves out."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        """Return the line of a record, without its traceback."""
        fields = (f" {name}={value}" for name, value in vars(record).items() if name not in _OWN and value is not None)
        return super().formatMessage(record) + "".join(fields)
