"""The function side of Frazil: one task in, immutable objects out.

This package is the bottom layer and the whole content of the function image. It knows the task protocol
(:mod:`frazil_functions.task`), object storage (:mod:`frazil_functions.storage`), the exchange format
(:mod:`frazil_functions.exchange`) and how to run one task (:mod:`frazil_functions.run`). It plans nothing and
schedules nothing; that is ``frazil_coordinator``.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PROTOCOL_VERSION"]

PROTOCOL_VERSION: Final = 3
"""Version of the task protocol (docs/protocol.md). Both sides must agree, or the task is refused."""
