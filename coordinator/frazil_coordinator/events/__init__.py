"""Events and triggers: what happens in buckets makes stored queries run (docs/triggers.md).

:mod:`~frazil_coordinator.events.cloudevents` and :mod:`~frazil_coordinator.events.formats` read what producers send;
:mod:`~frazil_coordinator.events.model` says what a trigger is; :mod:`~frazil_coordinator.events.consumed`,
:mod:`~frazil_coordinator.events.backlog` and :mod:`~frazil_coordinator.events.state` decide, and do no I/O;
:mod:`~frazil_coordinator.events.log` keeps what was decided; :mod:`~frazil_coordinator.events.runner` does it, for each
trigger of :mod:`~frazil_coordinator.events.triggers`. Nothing here speaks HTTP to clients:
:mod:`frazil_coordinator.api.events` and :mod:`frazil_coordinator.api.triggers` do.
"""
