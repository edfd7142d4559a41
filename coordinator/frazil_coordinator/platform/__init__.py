"""Where functions run. :mod:`~frazil_coordinator.platform.base` is the interface; ``local`` and ``knative`` are two."""
