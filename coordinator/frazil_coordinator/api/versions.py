"""Which versions this coordinator serves: told by ``/v1/version``, by the head of each answer, and by what is refused.

A plan can be read by the version of polars that wrote it only. A client that names its versions beside a plan, in the
headers that the answers have, is refused before the plan is read; of one that does not, the plan itself tells. Used by
:mod:`frazil_coordinator.api.inputs` and :mod:`frazil_coordinator.api.problems`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version as distribution_version
from typing import Final

import polars as pl
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frazil_coordinator.api.models import Version
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import PlanVersionError

__all__ = ["POLARS_HEADER", "PROTOCOL_HEADER", "TellVersions", "require_versions", "served"]

POLARS_HEADER: Final = "Frazil-Polars"
PROTOCOL_HEADER: Final = "Frazil-Protocol"

_UNAUTHORIZED: Final = 401
_TOLD: Final = 40
"""Characters of a version that somebody sent, in an error."""


@cache
def served() -> Version:
    """Return the versions that a client must have, and the command that installs them."""
    frazil = distribution_version("frazil")
    return Version(
        frazil=frazil,
        polars=pl.__version__,
        protocol=PROTOCOL_VERSION,
        install=f'pip install "frazil=={frazil}" "polars=={pl.__version__}"',
    )


def require_versions(request: Request) -> None:
    """Refuse a plan whose sender names other versions than those that are served; one that names none is let through.

    Raises
    ------
    PlanVersionError
        When polars or the protocol differs.
    """
    ours = served()
    polars, protocol = request.headers.get(POLARS_HEADER), request.headers.get(PROTOCOL_HEADER)
    if polars is not None and polars != ours.polars:
        raise PlanVersionError(
            f"the plan was serialised by polars {polars[:_TOLD]}; this side runs polars {ours.polars}: "
            f'pip install "polars=={ours.polars}" where the query is written'
        )
    if protocol is not None and protocol != str(ours.protocol):
        raise PlanVersionError(
            f"the plan comes from a frazil of protocol {protocol[:_TOLD]}; this side speaks protocol {ours.protocol}: "
            f'pip install "frazil=={ours.frazil}" where the query is written'
        )


class TellVersions:
    """ASGI middleware that names the versions in the head of each answer under ``/v1`` to who is let in.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        told = {POLARS_HEADER: served().polars, PROTOCOL_HEADER: str(served().protocol)}
        self._headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and name them."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != _UNAUTHORIZED:
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        await self._app(scope, receive, telling)
