"""A response whose body may fail half-way: then the connection breaks, so that no reader takes a part for the whole."""

from __future__ import annotations

import logging

from fastapi.responses import StreamingResponse
from starlette.types import Send

from frazil_functions.errors import FrazilError

__all__ = ["BreakingResponse"]

_LOGGER = logging.getLogger(__name__)


class BreakingResponse(StreamingResponse):
    """Ends without its last chunk when the body raises an error of Frazil, which is then a line of the log.

    The server closes the connection of a response that is not complete. Raising would do it too, and write a traceback for
    what is no fault of the server: a store that fails, or a coordinator that ends.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the body as far as there is one."""
        try:
            await super().stream_response(send)
        except FrazilError as error:
            _LOGGER.warning("a result broke off", extra={"error": error.kind, "reason": error.message})
