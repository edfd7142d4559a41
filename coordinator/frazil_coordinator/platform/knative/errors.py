"""What the Kubernetes API refuses, as errors that say what to do.

::

    KubeError                     the API failed, or refused for another reason
    ├── NotFoundError             there is no such object, namespace or kind
    ├── ConflictError             another writer was first, or owns the fields
    ├── InvalidError              refused by validation: schema, strict decoding or an admission webhook
    ├── DeniedError               not allowed; names the verb that is missing
    ├── GoneError                 the version to resume from is too old: list again
    └── UnreachableError          no answer, or not who it should be

None of them is a task's or a query's: :class:`~frazil_functions.errors.PlatformError` is for what a task meets.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from frazil_functions.errors import FrazilError

__all__ = [
    "ConflictError",
    "DeniedError",
    "GoneError",
    "InvalidError",
    "KubeError",
    "NotFoundError",
    "UnreachableError",
    "error_of",
]

_DENIED: Final = re.compile(r'cannot (\S+) resource "(\S+)" in API group "(\S*)"')
_MOST: Final = 2000


class KubeError(FrazilError):
    """The Kubernetes API failed, or refused."""

    kind = "kube"

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 without an answer."""


class NotFoundError(KubeError):
    """There is no such object, namespace or kind."""

    kind = "kube_not_found"


class ConflictError(KubeError):
    """Another writer was first, or owns the fields: read again, or apply with force."""

    kind = "kube_conflict"


class InvalidError(KubeError):
    """The object is refused by its schema, by strict decoding, or by an admission webhook."""

    kind = "kube_invalid"


class DeniedError(KubeError):
    """The account may not do it."""

    kind = "kube_denied"

    def __init__(self, message: str, *, status: int = 403, verb: str = "", resource: str = "", group: str = "") -> None:
        super().__init__(message, status=status)
        self.verb, self.resource, self.group = verb, resource, group


class GoneError(KubeError):
    """The version to resume a watch from is forgotten: list again."""

    kind = "kube_gone"


class UnreachableError(KubeError):
    """The API does not answer, or is not who it should be."""

    kind = "kube_unreachable"


class Status(msgspec.Struct, frozen=True):
    """What the API says when it fails (``v1.Status``)."""

    message: str = ""
    reason: str = ""
    code: int = 0


def error_of(status: int, body: bytes) -> KubeError:
    """Return the error that an answer stands for.

    Parameters
    ----------
    status
        HTTP status, 400 or more.
    body
        A ``v1.Status``, or whatever a proxy says.
    """
    try:
        said = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, msgspec.ValidationError):
        said = Status(message=body.decode(errors="replace").strip()[:_MOST])
    words = said.message or said.reason or f"HTTP {status}"
    if status == 401:
        words = f"the Kubernetes API does not know who asks ({words}): the token is missing, expired or of another cluster"
        return DeniedError(words, status=status)
    if status == 403 and "admission webhook" not in words:
        return _denied(words, status)
    message = f"the Kubernetes API answered {status}: {words}"
    if status == 404:
        return NotFoundError(message, status=status)
    if status == 409:
        return ConflictError(message, status=status)
    if status == 410:
        return GoneError(message, status=status)
    if status in (400, 403, 422):
        return InvalidError(message, status=status)
    return KubeError(message, status=status)


def _denied(words: str, status: int) -> DeniedError:
    found = _DENIED.search(words)
    verb, resource, group = found.groups() if found else ("", "", "")
    what = f"the verb {verb} on {resource}{f'.{group}' if group else ''}" if found else "a right"
    return DeniedError(
        f"the account lacks {what}: {words}", status=status, verb=verb or "", resource=resource or "", group=group or ""
    )
