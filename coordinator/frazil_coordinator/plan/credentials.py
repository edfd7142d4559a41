"""Whether a plan holds credentials of a store: then it is written down sealed, or not at all.

Scans that are cut into splits leave their options in the splits, which travel with events only; one that runs whole has them
in its fragment.
"""

from __future__ import annotations

from typing import Final

from frazil_functions.arena import Arena
from frazil_functions.scan_files import cloud_config

__all__ = ["holds_credentials"]

_WORDS: Final = ("secret", "token", "password", "sas", "key", "credential", "service_account")


def holds_credentials(plan: bytes) -> bool:
    """Return whether a scan of a plan has an option that is a secret, by its name.

    Raises
    ------
    PlanError
        When the bytes are not a plan.
    """
    arena = Arena.decode(plan)
    for number in arena.reachable():
        arguments = arena.payload(number).get("unified_scan_args") if arena.kind(number) == "Scan" else None
        options = arguments.get("cloud_options") if isinstance(arguments, dict) else None
        if any(word in name for name in cloud_config(options) for word in _WORDS):
            return True
    return False
