"""Whose a token is that somebody else made: a signed one of an issuer (OpenID Connect), one of a Kubernetes cluster.

Given a token, the tenant and role that it stands for, or a refusal (docs/tenants.md). Asks issuers and cluster over HTTP,
and keeps what they answered for a while. Knows no request and no query: who calls it is
:mod:`frazil_coordinator.api.auth`. Begin with :mod:`frazil_coordinator.identity.identities`.
"""

from frazil_coordinator.identity.claims import Identity
from frazil_coordinator.identity.identities import Identities

__all__ = ["Identities", "Identity"]
