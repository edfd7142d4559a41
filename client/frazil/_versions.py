"""Which versions a coordinator serves, as far as its answers tell, and what to do when they are not those of this process.

Each answer under ``/v1`` names them in its head, so that a plan of another version is mostly not even sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
import polars as pl

from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import PlanVersionError

__all__ = ["OWN", "Served", "served_by"]

_POLARS: Final = "Frazil-Polars"
_PROTOCOL: Final = "Frazil-Protocol"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

OWN: Final[Mapping[str, str]] = {_POLARS: pl.__version__, _PROTOCOL: str(PROTOCOL_VERSION)}
"""Headers that name the versions of this process beside a plan."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What ``GET /v1/version`` answers."""

    polars: str
    protocol: int = PROTOCOL_VERSION
    frazil: str = ""

    @property
    def ours(self) -> bool:
        """Whether plans of this process are taken."""
        return self.polars == pl.__version__ and self.protocol == PROTOCOL_VERSION

    def error(self, url: str) -> PlanVersionError:
        """Return the error that says what differs from the coordinator at `url`, and what to install."""
        polars, protocol = self.polars, self.protocol
        if polars != pl.__version__:
            return PlanVersionError(
                f"this process runs polars {pl.__version__}, the coordinator at {url} polars {polars}: "
                f'both must be the same, e.g. by pip install "polars=={polars}"'
            )
        frazil = self.frazil and f', e.g. by pip install "frazil=={self.frazil}"'
        return PlanVersionError(
            f"this process speaks protocol {PROTOCOL_VERSION}, the coordinator at {url} protocol {protocol}: "
            f"install the frazil that it runs{frazil}"
        )


def served_by(headers: Mapping[str, str]) -> Served | None:
    """Return what the head of an answer says; None when it says nothing, or not in a form that is known."""
    polars, protocol = headers.get(_POLARS, ""), headers.get(_PROTOCOL, "")
    if not polars or _NUMBER.fullmatch(protocol) is None:
        return None
    return Served(polars=polars, protocol=int(protocol))
