"""Why a coordinator does not take a query, or does not show its plan."""

from __future__ import annotations

from frazil_functions.errors import PlanError, RequestError

__all__ = ["NotPlannedError", "PlanTooLargeError", "ShuttingDownError"]


class PlanTooLargeError(PlanError):
    """The plan is larger than `Settings.max_plan_bytes`."""


class NotPlannedError(RequestError):
    """The query is still being planned, or was cancelled before it was."""


class ShuttingDownError(RequestError):
    """The coordinator accepts no queries any more."""
