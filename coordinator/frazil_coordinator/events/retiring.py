"""What is left of a trigger that is dropped, or that became another one: its last output is finished, the rest deleted.

It blocks. :mod:`frazil_coordinator.events.triggers` calls it when nobody runs the trigger any more, and its definition says
so.
"""

from __future__ import annotations

import logging

from frazil_coordinator.events.log import TriggerLog
from frazil_coordinator.events.model import Owned
from frazil_coordinator.events.preparing import target_of
from frazil_coordinator.events.publishing import install
from frazil_coordinator.publication.publish import sink_store
from frazil_functions.errors import FrazilError

__all__ = ["retire"]

_LOGGER = logging.getLogger(__name__)


def retire(owned: Owned, log: TriggerLog) -> None:
    """Give the files of the last commit their names, and delete the log and what waits beside the output.

    What can't be done is logged: it costs space, and nothing else.
    """
    trigger = owned.trigger
    try:
        target = target_of(owned.plan)
        store = sink_store(target.sink.store, target.sink.cloud_options)
        last = log.load(trigger.since_unix_s).last
        if last is not None:
            install(store, last.output)
        store.delete_prefix(target.own_folder(trigger.id))
        log.delete()
    except FrazilError as error:
        _LOGGER.warning("not all is deleted of a trigger", extra={"trigger": trigger.name, "error": error.message})
