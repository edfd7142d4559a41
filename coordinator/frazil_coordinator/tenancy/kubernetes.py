"""Tokens of service accounts that a Kubernetes cluster knows, and whom they stand for here: values.

Who asks the cluster: :mod:`frazil_coordinator.identity.reviews`; which tables they come from:
:mod:`~frazil_coordinator.tenancy.trusted`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from frazil_coordinator.tenancy.issuers import check_seconds, check_texts, check_url
from frazil_coordinator.tenancy.roles import Role
from frazil_functions.errors import RequestError

__all__ = ["Binding", "Kubernetes"]

_ACCOUNT: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_IN_CLUSTER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod has its own token, and the authority of the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A service account, or a group of users, that acts for a tenant.

    Raises
    ------
    RequestError
        When it is neither, or both; the message begins with the name of the field.
    """

    service_account: str | None = None
    """``namespace:name``."""

    group: str | None = None
    """As Kubernetes names it: ``system:serviceaccounts:NAMESPACE`` are all accounts of a namespace."""

    tenant: str
    role: Role

    def __post_init__(self) -> None:
        if (self.service_account is None) == (self.group is None):
            raise RequestError("service_account or group is needed, and not both")
        if self.service_account is not None and _ACCOUNT.fullmatch(self.service_account) is None:
            raise RequestError(f"service_account must be 'namespace:name', not {self.service_account!r}")
        if self.group is not None:
            check_texts("group", (self.group,))

    def is_of(self, user: str, groups: tuple[str, ...]) -> bool:
        """Return whether it is about a user of Kubernetes."""
        if self.group is not None:
            return self.group in groups
        return user == f"system:serviceaccount:{self.service_account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """A cluster that is asked whose a token is (``TokenReview``), and whom its users stand for.

    Raises
    ------
    RequestError
        When a value is out of its range; the message begins with the name of the field.
    """

    audiences: tuple[str, ...]
    """One of these must be in the token: else one that was made for any other service would be good here."""

    bindings: tuple[Binding, ...]
    """The first one that is about a user counts."""

    issuer: str | None = None
    """Only tokens whose claim ``iss`` is this are sent to the cluster. None: those that no other issuer is known for."""

    api_url: str = "https://kubernetes.default.svc"
    """Of the API server."""

    token_file: str = f"{_IN_CLUSTER}/token"
    """The coordinator's own token, which must give a right to create ``tokenreviews``. Read for each question."""

    ca_file: str = f"{_IN_CLUSTER}/ca.crt"
    """PEM file of the authority that the API server's certificate is checked with."""

    cache_s: float = 30.0
    """Seconds for which an answer is kept, so a token that was taken back is good for; at most until it expires."""

    timeout_s: float = 5.0
    """Seconds that the API server may take to answer; above 0, at most 30."""

    def __post_init__(self) -> None:
        check_texts("audiences", self.audiences)
        if not self.bindings:
            raise RequestError("bindings [[kubernetes.bindings]] are needed: nobody could ask for anything")
        if self.issuer is not None:
            check_texts("issuer", (self.issuer,))
        check_url("api_url", self.api_url)
        check_seconds("cache_s", self.cache_s, 0.0, 600.0)
        check_seconds("timeout_s", self.timeout_s, 0.001, 30.0)
