"""Errors of requests that a coordinator can't serve; :mod:`frazil_coordinator.api.problems` makes problem documents."""

from __future__ import annotations

from frazil_functions.errors import PlanError, RequestError

__all__ = [
    "AuthorityError",
    "ExpiredTokenError",
    "ForbiddenError",
    "InvalidTokenError",
    "NotPlannedError",
    "PlanTooLargeError",
    "QueueFullError",
    "RoleError",
    "ShuttingDownError",
    "TaskGoneError",
    "TaskNotReadyError",
    "UnauthorizedError",
    "UnknownTaskError",
    "UnknownTokenError",
]


class UnauthorizedError(RequestError):
    """No token, or a wrong one."""


class InvalidTokenError(UnauthorizedError):
    """A token that was made somewhere else, and is not good here and now; the message says why."""


class UnknownTokenError(InvalidTokenError):
    """A token that nobody vouches for who is known here."""


class ExpiredTokenError(InvalidTokenError):
    """A token that was good once."""


class AuthorityError(RequestError):
    """Who could tell whose a token is does not answer; ``where["retry_after_s"]`` says when to try again."""


class PlanTooLargeError(PlanError):
    """The plan is larger than `Settings.max_plan_bytes`."""


class NotPlannedError(RequestError):
    """The query is still being planned, or was cancelled before it was."""


class ShuttingDownError(RequestError):
    """The coordinator accepts no queries any more."""


class ForbiddenError(RequestError):
    """The tenant, or the role of the token, has no right to it."""


class RoleError(ForbiddenError):
    """The role of the token has no right to it."""


class QueueFullError(RequestError):
    """As many queries of the tenant wait as may (`Tenant.max_queued_queries`)."""


class UnknownTaskError(RequestError):
    """The query has no such stage, task or attempt."""


class TaskNotReadyError(RequestError):
    """What the task will be sent is not known yet: ask again."""


class TaskGoneError(RequestError):
    """What the task was sent, or what it read, is deleted."""
