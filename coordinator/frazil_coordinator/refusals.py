"""Errors of requests that a coordinator can't serve; :mod:`frazil_coordinator.api.problems` makes problem documents."""

from __future__ import annotations

from frazil_functions.errors import PlanError, RequestError

__all__ = ["ForbiddenError", "NotPlannedError", "PlanTooLargeError", "QueueFullError", "ShuttingDownError"]


class PlanTooLargeError(PlanError):
    """The plan is larger than `Settings.max_plan_bytes`."""


class NotPlannedError(RequestError):
    """The query is still being planned, or was cancelled before it was."""


class ShuttingDownError(RequestError):
    """The coordinator accepts no queries any more."""


class ForbiddenError(RequestError):
    """The tenant, or the role of the token, has no right to it."""


class QueueFullError(RequestError):
    """As many queries of the tenant wait as may (`Tenant.max_queued_queries`)."""
